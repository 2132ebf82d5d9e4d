//! One connection: its ends, its stage, and why it ended.
//!
//! A session never reaches another one. What it shares is in [`World`].

pub mod buffers;
pub mod capacity;
pub mod dial;
pub mod handshake;
pub mod outcome;
pub mod proxy_header;
pub mod relay;
pub mod server_hello;

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::UserId;
use crate::daemon::admin::counters::DcConnectionId;
use crate::daemon::session::dial::Dial;
use crate::daemon::session::handshake::{AwaitClientHello, AwaitFrame};
use crate::daemon::session::proxy_header::AwaitProxyHeader;
use crate::daemon::session::relay::Relay;
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::io::pool::{Outbox, Pool};
use crate::io::wire::Wire;

/// What the poller said about a socket; edge-triggered, so it holds until a call says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read may find bytes.
    pub readable: bool,
    /// A write may be taken.
    pub writable: bool,
    /// A FIN or an error waits behind the bytes: a short read does not mean "drained".
    pub hup: bool,
    /// The connection is broken, not only half closed.
    pub broken: bool,
}

/// One socket of a session.
pub struct Endpoint<W> {
    /// The socket.
    pub wire: W,
    /// Bytes that the socket did not take yet.
    pub outbox: Outbox,
    /// What the poller said last.
    pub ready: Readiness,
    /// We have read up to the peer's FIN.
    pub done: bool,
    /// Our FIN is out.
    pub shut: bool,
    /// A write failed: the peer takes nothing any more.
    pub dead: bool,
    /// The peer reset the connection.
    pub reset: bool,
    /// Since when the outbox has made no progress.
    pub stalled: Option<Tick>,
    /// Payload bytes that have left.
    pub moved: u64,
    /// Payload bytes in the outbox, counted for the user once the outbox is empty again.
    pub uncounted: u32,
}

/// What a read did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// This many bytes came (at least 1).
    Bytes(usize),
    /// Nothing there.
    Nothing,
    /// The peer's FIN.
    Fin,
    /// The connection is broken.
    Reset,
}

impl<W: Wire> Endpoint<W> {
    /// A fresh socket; `ready` is what may be assumed of it.
    pub fn new(wire: W, ready: Readiness) -> Self {
        Self {
            wire,
            outbox: Outbox::default(),
            ready,
            done: false,
            shut: false,
            dead: false,
            reset: false,
            stalled: None,
            moved: 0,
            uncounted: 0,
        }
    }

