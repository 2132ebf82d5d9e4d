//! The simulated network: links between the daemon and its peers, virtual time, edge-triggered
//! readiness as epoll reports it, and faults drawn from the seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use fastrand::Rng;
use mtbox::daemon::session::key::SLOTS_PER_SESSION;
use mtbox::io::listen::{AcceptError, ListenAddr};
use mtbox::io::readiness::Readiness;

use crate::link::{ConnectState, Link, NO_CLIENT};
use crate::sockets::{DatagramPort, Listening, is_admin};
use crate::trace::{Event, Trace};

/// The network, shared by the daemon's sockets and the driver.
pub type SharedNetwork = Rc<RefCell<Network>>;

/// Faults of the network; probabilities in percent.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Bytes arrive in parts: short reads.
    pub partial_arrival: u32,
    /// A write is cut short, except the first one of a connection.
    pub short_write: u32,
    /// Readiness is reported without a cause.
    pub spurious_readiness: u32,
    /// The network makes progress between two calls within one turn of the daemon.
    pub concurrent_progress: u32,
    /// Bytes wait for up to this many milliseconds.
    pub latency_ms: u64,
    /// A dial is refused, unreachable or never answered. Addresses that end in 1 are exempt.
    pub bad_dials: u32,
    /// Dials take up to this many milliseconds.
    pub slow_dials_ms: u64,
    /// The machine takes up to this many microseconds between two readings of its clock.
    pub slow_us: u64,
    /// accept(2) fails although a connection waits.
    pub accept_errors: u32,
    /// Smallest and largest window in bytes.
    pub window: (usize, usize),
    /// The first write to a connection is accepted up to this size, whatever its window.
    pub first_window: usize,
    /// A defect of the network itself, to prove that the checks notice it.
    pub defect: Option<Defect>,
}

/// Defects that the checks must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// One byte for a client is lost.
    LoseByte,
    /// One byte for a client arrives twice.
    RepeatByte,
    /// Bytes of a server arrive without an event.
    DropEdges,
}

/// The network.
pub struct Network {
    /// Virtual milliseconds.
    pub now: u64,
    /// The latest reading of the clock within rounds.
    clock_us: u64,
    /// The only source of randomness.
    pub rng: Rng,
    /// The faults of this run.
    pub faults: Faults,
    /// Every connection of the run, open or not.
    pub links: Vec<Link>,
    /// The events of the run.
    pub trace: Trace,
    /// Actions of the daemon so far. A daemon that turns without actions is in a live-lock.
    pub actions: u64,
    /// Listeners of the daemon, open or not.
    pub listeners: Vec<Listening>,
    /// Datagram sockets of the daemon, open or not.
    pub datagrams: Vec<DatagramPort>,
    /// An error of accept(2) allows the daemon to leave connections waiting until this virtual
    /// millisecond.
    pub excused_until: u64,
    /// When the latest event was reported.
    pub last_event_at: Option<u64>,
    /// The sizes of the lists that a web server has sent whole.
    pub served_lists: BTreeSet<u64>,
    /// What the daemon has done that it must not do.
    pub violation: Option<String>,
    /// The client's link of each session.
    clients: BTreeMap<usize, usize>,
}

