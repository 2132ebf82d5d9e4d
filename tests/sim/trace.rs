//! The last things that happened, printed when a run fails.

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

/// Everything that happened, in order.
#[derive(Default)]
pub struct Trace {
    lines: Vec<(u64, usize, Act)>,
}

impl Trace {
    /// Remembers one thing.
    pub fn note(&mut self, now: u64, cable: usize, act: Act) {
        self.lines.push((now, cable, act));
    }

    /// The last lines of the cables that `concerns` picks.
    pub fn tail(&self, concerns: impl Fn(usize) -> bool) -> String {
        let lines = self.lines.iter().rev().filter(|(_, cable, _)| concerns(*cable));
        let tail: Vec<String> = lines
            .take(LINES)
            .map(|(now, cable, act)| format!("{now:>8} ms  cable {cable:<3} {act}\n"))
            .collect();
        tail.into_iter().rev().collect()
    }
}

/// What does not hold, and whom it is about.
#[derive(Debug)]
pub struct Failure {
    /// One client, if it is about one.
    pub client: Option<usize>,
    /// What does not hold.
    pub why: String,
}

impl Failure {
    /// About one client.
    pub fn of(client: usize, why: String) -> Self {
        Self { client: Some(client), why: format!("client {client}: {why}") }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { client: None, why }
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