    /// One read. Clears the readable bit when the socket is drained.
    pub fn read(&mut self, into: &mut [io::IoSliceMut<'_>]) -> ReadOutcome {
        let room: usize = into.iter().map(|slice| slice.len()).sum();
        match self.wire.read(into) {
            Ok(0) if self.dead && !self.done => self.lost(),
            Ok(0) => {
                self.done = true;
                self.ready.readable = false;
                ReadOutcome::Fin
            }
            Ok(n) => {
                if n < room && !self.ready.hup {
                    self.ready.readable = false;
                }
                ReadOutcome::Bytes(n)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.ready.readable = false;
                ReadOutcome::Nothing
            }
            Err(_) => self.lost(),
        }
    }

    /// A reset, seen by a read or, after a failed write has consumed the error, as an end without
    /// a FIN.
    fn lost(&mut self) -> ReadOutcome {
        self.reset = true;
        self.done = true;
        self.ready.readable = false;
        ReadOutcome::Reset
    }

    /// Writes `bytes`, behind what the outbox holds; what the socket does not take goes there.
    /// `false` = the pool could not keep the rest, which the read rule excludes.
    pub fn send(&mut self, bytes: &[u8], pool: &Pool, now: Tick) -> bool {
        if self.dead || self.shut || bytes.is_empty() {
            return true;
        }
        let mut taken = 0;
        if self.outbox.is_empty() && self.ready.writable {
            taken = self.write(&[IoSlice::new(bytes)], bytes.len());
        }
        if self.dead || taken == bytes.len() {
            return true;
        }
        self.stalled.get_or_insert(now);
        self.outbox.push(pool, &bytes[taken..]).is_ok()
    }

    /// Writes what the outbox holds, with at most one write. `true` = some of it left.
    pub fn flush(&mut self, now: Tick) -> bool {
        if self.outbox.is_empty() || !self.ready.writable || self.dead {
            return false;
        }
        let mut slices = [IoSlice::new(&[]); FLUSH_SLICES];
        let count = self.outbox.slices(&mut slices);
        let within: usize = slices[..count].iter().map(|s| s.len()).sum();
        let outcome = self.wire.write(&slices[..count]);
        let taken = self.judge(outcome, within);
        self.outbox.advance(taken);
        if self.outbox.is_empty() {
            self.stalled = None;
        } else if taken > 0 {
            self.stalled = Some(now);
        }
        taken > 0
    }

    /// Sends our FIN.
    pub fn shut(&mut self) {
        if !self.shut {
            self.shut = true;
            if self.wire.shutdown_write().is_err() {
                self.dead = true;
            }
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>], offered: usize) -> usize {
        let outcome = self.wire.write(slices);
        self.judge(outcome, offered)
    }

    fn judge(&mut self, outcome: io::Result<usize>, offered: usize) -> usize {
        match outcome {
            Ok(n) => {
                if n < offered {
                    self.ready.writable = false;
                }
                n
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.ready.writable = false;
                0
            }
            Err(_) => {
                self.dead = true;
                self.outbox.clear();
                self.stalled = None;
                0
            }
        }
    }
}

/// How far a session has come. Stages only go down this list.
pub enum Stage<W> {
    /// Learning where the client comes from.
    AwaitProxyHeader(AwaitProxyHeader),
    /// Collecting and judging the hello.
    AwaitClientHello(AwaitClientHello),
    /// Answered; collecting the 64-byte header.
    AwaitFrame(Box<AwaitFrame>),
    /// Connecting to Telegram or to the front.
    Dial(Box<Dial<W>>),
    /// Both ends are there.
    Relay(Box<Relay<W>>),
    /// Nothing more to do for this client than to close decently: flush, FIN, read on until its
    /// own FIN so that no RST overtakes our last bytes.
    Leave {
        /// When we stop waiting.
        until: Tick,
    },
}

/// One connection, from accept to close.
pub struct Session<W> {
    /// Its number, by which the log tells its story.
    pub id: u64,
    /// The client's end.
    pub client: Endpoint<W>,
    /// How far it has come.
    pub stage: Stage<W>,
    /// Where the client comes from: its socket's address, or the announced one.
    pub addr: IpAddr,
    /// The port beside it.
    pub port: u16,
    /// Whom this session is counted for.
    pub user: Option<UserId>,
    /// It holds one of the places for fronted sessions.
    pub fronted: bool,
    /// Which connection to Telegram it is counted for.
    pub upstream: Option<DcConnectionId>,
    /// Payload bytes that had left for the other end when that was closed.
    sent_up: u64,
    /// When it was accepted.
    pub born: Tick,
    /// When bytes moved last.
    pub active: Tick,
    /// What the wheel holds for it.
    pub armed: Option<Tick>,
    /// It stands in the ready queue.
    pub queued: bool,
    /// It waits for a block of the pool; deadlines and events still reach it.
    pub parked: bool,
}

impl<W: Wire> Session<W> {
    /// A connection accepted now, whose peer may announce another address or not.
    pub fn new(wire: W, peer: SocketAddr, may_announce: bool, now: Tick) -> Self {
        let ready = Readiness { readable: true, writable: true, ..Readiness::default() };
        Self {
            id: 0,
            client: Endpoint::new(wire, ready),
            stage: Stage::AwaitProxyHeader(AwaitProxyHeader::new(may_announce)),
            addr: peer.ip().to_canonical(),
            port: peer.port(),
            user: None,
            fronted: false,
            upstream: None,
            sent_up: 0,
            born: now,
            active: now,
            armed: None,
            queued: false,
            parked: false,
        }
    }

