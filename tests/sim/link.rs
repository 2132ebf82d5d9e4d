//! One simulated connection of the daemon: two channels, and the state that a kernel keeps.

use std::io;
use std::net::SocketAddr;

use fastrand::Rng;
use mtbox::io::readiness::Readiness;

use crate::channel::Channel;
use crate::network::Faults;

/// The owner of a link that belongs to no client, such as that of a lookup.
pub const NO_CLIENT: usize = usize::MAX;

/// State of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectState {
    /// Ends at this time; `false` = it will be refused; `u64::MAX` = never ends.
    Connecting(u64, bool),
    /// Connected.
    Connected,
    /// Failed.
    Failed,
}

/// One connection between the daemon and a peer.
pub struct Link {
    /// The client that opened it or that it was dialled for, or [`NO_CLIENT`].
    pub client: usize,
    /// The dialled address; `None` = the client's own connection.
    pub dialled: Option<SocketAddr>,
    /// State of the connect.
    pub state: ConnectState,
    /// Peer to daemon.
    pub to_daemon: Channel,
    /// Daemon to peer.
    pub to_peer: Channel,
    /// The daemon has read the peer's FIN.
    pub fin_read: bool,
    /// When it has, in virtual milliseconds.
    pub fin_read_at: u64,
    /// The daemon has closed its end.
    pub closed: bool,
    /// The connection was reset, by either side.
    pub is_reset: bool,
    /// The peer had sent its FIN before it reset.
    pub fin_before_reset: bool,
    /// The reset came from the daemon.
    pub reset_by_daemon: bool,
    /// The peer's program has closed its end: later bytes for it cause a reset.
    pub peer_closed: bool,
    /// Calls of the daemon until the peer resets.
    pub reset_in: Option<u32>,
    /// The peer reads bytes as they arrive; else only in its own turn.
    pub reads_eagerly: bool,
    /// When a byte or a FIN moved last, in virtual milliseconds.
    pub last_activity: u64,
    /// When the daemon read or wrote a byte last.
    pub last_io: u64,
    /// When it was opened.
    pub opened_at: u64,
    /// When the daemon accepted it; `None` = it waits for accept(2), or the daemon dialled it.
    pub accepted_at: Option<u64>,
    /// When the daemon closed its end.
    pub closed_at: Option<u64>,
    /// When its client had got a valid answer.
    pub relayed_at: Option<u64>,
    /// Every byte that the daemon wrote.
    pub log: Vec<u8>,
    /// Bytes that the daemon had read when the drain began.
    pub read_at_drain: Option<u64>,
    /// It was closed before the drain began.
    pub closed_at_drain: bool,
    /// Bytes that had arrived unread when the daemon closed.
    pub unread: usize,
    /// Bytes that the peer's system delivered between two turns of the peer.
    pub peer_buffer: Vec<u8>,
    /// The token of its events.
    pub token: Option<usize>,
    /// The next poll reports an event.
    pub edge_pending: bool,
    /// A write was cut short: an edge follows when there is room again.
    pub write_blocked: bool,
    /// The error of the next call.
    pub error: Option<io::ErrorKind>,
    /// `SO_LINGER` with zero seconds is set.
    pub linger: bool,
}

impl Link {
    /// A new link. `windows` (to_daemon, to_peer) are in bytes; the first write finds room for
    /// `first_window` bytes.
    pub fn new(
        client: usize,
        dialled: Option<SocketAddr>,
        state: ConnectState,
        windows: [usize; 2],
        first_window: usize,
    ) -> Self {
        Self {
            client,
            dialled,
            state,
            to_daemon: Channel::new(windows[0], 0),
            to_peer: Channel::new(windows[1], first_window),
            fin_read: false,
            fin_read_at: 0,
            closed: false,
            is_reset: false,
            fin_before_reset: false,
            reset_by_daemon: false,
            peer_closed: false,
            reset_in: None,
            reads_eagerly: true,
            last_activity: 0,
            last_io: 0,
            opened_at: 0,
            accepted_at: None,
            closed_at: None,
            relayed_at: None,
            log: Vec::new(),
            read_at_drain: None,
            closed_at_drain: false,
            unread: 0,
            peer_buffer: Vec::new(),
            token: None,
            edge_pending: false,
            write_blocked: false,
            error: None,
            linger: false,
        }
    }

    /// The peer has read the daemon's FIN and everything before it.
    pub fn is_finished(&self) -> bool {
        self.to_peer.fin_arrived && self.to_peer.is_empty() && self.peer_buffer.is_empty()
    }

    /// When it next moves by itself, in virtual milliseconds.
    pub fn due(&self) -> Option<u64> {
        let dial = match self.state {
            ConnectState::Connecting(at, _) => (!self.closed && at < u64::MAX).then_some(at),
            _ => None,
        };
        [dial, self.to_daemon.due(), self.to_peer.due()].into_iter().flatten().min()
    }

    /// The peer can read without waiting.
    pub fn peer_can_read(&self) -> bool {
        self.to_peer.ready() > 0 || !self.peer_buffer.is_empty()
    }

    /// What epoll and mio report to the daemon.
    pub fn readiness(&self) -> Readiness {
        if let ConnectState::Connecting(..) = self.state {
            return Readiness::default();
        }
        let read_closed = self.to_daemon.fin_arrived || self.is_reset;
        let hung_up = self.is_reset || (self.to_daemon.fin_arrived && self.to_peer.fin);
        let error = self.error.is_some();
        let writable = self.to_peer.is_writable() || self.to_peer.fin || self.is_reset;
        Readiness {
            readable: self.to_daemon.ready() > 0 || read_closed,
            writable,
            hup: hung_up || read_closed || error,
            urgent: false,
            broken: error || hung_up,
        }
    }

    /// Resets: bytes in flight are lost, bytes that arrived can still be read.
    pub fn reset(&mut self, kind: io::ErrorKind) {
        self.fin_before_reset |= self.to_daemon.fin;
        self.is_reset = true;
        self.error = Some(kind);
        self.to_daemon.drop_in_flight();
        self.to_peer.drop_in_flight();
        (self.to_daemon.fin, self.to_daemon.fin_arrived) = (true, true);
        self.to_peer.fin_arrived = self.to_peer.fin;
    }

    /// Delays the next movement of a channel by a random part of the latency.
    pub fn delay_next(&mut self, now: u64, rng: &mut Rng, faults: &Faults, to_daemon: bool) {
        self.last_activity = now;
        let wait = if faults.latency_ms > 0 { rng.u64(0..=faults.latency_ms) } else { 0 };
        let channel = if to_daemon { &mut self.to_daemon } else { &mut self.to_peer };
        channel.moves_at = now + wait;
    }
}