impl Network {
    /// An empty network.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let rng = Rng::with_seed(seed);
        Self {
            now: 0,
            clock_us: 0,
            rng,
            faults,
            links: Vec::new(),
            trace: Trace::default(),
            actions: 0,
            listeners: Vec::new(),
            datagrams: Vec::new(),
            excused_until: 0,
            last_event_at: None,
            served_lists: BTreeSet::new(),
            violation: None,
            clients: BTreeMap::new(),
        }
    }

    /// `true` with a probability of `percent`.
    pub fn happens(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// Adds a link of `client` and returns its id.
    pub fn add_link(
        &mut self,
        client: usize,
        dialled: Option<SocketAddr>,
        state: ConnectState,
    ) -> usize {
        let (least, most) = self.faults.window;
        let window = self.rng.usize(least..=most);
        let to_peer = self.rng.usize(least..=most);
        let first_window = self.faults.first_window;
        let mut link = Link::new(client, dialled, state, [window, to_peer], first_window);
        (link.opened_at, link.last_activity, link.last_io) = (self.now, self.now, self.now);
        self.links.push(link);
        self.links.len() - 1
    }

    /// Reports events of a link with `token`. Present readiness is an edge.
    pub fn register(&mut self, id: usize, token: usize) {
        self.links[id].token = Some(token);
        self.links[id].edge_pending = true;
        if self.links[id].dialled.is_none() {
            self.clients.insert(token / SLOTS_PER_SESSION, id);
        }
    }

    /// Reads the clock within a round, in microseconds.
    pub fn micros(&mut self) -> u64 {
        let slow = self.faults.slow_us;
        let passed = if slow > 0 { self.rng.u64(0..=slow) } else { 0 };
        self.clock_us = self.clock_us.max(self.now * 1_000) + passed;
        self.clock_us
    }

    /// The client whose session has this token.
    pub fn client_of(&self, token: usize) -> usize {
        let link = self.clients.get(&(token / SLOTS_PER_SESSION));
        link.map_or(NO_CLIENT, |id| self.links[*id].client)
    }

    /// Events of one poll: each edge once, in random order. Spurious ones only while the run is
    /// active, so that the network can become silent.
    pub fn events(&mut self, is_active: bool) -> Vec<(usize, Readiness)> {
        let mut events = Vec::new();
        for id in 0..self.links.len() {
            let can_be_spurious = is_active && !self.links[id].closed;
            let is_spurious = can_be_spurious && self.happens(self.faults.spurious_readiness);
            let extra = (is_spurious && self.rng.bool(), is_spurious && self.rng.bool());
            let link = &mut self.links[id];
            let Some(token) = link.token.filter(|_| !link.closed) else { continue };
            if self.faults.defect == Some(Defect::DropEdges)
                && link.dialled.is_some()
                && link.to_daemon.written > DEFECT_AFTER
            {
                link.edge_pending = false;
                continue;
            }
            let mut ready = Readiness::default();
            if std::mem::take(&mut link.edge_pending) || is_spurious {
                ready = link.readiness();
                ready.readable |= extra.0;
                ready.writable |= extra.1;
            }
            if ready != Readiness::default() {
                self.trace.push(self.now, id, Event::Ready(ready));
                events.push((token, ready));
            }
        }
        for listener in self.listeners.iter_mut().filter(|listener| !listener.closed) {
            if std::mem::take(&mut listener.edge_pending) {
                events.push((listener.token, READABLE));
            }
        }
        for port in self.datagrams.iter_mut().filter(|port| !port.closed) {
            if let (true, Some(token)) = (std::mem::take(&mut port.edge_pending), port.token) {
                events.push((token, READABLE));
            }
        }
        self.rng.shuffle(&mut events);
        events
    }

    /// An edge waits for the next poll.
    pub fn has_edge(&self) -> bool {
        self.links.iter().any(|c| c.edge_pending && c.token.is_some() && !c.closed)
            || self.listeners.iter().any(|listener| listener.edge_pending && !listener.closed)
            || self.datagrams.iter().any(|port| port.edge_pending && !port.closed)
    }

    /// A client waits for accept(2).
    pub fn has_waiting_client(&self) -> bool {
        let waits = |one: &Listening| !one.backlog.is_empty() && !is_admin(&one.endpoint);
        self.listeners.iter().any(waits)
    }

    /// Lets every link progress; `true` = something moved.
    pub fn advance_all(&mut self) -> bool {
        let now = self.now;
        let ports = self.datagrams.iter_mut().filter(|port| !port.closed);
        let arrived = ports.fold(false, |any, port| port.arrive(now) | any);
        (0..self.links.len()).fold(arrived, |any, id| self.advance(id) | any)
    }

    /// When a link next moves by itself, in virtual milliseconds.
    pub fn due(&self) -> Option<u64> {
        let dues = self.links.iter().filter_map(Link::due);
        dues.chain(self.datagrams.iter().filter_map(DatagramPort::due)).min()
    }

    /// The part of [`Self::advance_all`] for one link.
    fn advance(&mut self, id: usize) -> bool {
        let Self { now, rng, faults, links, trace, .. } = self;
        let (now, link) = (*now, &mut links[id]);
        let mut any = false;
        if let ConnectState::Connecting(at, good) = link.state {
            if now < at || link.closed {
                return false;
            }
            link.state = if good { ConnectState::Connected } else { ConnectState::Failed };
            link.last_activity = now;
            if !good {
                link.reset(io::ErrorKind::ConnectionRefused);
            }
            link.edge_pending = true;
            trace.push(now, id, Event::Connected(good));
            any = true;
        }
        if link.to_daemon.is_due(now) {
            let fin = link.to_daemon.fin_arrived;
            let arrived = link.to_daemon.arrive(rng, faults.partial_arrival);
            any |= arrived > 0 || link.to_daemon.fin_arrived != fin;
            link.edge_pending |= any;
            link.delay_next(now, rng, faults, true);
            if link.closed && arrived > 0 && !link.is_reset {
                // Linux answers bytes for a closed socket with RST.
                trace.push(now, id, Event::AfterClose(arrived));
                link.reset(io::ErrorKind::ConnectionReset);
                link.reset_by_daemon = true;
            }
        }
        if link.to_peer.is_due(now) {
            let fin = link.to_peer.fin_arrived;
            if link.dialled.is_none() && link.to_peer.written > DEFECT_AFTER {
                link.to_peer.corrupt(&mut faults.defect);
            }
            let arrived = link.to_peer.arrive(rng, faults.partial_arrival);
            any |= arrived > 0 || link.to_peer.fin_arrived != fin;
            link.delay_next(now, rng, faults, false);
            if link.peer_closed && arrived > 0 {
                trace.push(now, id, Event::AfterClose(arrived));
                link.reset(io::ErrorKind::ConnectionReset);
                link.edge_pending = true;
            }
        }
        if link.write_blocked && link.to_peer.is_writable() {
            link.write_blocked = false;
            link.edge_pending = true;
            any = true;
        }
        any
    }

    /// Lets the network progress between two calls of the daemon.
    fn progress_between_calls(&mut self, id: usize) {
        if let Some(reset_in) = &mut self.links[id].reset_in {
            *reset_in = reset_in.saturating_sub(1);
            if *reset_in == 0 {
                self.peer_reset(id);
            }
        }
        if self.faults.concurrent_progress > 0 && self.happens(self.faults.concurrent_progress) {
            self.advance(id);
            let link = &mut self.links[id];
            if link.reads_eagerly && !link.is_reset {
                let bytes = link.to_peer.read(usize::MAX);
                link.peer_buffer.extend(bytes);
                self.advance(id);
            }
        }
    }

    // Calls of peers.

    /// Connects to one of the daemon's listeners that `is_wanted` selects. Refused if there is
    /// none: then the link is closed and reset.
    pub fn connect(
        &mut self,
        client: usize,
        from: SocketAddr,
        is_wanted: impl Fn(&ListenAddr) -> bool,
    ) -> usize {
        let open = |(_, one): &(usize, &Listening)| !one.closed && is_wanted(&one.endpoint);
        let open: Vec<usize> =
            self.listeners.iter().enumerate().filter(open).map(|(at, _)| at).collect();
        let id = self.add_link(client, None, ConnectState::Connected);
        match open.is_empty() {
            true => self.refuse(id),
            false => {
                let listener = &mut self.listeners[open[self.rng.usize(0..open.len())]];
                listener.backlog.push_back((id, from));
                listener.edge_pending = true;
            }
        }
        id
    }

    /// The daemon's system resets a connection that was not accepted.
    fn refuse(&mut self, id: usize) {
        let link = &mut self.links[id];
        link.reset(io::ErrorKind::ConnectionRefused);
        (link.reset_by_daemon, link.closed, link.closed_at) = (true, true, Some(self.now));
    }

    /// Sends what fits and returns its length.
    pub fn peer_write(&mut self, id: usize, bytes: &[u8]) -> usize {
        let (now, link) = (self.now, &mut self.links[id]);
        if link.is_reset {
            return bytes.len();
        }
        let len = link.to_daemon.write(bytes);
        if len > 0 {
            link.last_activity = now;
            self.trace.push(now, id, Event::PeerSent(len));
        }
        len
    }

    /// Reads at most `most` bytes, and what was delivered between the peer's turns.
    pub fn peer_read(&mut self, id: usize, most: usize) -> Vec<u8> {
        let (now, link) = (self.now, &mut self.links[id]);
        let mut bytes = std::mem::take(&mut link.peer_buffer);
        bytes.extend(link.to_peer.read(most));
        if !bytes.is_empty() {
            link.last_activity = now;
            self.trace.push(now, id, Event::PeerReceived(bytes.len()));
        }
        bytes
    }

    /// Sends FIN.
    pub fn peer_fin(&mut self, id: usize) {
        self.links[id].to_daemon.fin = true;
        self.links[id].last_activity = self.now;
        self.trace.push(self.now, id, Event::PeerFin);
    }

    /// Resets. Bytes in flight may still arrive before the reset.
    pub fn peer_reset(&mut self, id: usize) {
        let (now, rng, link) = (self.now, &mut self.rng, &mut self.links[id]);
        link.reset_in = None;
        if link.is_reset || link.closed {
            return;
        }
        if rng.bool() {
            link.to_daemon.arrive(rng, 0);
        }
        link.reset(io::ErrorKind::ConnectionReset);
        link.to_peer.clear();
        link.edge_pending = true;
        link.last_activity = now;
        self.trace.push(now, id, Event::PeerReset);
    }

    // Calls of the daemon.

    /// accept(2).
    pub fn accept(&mut self, at: usize) -> Result<Option<(usize, SocketAddr)>, AcceptError> {
        self.actions += 1;
        if !self.listeners[at].backlog.is_empty() && self.happens(self.faults.accept_errors) {
            let error = io::ErrorKind::Other.into();
            let (pause, error) = match self.rng.u32(0..3) {
                0 => (0, AcceptError::Transient),
                1 => (100, AcceptError::Exhausted(error)),
                _ => (1_000, AcceptError::Broken(error)),
            };
            self.excused_until = self.excused_until.max(self.now + pause);
            return Err(error);
        }
        let next = self.listeners[at].backlog.pop_front();
        if let Some((id, _)) = next {
            self.links[id].accepted_at = Some(self.now);
        }
        Ok(next)
    }

    /// close(2) of a listener: the connections that wait there are reset.
    pub fn close_listener(&mut self, at: usize) {
        self.listeners[at].closed = true;
        while let Some((id, _)) = self.listeners[at].backlog.pop_front() {
            self.refuse(id);
        }
    }

    /// sendto(2).
    pub fn send(&mut self, at: usize, packet: &[u8]) -> io::Result<usize> {
        self.actions += 1;
        self.datagrams[at].sent.push_back(packet.to_vec());
        Ok(packet.len())
    }

    /// recvfrom(2).
    pub fn receive(&mut self, at: usize, into: &mut [u8]) -> io::Result<usize> {
        let packet = self.datagrams[at].arrived.pop_front();
        let packet = packet.ok_or(io::ErrorKind::WouldBlock)?;
        self.actions += 1;
        let len = packet.len().min(into.len());
        into[..len].copy_from_slice(&packet[..len]);
        Ok(len)
    }

    /// readv(2).
    pub fn read(&mut self, id: usize, into: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        self.progress_between_calls(id);
        let now = self.now;
        let link = &mut self.links[id];
        let room = into.iter().map(|slice| slice.len()).sum();
        let bytes = link.to_daemon.read(room);
        let outcome = if !bytes.is_empty() {
            let mut rest = &bytes[..];
            for slice in into {
                let (part, after) = rest.split_at(slice.len().min(rest.len()));
                slice[..part.len()].copy_from_slice(part);
                rest = after;
            }
            (link.last_activity, link.last_io) = (now, now);
            Ok(bytes.len())
        } else if let Some(kind) = link.error.take() {
            Err(kind.into())
        } else if link.is_reset || link.to_daemon.fin_arrived {
            if !std::mem::replace(&mut link.fin_read, true) {
                self.actions += 1;
                link.fin_read_at = now;
            }
            link.last_activity = now;
            Ok(0)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        self.actions += u64::from(is_action(&outcome));
        self.trace.push(now, id, Event::Read(outcome.as_ref().ok().copied()));
        self.progress_between_calls(id);
        outcome
    }

    /// writev(2).
    pub fn write(&mut self, id: usize, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.progress_between_calls(id);
        let is_first =
            self.links[id].to_peer.written == 0 || self.links[id].to_peer.is_in_handshake;
        let short = !is_first && self.happens(self.faults.short_write);
        let (now, rng, link) = (self.now, &mut self.rng, &mut self.links[id]);
        let bytes = from.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        let outcome = if let Some(kind) = link.error.take() {
            Err(kind.into())
        } else if link.is_reset || link.to_peer.fin || link.state != ConnectState::Connected {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            let fits = if short { rng.usize(0..=bytes.len()) } else { bytes.len() };
            let len = link.to_peer.write(&bytes[..fits]);
            link.write_blocked |= len < bytes.len();
            if len > 0 {
                (link.last_activity, link.last_io) = (now, now);
                link.log.extend(&bytes[..len]);
                Ok(len)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        };
        self.actions += u64::from(is_action(&outcome));
        self.trace.push(now, id, Event::Write(outcome.as_ref().ok().copied()));
        self.progress_between_calls(id);
        outcome
    }

    /// shutdown(2) of the sending half.
    pub fn shutdown_write(&mut self, id: usize) -> io::Result<()> {
        self.trace.push(self.now, id, Event::Shutdown);
        self.actions += 1;
        let link = &mut self.links[id];
        link.last_activity = self.now;
        link.to_peer.fin = true;
        // Both halves are closed now, which epoll reports.
        link.edge_pending |= link.to_daemon.fin_arrived;
        if link.is_reset { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    /// `SO_LINGER` with zero seconds.
    pub fn reset_on_close(&mut self, id: usize) {
        self.links[id].linger = true;
    }

    /// Bytes that have not arrived at the peer's system.
    pub fn unacknowledged(&self, id: usize) -> u32 {
        self.links[id].to_peer.in_flight() as u32
    }

    /// `SO_ERROR` and getpeername(2) of a connect.
    pub fn poll_connect(&mut self, id: usize) -> Poll<io::Result<()>> {
        self.actions += 1;
        let link = &mut self.links[id];
        match (link.error.take(), link.state) {
            (Some(kind), _) => Poll::Ready(Err(kind.into())),
            (None, ConnectState::Failed) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            (None, ConnectState::Connected) => Poll::Ready(Ok(())),
            (None, _) => Poll::Pending,
        }
    }

    /// close(2): a reset when bytes are unread, as Linux does.
    pub fn close(&mut self, id: usize) {
        let (now, link) = (self.now, &mut self.links[id]);
        self.actions += 1;
        (link.closed, link.closed_at) = (true, Some(now));
        link.unread = link.to_daemon.ready();
        let unread = link.unread > 0;
        self.trace.push(now, id, Event::Closed { reset: link.linger || unread });
        if link.is_reset || link.state != ConnectState::Connected {
            return;
        }
        if link.linger || unread {
            link.reset_by_daemon = true;
            link.to_peer.drop_in_flight();
            link.reset(io::ErrorKind::ConnectionReset);
        } else {
            link.to_peer.fin = true;
        }
    }
}

/// A live-lock can read FIN or nothing again and again, so these do not count.
fn is_action(outcome: &io::Result<usize>) -> bool {
    outcome.as_ref().map_or_else(|e| e.kind() != io::ErrorKind::WouldBlock, |len| *len > 0)
}

/// Defects begin when the handshake is over: bytes of a link.
const DEFECT_AFTER: u64 = 9_000;
const READABLE: Readiness =
    Readiness { readable: true, writable: false, hup: false, urgent: false, broken: false };