    /// When the session must be looked at even if nothing comes.
    pub fn due(&self, world: &World) -> Tick {
        let handshake_ms = world.settings.timeouts.handshake.as_millis() as u64;
        match &self.stage {
            Stage::AwaitProxyHeader(prologue) => prologue.due(self.born, handshake_ms),
            Stage::AwaitClientHello(hello) => hello.due(self.born, handshake_ms),
            Stage::AwaitFrame(_) => Tick(self.born.0 + handshake_ms),
            Stage::Dial(dial) => dial.due(),
            Stage::Relay(pipe) => relay::due(self, pipe, world),
            Stage::Leave { until } => *until,
        }
    }
}

impl<W> Session<W> {
    /// Payload bytes that have left for the other end.
    fn up(&self) -> u64 {
        match &self.stage {
            Stage::Relay(pipe) => pipe.server.moved,
            _ => self.sent_up,
        }
    }

    /// Ends its story in the log. What a person of ours suffers from is for the operator to see.
    pub fn tell_end(&self, world: &mut World, why: CloseReason) {
        log::debug!(
            "event=closed id={} why={}{} up={} down={} ms={} client={}",
            self.id,
            why.as_str(),
            world.accounts.users.log_field(self.user),
            self.up(),
            self.client.moved,
            world.time.now.0 - self.born.0,
            world.telemetry.shown(self.addr)
        );
        self.complain(world, why);
    }

    /// Tells the operator of a session of a known user that went wrong before or while it served.
    pub fn complain(&self, world: &mut World, why: CloseReason) {
        let is_trouble =
            matches!(why, CloseReason::Handshake | CloseReason::Garbled | CloseReason::Pressure);
        if self.user.is_some() && is_trouble {
            let (who, from) =
                (world.accounts.users.log_field(self.user), world.telemetry.shown(self.addr));
            let line = format!("event=session-failed{who} why={} client={from}", why.as_str());
            world.telemetry.info(&line);
        }
    }

    /// Gives back every count and place that the session holds. Harmless to repeat.
    pub fn settle(&mut self, world: &mut World) {
        self.sent_up = self.up();
        if let Some(user) = self.user.take() {
            world.accounts.users.remove_session(user);
        }
        if std::mem::take(&mut self.fronted) {
            world.capacity.fronted = world.capacity.fronted.saturating_sub(1);
            world.telemetry.counters.fronting.remove(self.addr);
        }
        if let Some(upstream) = self.upstream.take() {
            world.telemetry.counters.telegram.remove(upstream);
        }
        let held = match &self.stage {
            Stage::AwaitProxyHeader(prologue) => prologue.held(),
            Stage::AwaitClientHello(hello) => hello.held(),
            _ => 0,
        };
        world.buffers.hello_bytes = world.buffers.hello_bytes.saturating_sub(held);
    }
}

/// What a turn left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do until an event or a deadline.
    Waiting,
    /// More to do at once: back of the queue.
    Again,
    /// It wants to read and the pool is empty.
    Starved,
    /// Over.
    Done(CloseReason),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed.
    Finished,
    /// A peer reset the connection.
    Reset,
    /// Silence for longer than the idle limit.
    Idle,
    /// A peer took nothing for too long.
    Stalled,
    /// The client did not finish its handshake.
    Handshake,
    /// A list does not let the client's address in.
    Unwelcome,
    /// A PROXY protocol header went wrong or did not end in time.
    BadHeader,
    /// The client sent what no client of ours sends.
    Garbled,
    /// The client left before the other side was connected.
    Gone,
    /// No address of the DC or of the front could be reached.
    Unreachable,
    /// The client asked for a DC that we do not know.
    UnknownDc,
    /// The front is one of our own listeners.
    Loop,
    /// A limit of ours was reached.
    Pressure,
    /// The user was removed, disabled, or given another secret.
    Revoked,
    /// The daemon is leaving.
    Drained,
}

impl CloseReason {
    /// The word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Handshake => "handshake-timeout",
            Self::Unwelcome => "unwelcome",
            Self::BadHeader => "bad-proxy-header",
            Self::Garbled => "garbled",
            Self::Gone => "client-gone",
            Self::Unreachable => "unreachable",
            Self::UnknownDc => "unknown-dc",
            Self::Loop => "front-loop",
            Self::Pressure => "pressure",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
        }
    }
}

/// Blocks written by one flush.
const FLUSH_SLICES: usize = 17;
