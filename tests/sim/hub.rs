//! The simulated network: cables between the daemon and its peers, virtual time, edge-triggered
//! readiness as epoll reports it, and faults drawn from the seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use fastrand::Rng;
use mtbox::daemon::SLOTS_PER_SESSION;
use mtbox::daemon::session::Readiness;

use crate::cable::{Cable, Link};
use crate::trace::{Act, Trace};

/// Everybody's handle on the network.
pub type Shared = Rc<RefCell<Hub>>;

/// How bad the network is; chances in percent.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Bytes arrive in parts: short reads.
    pub dribble: u32,
    /// A write takes less than there is room for, except the first one of a connection.
    pub short_write: u32,
    /// Readiness is reported where there is none.
    pub lies: u32,
    /// The network moves while the daemon is between two calls of one turn.
    pub hurry: u32,
    /// Bytes wait for up to this many milliseconds.
    pub latency_ms: u64,
    /// A dial fails: refused, unreachable, or never answered. The last octet 1 never does.
    pub bad_dials: u32,
    /// Dials take up to this many milliseconds.
    pub slow_dials_ms: u64,
    /// Least and most bytes of a window.
    pub window: (usize, usize),
    /// The first write to a connection is taken up to this much, whatever its window.
    pub first_window: usize,
    /// A fault that no network may have, to prove that it is noticed.
    pub sabotage: Option<Sabotage>,
}

/// What the checks must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// One byte for a client is lost.
    LoseByte,
    /// One byte for a client comes twice.
    RepeatByte,
    /// Bytes come from a server, and the poller never says so.
    SwallowEdges,
}

/// The network.
pub struct Hub {
    /// Virtual milliseconds.
    pub now: u64,
    /// The source of every chance.
    pub rng: Rng,
    /// How bad it is.
    pub faults: Faults,
    /// Every connection that ever was.
    pub cables: Vec<Cable>,
    /// What happened lately.
    pub trace: Trace,
    /// Things that the daemon has done: how a live-lock is told from work.
    pub deeds: u64,
    /// The client's cable of each session.
    clients: BTreeMap<usize, usize>,
}

