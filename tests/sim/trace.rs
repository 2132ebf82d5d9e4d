//! The last events of a run, printed when it fails.

use std::fmt;

use mtbox::io::readiness::Readiness;

/// An event of a link.
#[derive(Clone, Copy)]
pub enum Event {
    /// The daemon read this number of bytes; 0 = FIN, `None` = an error or no bytes.
    Read(Option<usize>),
    /// The daemon wrote this number of bytes; `None` = an error or no room.
    Write(Option<usize>),
    /// The daemon sent FIN.
    Shutdown,
    /// The daemon closed its end.
    Closed {
        /// With RST.
        reset: bool,
    },
    /// The daemon dials for this client.
    Dial(usize),
    /// A dial succeeded or failed.
    Connected(bool),
    /// The poller reported readiness.
    Ready(Readiness),
    /// This number of bytes arrived at an end that is closed.
    AfterClose(usize),
    /// The peer sent this number of bytes.
    PeerSent(usize),
    /// The peer received this number of bytes.
    PeerReceived(usize),
    /// The peer sent FIN.
    PeerFin,
    /// The peer sent RST.
    PeerReset,
}

/// All events of a run, in order.
#[derive(Default)]
pub struct Trace {
    lines: Vec<(u64, usize, Event)>,
}

impl Trace {
    /// Adds an event.
    pub fn push(&mut self, now: u64, link: usize, event: Event) {
        self.lines.push((now, link, event));
    }

    /// The last events of the links for which `is_relevant` holds.
    pub fn tail(&self, is_relevant: impl Fn(usize) -> bool) -> String {
        let lines = self.lines.iter().rev().filter(|(_, link, _)| is_relevant(*link));
        let tail: Vec<String> = lines
            .take(LINES)
            .map(|(now, link, event)| format!("{now:>8} ms  link {link:<3} {event}\n"))
            .collect();
        tail.into_iter().rev().collect()
    }
}

/// An invariant that does not hold.
#[derive(Debug)]
pub struct Failure {
    /// The client that it concerns, if it is only one.
    pub client: Option<usize>,
    /// What does not hold.
    pub why: String,
}

impl Failure {
    /// A failure of one client.
    pub fn of(client: usize, why: String) -> Self {
        Self { client: Some(client), why: format!("client {client}: {why}") }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { client: None, why }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(Some(0)) => write!(f, "read FIN"),
            Self::Read(Some(len)) => write!(f, "read {len}"),
            Self::Read(None) => write!(f, "read nothing"),
            Self::Write(Some(len)) => write!(f, "write {len}"),
            Self::Write(None) => write!(f, "write nothing"),
            Self::Shutdown => write!(f, "shut"),
            Self::Closed { reset: false } => write!(f, "close"),
            Self::Closed { reset: true } => write!(f, "close with RST"),
            Self::Dial(client) => write!(f, "dial for client {client}"),
            Self::Connected(true) => write!(f, "connected"),
            Self::Connected(false) => write!(f, "refused"),
            Self::Ready(ready) => {
                let word = |set: bool, word| if set { word } else { "" };
                let (readable, writable) =
                    (word(ready.readable, " in"), word(ready.writable, " out"));
                let (hup, broken) = (word(ready.hup, " hup"), word(ready.broken, " broken"));
                write!(f, "event{readable}{writable}{hup}{broken}")
            }
            Self::AfterClose(len) => write!(f, "{len} bytes arrive after close"),
            Self::PeerSent(len) => write!(f, "peer sends {len}"),
            Self::PeerReceived(len) => write!(f, "peer receives {len}"),
            Self::PeerFin => write!(f, "peer sends FIN"),
            Self::PeerReset => write!(f, "peer sends RST"),
        }
    }
}

const LINES: usize = 50;
