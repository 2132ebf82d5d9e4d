//! Half close: what is left to do for one direction of a pipe, as a truth table.
//!
//! A FIN goes through as a FIN once everything before it has left; a dead reader makes what
//! comes for it worthless, but never what it still has to say (spec: protocol 9.3).

/// The facts about one direction, from a source end to a sink end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfState {
    /// The source has sent its FIN and we have read up to it.
    pub source_done: bool,
    /// Bytes for the sink are still with us.
    pub unsent: bool,
    /// Our FIN to the sink is out.
    pub sink_shut: bool,
    /// The sink takes nothing any more: a write to it has failed.
    pub sink_dead: bool,
}

/// What to do next in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Write what is unsent; read nothing before that.
    Flush,
    /// Read from the source and pass it on.
    Forward,
    /// Read from the source and throw it away, until its FIN.
    Discard,
    /// Send our FIN to the sink.
    Shut,
    /// Nothing: this direction is over.
    Done,
}

impl HalfState {
    /// The next deed.
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
    fn each_of_the_sixteen_rows_has_its_deed() {
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
        for (bits, deed) in rows {
            let direction = HalfState {
                source_done: bits & 8 != 0,
                unsent: bits & 4 != 0,
                sink_shut: bits & 2 != 0,
                sink_dead: bits & 1 != 0,
            };
            assert_eq!(direction.action(), deed, "{direction:?}");
        }
    }
}
