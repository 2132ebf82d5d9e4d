//! One simulated connection of the daemon with a peer: two lanes, and what a kernel knows of it.

use std::io;
use std::net::SocketAddr;

use fastrand::Rng;
use mtbox::daemon::session::Readiness;

use crate::hub::Faults;
use crate::lane::Lane;

/// How far a connect has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Under way until then; `false` = it will be refused; `u64::MAX` = for ever.
    Dialing(u64, bool),
    /// Connected.
    Up,
    /// Failed.
    Failed,
}

/// One connection of the daemon with a peer.
pub struct Cable {
    /// Which client this is, or is for.
    pub client: usize,
    /// The address dialled; `None` = the client's own connection.
    pub dialled: Option<SocketAddr>,
    /// How far the connect has come.
    pub link: Link,
    /// Peer to daemon.
    pub inward: Lane,
    /// Daemon to peer.
    pub outward: Lane,
    /// The daemon knows that the peer has finished.
    pub fin_read: bool,
    /// The daemon has closed its end.
    pub closed: bool,
    /// The connection was reset, by whomever.
    pub broken: bool,
    /// The peer had sent its FIN before it reset.
    pub finished_first: bool,
    /// The reset came from the daemon.
    pub reset_by_daemon: bool,
    /// The peer's program has closed its end: what comes for it makes a reset.
    pub peer_closed: bool,
    /// Calls of the daemon until the peer resets.
    pub doom: Option<u32>,
    /// The peer reads as fast as bytes come; else only when it asks.
    pub eager: bool,
    /// When a byte or a FIN moved last.
    pub moved: u64,
    /// When the daemon read or wrote a byte last.
    pub served: u64,
    /// When it was made.
    pub born: u64,
    /// Everything that the daemon wrote.
    pub log: Vec<u8>,
    /// Bytes that the daemon had read when it was told to leave.
    pub taken_at_drain: Option<u64>,
    /// It was closed before the daemon began to leave.
    pub gone_at_drain: bool,
    /// Bytes that had arrived and that the daemon had not read when it closed.
    pub unread: usize,
    /// What the peer's program has taken in advance.
    pub mailbox: Vec<u8>,
    /// Where the daemon wants its events.
    pub token: Option<usize>,
    /// The next poll reports it.
    pub edge: bool,
    /// A write was not taken whole: an edge follows when there is room again.
    pub wants_room: bool,
    /// What the next call reports.
    pub error: Option<io::ErrorKind>,
    /// `SO_LINGER` with zero seconds is set.
    pub linger: bool,
}

impl Cable {
    /// A fresh cable. `windows` (inward, outward) are the windows in bytes;
    /// the first write finds `fresh` bytes of room.
    pub fn new(
        client: usize,
        dialled: Option<SocketAddr>,
        link: Link,
        windows: [usize; 2],
        fresh: usize,
    ) -> Self {
        Self {
            client,
            dialled,
            link,
            inward: Lane::new(windows[0], 0),
            outward: Lane::new(windows[1], fresh),
            fin_read: false,
            closed: false,
            broken: false,
            finished_first: false,
            reset_by_daemon: false,
            peer_closed: false,
            doom: None,
            eager: true,
            moved: 0,
            served: 0,
            born: 0,
            log: Vec::new(),
            taken_at_drain: None,
            gone_at_drain: false,
            unread: 0,
            mailbox: Vec::new(),
            token: None,
            edge: false,
            wants_room: false,
            error: None,
            linger: false,
        }
    }

    /// The peer's view: the daemon's FIN and everything before it has been taken.
    pub fn is_finished(&self) -> bool {
        self.outward.fin_arrived && self.outward.is_empty() && self.mailbox.is_empty()
    }

    /// The peer's view: what can be read without waiting.
    pub fn has_mail(&self) -> bool {
        self.outward.ready() > 0 || !self.mailbox.is_empty()
    }

    /// The daemon's view, as epoll and mio put it.
    pub fn readiness(&self) -> Readiness {
        if let Link::Dialing(..) = self.link {
            return Readiness::default();
        }
        let read_closed = self.inward.fin_arrived || self.broken;
        let hung_up = self.broken || (self.inward.fin_arrived && self.outward.fin);
        let error = self.error.is_some();
        let writable = self.outward.is_writable() || self.outward.fin || self.broken;
        Readiness {
            readable: self.inward.ready() > 0 || read_closed,
            writable,
            hup: hung_up || read_closed || error,
            broken: error || hung_up,
        }
    }

    /// Reset: what is on the way is lost, what arrived can still be read.
    pub fn break_down(&mut self, kind: io::ErrorKind) {
        self.finished_first |= self.inward.fin;
        self.broken = true;
        self.error = Some(kind);
        self.inward.cut();
        self.outward.cut();
        (self.inward.fin, self.inward.fin_arrived) = (true, true);
        self.outward.fin_arrived = self.outward.fin;
    }

    /// After a movement the next one may have to wait.
    pub fn rest(&mut self, now: u64, rng: &mut Rng, faults: &Faults, inward: bool) {
        self.moved = now;
        let wait = if faults.latency_ms > 0 { rng.u64(0..=faults.latency_ms) } else { 0 };
        let lane = if inward { &mut self.inward } else { &mut self.outward };
        lane.resumes = now + wait;
    }
}