impl Hub {
    /// An empty network.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let rng = Rng::with_seed(seed);
        let (cables, trace, clients) = (Vec::new(), Trace::default(), BTreeMap::new());
        Self { now: 0, rng, faults, cables, trace, deeds: 0, clients }
    }

    /// True in `percent` of the cases.
    pub fn odds(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// A new cable of `client`.
    pub fn plug(&mut self, client: usize, dialled: Option<SocketAddr>, link: Link) -> usize {
        let (least, most) = self.faults.window;
        let window = self.rng.usize(least..=most);
        let outward = self.rng.usize(least..=most);
        let fresh = self.faults.first_window;
        let mut cable = Cable::new(client, dialled, link, [window, outward], fresh);
        (cable.born, cable.moved, cable.served) = (self.now, self.now, self.now);
        self.cables.push(cable);
        self.cables.len() - 1
    }

    /// Events for a cable come with `token`; whatever is ready already is an edge.
    pub fn register(&mut self, id: usize, token: usize) {
        self.cables[id].token = Some(token);
        self.cables[id].edge = true;
        if self.cables[id].dialled.is_none() {
            self.clients.insert(token / SLOTS_PER_SESSION, id);
        }
    }

    /// The client whose session has this token.
    pub fn client_of(&self, token: usize) -> usize {
        self.clients.get(&(token / SLOTS_PER_SESSION)).map_or(0, |id| self.cables[*id].client)
    }

    /// What the poller reports now: each edge once, in any order. Lies only while something is
    /// going on, so that a silence can be one.
    pub fn events(&mut self, is_lively: bool) -> Vec<(usize, Readiness)> {
        let mut events = Vec::new();
        for id in 0..self.cables.len() {
            let can_lie = is_lively && !self.cables[id].closed;
            let lie = can_lie && self.odds(self.faults.lies);
            let fibs = (lie && self.rng.bool(), lie && self.rng.bool());
            let cable = &mut self.cables[id];
            let Some(token) = cable.token.filter(|_| !cable.closed) else { continue };
            if self.faults.sabotage == Some(Sabotage::SwallowEdges)
                && cable.dialled.is_some()
                && cable.inward.put > SABOTAGE_AFTER
            {
                cable.edge = false;
                continue;
            }
            let mut ready = Readiness::default();
            if std::mem::take(&mut cable.edge) || lie {
                ready = cable.readiness();
                ready.readable |= fibs.0;
                ready.writable |= fibs.1;
            }
            if ready != Readiness::default() {
                self.trace.note(self.now, id, Act::Event(ready));
                events.push((token, ready));
            }
        }
        self.rng.shuffle(&mut events);
        events
    }

    /// Whether an edge waits for the next poll.
    pub fn has_edge(&self) -> bool {
        self.cables.iter().any(|c| c.edge && c.token.is_some() && !c.closed)
    }

    /// Moves whatever can move now. `true` = something did.
    pub fn stir(&mut self) -> bool {
        (0..self.cables.len()).fold(false, |any, id| self.advance(id) | any)
    }

    /// When something moves by itself.
    pub fn due(&self) -> Option<u64> {
        let dues = self.cables.iter().filter_map(|cable| {
            let dial = match cable.link {
                Link::Dialing(at, _) => (!cable.closed && at < u64::MAX).then_some(at),
                _ => None,
            };
            [dial, cable.inward.due(), cable.outward.due()].into_iter().flatten().min()
        });
        dues.min()
    }

    /// One cable's share of [`Self::stir`].
    fn advance(&mut self, id: usize) -> bool {
        let Self { now, rng, faults, cables, trace, .. } = self;
        let (now, cable) = (*now, &mut cables[id]);
        let mut any = false;
        if let Link::Dialing(at, good) = cable.link {
            if now < at || cable.closed {
                return false;
            }
            cable.link = if good { Link::Up } else { Link::Failed };
            cable.moved = now;
            if !good {
                cable.break_down(io::ErrorKind::ConnectionRefused);
            }
            cable.edge = true;
            trace.note(now, id, Act::Linked(good));
            any = true;
        }
        if cable.inward.is_moving(now) {
            let fin = cable.inward.fin_arrived;
            let came = cable.inward.arrive(rng, faults.dribble);
            any |= came > 0 || cable.inward.fin_arrived != fin;
            cable.edge |= any;
            cable.rest(now, rng, faults, true);
            if cable.closed && came > 0 && !cable.broken {
                // Nobody is there any more to read this.
                trace.note(now, id, Act::Late(came));
                cable.break_down(io::ErrorKind::ConnectionReset);
                cable.reset_by_daemon = true;
            }
        }
        if cable.outward.is_moving(now) {
            let fin = cable.outward.fin_arrived;
            if cable.dialled.is_none() && cable.outward.put > SABOTAGE_AFTER {
                cable.outward.spoil(&mut faults.sabotage);
            }
            let came = cable.outward.arrive(rng, faults.dribble);
            any |= came > 0 || cable.outward.fin_arrived != fin;
            cable.rest(now, rng, faults, false);
            if cable.peer_closed && came > 0 {
                trace.note(now, id, Act::Late(came));
                cable.break_down(io::ErrorKind::ConnectionReset);
                cable.edge = true;
            }
        }
        if cable.wants_room && cable.outward.is_writable() {
            cable.wants_room = false;
            cable.edge = true;
            any = true;
        }
        any
    }

    /// Between two calls of the daemon the network may move.
    fn hurry(&mut self, id: usize) {
        if let Some(doom) = &mut self.cables[id].doom {
            *doom = doom.saturating_sub(1);
            if *doom == 0 {
                self.peer_reset(id);
            }
        }
        if self.faults.hurry > 0 && self.odds(self.faults.hurry) {
            self.advance(id);
            let cable = &mut self.cables[id];
            if cable.eager && !cable.broken {
                let fresh = cable.outward.take(usize::MAX);
                cable.mailbox.extend(fresh);
                self.advance(id);
            }
        }
    }

    // What peers do.

    /// Sends what fits.
    pub fn peer_write(&mut self, id: usize, bytes: &[u8]) -> usize {
        let (now, cable) = (self.now, &mut self.cables[id]);
        if cable.broken {
            return bytes.len();
        }
        let len = cable.inward.put(bytes);
        if len > 0 {
            cable.moved = now;
            self.trace.note(now, id, Act::PeerSent(len));
        }
        len
    }

    /// Takes at most `most` bytes.
    pub fn peer_read(&mut self, id: usize, most: usize) -> Vec<u8> {
        let (now, cable) = (self.now, &mut self.cables[id]);
        let mut bytes = std::mem::take(&mut cable.mailbox);
        bytes.extend(cable.outward.take(most));
        if !bytes.is_empty() {
            cable.moved = now;
            self.trace.note(now, id, Act::PeerTook(bytes.len()));
        }
        bytes
    }

    /// Sends FIN.
    pub fn peer_fin(&mut self, id: usize) {
        self.cables[id].inward.fin = true;
        self.cables[id].moved = self.now;
        self.trace.note(self.now, id, Act::PeerFin);
    }

    /// Resets; bytes on the way may still come through before it.
    pub fn peer_reset(&mut self, id: usize) {
        let (now, rng, cable) = (self.now, &mut self.rng, &mut self.cables[id]);
        cable.doom = None;
        if cable.broken || cable.closed {
            return;
        }
        if rng.bool() {
            cable.inward.arrive(rng, 0);
        }
        cable.break_down(io::ErrorKind::ConnectionReset);
        cable.outward.wipe();
        cable.edge = true;
        cable.moved = now;
        self.trace.note(now, id, Act::PeerReset);
    }

    // What the daemon does.

    /// readv(2).
    pub fn read(&mut self, id: usize, into: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        self.hurry(id);
        let now = self.now;
        let cable = &mut self.cables[id];
        let room = into.iter().map(|slice| slice.len()).sum();
        let bytes = cable.inward.take(room);
        let outcome = if !bytes.is_empty() {
            let mut rest = &bytes[..];
            for slice in into {
                let (part, after) = rest.split_at(slice.len().min(rest.len()));
                slice[..part.len()].copy_from_slice(part);
                rest = after;
            }
            (cable.moved, cable.served) = (now, now);
            Ok(bytes.len())
        } else if let Some(kind) = cable.error.take() {
            Err(kind.into())
        } else if cable.broken || cable.inward.fin_arrived {
            self.deeds += u64::from(!std::mem::replace(&mut cable.fin_read, true));
            cable.moved = now;
            Ok(0)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        self.deeds += u64::from(is_deed(&outcome));
        self.trace.note(now, id, Act::Read(outcome.as_ref().ok().copied()));
        self.hurry(id);
        outcome
    }

    /// writev(2).
    pub fn write(&mut self, id: usize, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.hurry(id);
        let short = self.cables[id].outward.put > 0 && self.odds(self.faults.short_write);
        let (now, rng, cable) = (self.now, &mut self.rng, &mut self.cables[id]);
        let bytes = from.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        let outcome = if let Some(kind) = cable.error.take() {
            Err(kind.into())
        } else if cable.broken || cable.outward.fin || cable.link != Link::Up {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            let fits = if short { rng.usize(0..=bytes.len()) } else { bytes.len() };
            let len = cable.outward.put(&bytes[..fits]);
            cable.wants_room |= len < bytes.len();
            if len > 0 {
                (cable.moved, cable.served) = (now, now);
                cable.log.extend(&bytes[..len]);
                Ok(len)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        };
        self.deeds += u64::from(is_deed(&outcome));
        self.trace.note(now, id, Act::Write(outcome.as_ref().ok().copied()));
        self.hurry(id);
        outcome
    }

    /// shutdown(2) of the sending half.
    pub fn shutdown_write(&mut self, id: usize) -> io::Result<()> {
        self.trace.note(self.now, id, Act::Shut);
        self.deeds += 1;
        let cable = &mut self.cables[id];
        cable.moved = self.now;
        cable.outward.fin = true;
        // Both halves are shut now: a wake-up that says so.
        cable.edge |= cable.inward.fin_arrived;
        if cable.broken { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    /// `SO_LINGER` with zero seconds.
    pub fn reset_on_close(&mut self, id: usize) {
        self.cables[id].linger = true;
    }

    /// `SO_ERROR` and getpeername(2) of a connect.
    pub fn poll_connect(&mut self, id: usize) -> Poll<io::Result<()>> {
        self.deeds += 1;
        let cable = &mut self.cables[id];
        match (cable.error.take(), cable.link) {
            (Some(kind), _) => Poll::Ready(Err(kind.into())),
            (None, Link::Failed) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            (None, Link::Up) => Poll::Ready(Ok(())),
            (None, _) => Poll::Pending,
        }
    }

    /// close(2): a reset when bytes are unread, as Linux does.
    pub fn close(&mut self, id: usize) {
        let (now, cable) = (self.now, &mut self.cables[id]);
        self.deeds += 1;
        cable.closed = true;
        cable.unread = cable.inward.ready();
        let unread = cable.unread > 0;
        self.trace.note(now, id, Act::Closed { reset: cable.linger || unread });
        if cable.broken || cable.link != Link::Up {
            return;
        }
        if cable.linger || unread {
            cable.reset_by_daemon = true;
            cable.outward.cut();
            cable.break_down(io::ErrorKind::ConnectionReset);
        } else {
            cable.outward.fin = true;
        }
    }
}

/// A live-lock may read a FIN or nothing again and again; that is no work.
fn is_deed(outcome: &io::Result<usize>) -> bool {
    outcome.as_ref().map_or_else(|e| e.kind() != io::ErrorKind::WouldBlock, |len| *len > 0)
}

/// Sabotage strikes when the handshake is long over.
const SABOTAGE_AFTER: u64 = 9_000;
