//! Half-close of a relay: the next action for one direction, as a truth table.
//!
//! A FIN is forwarded as a FIN after all bytes before it. If writes to one peer fail, bytes for
//! that peer are discarded, but bytes from it are still forwarded (PROTOCOL 9.3).

/// State of one direction, from a source to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfState {
    /// The source has sent its FIN, and all bytes before it have been read.
    pub source_done: bool,
    /// Bytes for the sink have been read but not written yet.
    pub unsent: bool,
    /// A FIN has been sent to the sink.
    pub sink_shut: bool,
    /// A write to the sink has failed, so the sink accepts nothing more.
    pub sink_dead: bool,
}

/// The next action for one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Write the unsent bytes; do not read before that.
    Flush,
    /// Read from the source and write to the sink.
    Forward,
    /// Read from the source and discard the bytes, until its FIN.
    Discard,
    /// Send a FIN to the sink.
    Shut,
    /// Nothing: this direction has ended.
    Done,
}

impl HalfState {
    /// The next action.
    pub fn action(self) -> Action {
        match self {
            Self { sink_dead: true, source_done: false, .. } => Action::Discard,
            Self { sink_dead: true, .. } => Action::Done,
            Self { sink_shut: true, .. } => Action::Done,
            Self { unsent: true, .. } => Action::Flush,
            Self { source_done: true, .. } => Action::Shut,
            _ => Action::Forward,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_sixteen_rows_has_its_action() {
        use Action::*;
        let rows = [
            // source_done, unsent, sink_shut, sink_dead
            (0b0000, Forward),
            (0b0001, Discard),
            (0b0010, Done),
            (0b0011, Discard),
            (0b0100, Flush),
            (0b0101, Discard),
            (0b0110, Done),
            (0b0111, Discard),
            (0b1000, Shut),
            (0b1001, Done),
            (0b1010, Done),
            (0b1011, Done),
            (0b1100, Flush),
            (0b1101, Done),
            (0b1110, Done),
            (0b1111, Done),
        ];
        for (bits, action) in rows {
            let direction = HalfState {
                source_done: bits & 8 != 0,
                unsent: bits & 4 != 0,
                sink_shut: bits & 2 != 0,
                sink_dead: bits & 1 != 0,
            };
            assert_eq!(direction.action(), action, "{direction:?}");
        }
    }
}
