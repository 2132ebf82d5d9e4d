//! The last things that happened, printed when a run fails.

use std::collections::VecDeque;
use std::fmt;

use mtbox::daemon::session::Readiness;

/// What happened on a cable. Peers act on one end, the daemon on the other.
#[derive(Clone, Copy)]
pub enum Act {
    /// The daemon read so many bytes; 0 = FIN, `None` = an error or nothing there.
    Read(Option<usize>),
    /// The daemon wrote so many bytes; `None` = an error or no room.
    Write(Option<usize>),
    /// The daemon sent FIN.
    Shut,
    /// The daemon closed its end, perhaps with RST.
    Closed {
        /// With RST.
        reset: bool,
    },
    /// The daemon dials for this client.
    Dial(usize),
    /// A dial came to its end, good or not.
    Linked(bool),
    /// The poller reported this.
    Event(Readiness),
    /// Bytes came for an end that is closed.
    Late(usize),
    /// The peer sent bytes.
    PeerSent(usize),
    /// The peer took bytes.
    PeerTook(usize),
    /// The peer sent FIN.
    PeerFin,
    /// The peer sent RST.
    PeerReset,
}

/// A ring of lines.
#[derive(Default)]
pub struct Trace {
    lines: VecDeque<(u64, usize, Act)>,
}

impl Trace {
    /// Remembers one thing.
    pub fn note(&mut self, now: u64, cable: usize, act: Act) {
        if self.lines.len() >= LINES {
            self.lines.pop_front();
        }
        self.lines.push_back((now, cable, act));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (now, cable, act) in &self.lines {
            writeln!(f, "{now:>8} ms  cable {cable:<3} {act}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(Some(0)) => write!(f, "read FIN"),
            Self::Read(Some(len)) => write!(f, "read {len}"),
            Self::Read(None) => write!(f, "read nothing"),
            Self::Write(Some(len)) => write!(f, "write {len}"),
            Self::Write(None) => write!(f, "write nothing"),
            Self::Shut => write!(f, "shut"),
            Self::Closed { reset: false } => write!(f, "close"),
            Self::Closed { reset: true } => write!(f, "close with RST"),
            Self::Dial(client) => write!(f, "dial for client {client}"),
            Self::Linked(true) => write!(f, "connected"),
            Self::Linked(false) => write!(f, "refused"),
            Self::Event(ready) => {
                let word = |set: bool, word| if set { word } else { "" };
                let (readable, writable) =
                    (word(ready.readable, " in"), word(ready.writable, " out"));
                let (hup, broken) = (word(ready.hup, " hup"), word(ready.broken, " broken"));
                write!(f, "event{readable}{writable}{hup}{broken}")
            }
            Self::Late(len) => write!(f, "{len} bytes come too late"),
            Self::PeerSent(len) => write!(f, "peer sends {len}"),
            Self::PeerTook(len) => write!(f, "peer takes {len}"),
            Self::PeerFin => write!(f, "peer sends FIN"),
            Self::PeerReset => write!(f, "peer sends RST"),
        }
    }
}

const LINES: usize = 50;
