//! The whole scheduler: sessions on one side, the world on the other.
//!
//! [`Daemon`] is generic over the network, so that simulations drive it without sockets or time;
//! `server.rs` joins it to the operating system. One round: readiness is noted, due timers wake
//! their sessions, and every queued session takes one bounded step.

pub mod admin;
pub mod fetch;
pub mod reload;
pub mod resolver;
pub mod server;
pub mod session;
pub mod shared;
pub mod time;
pub mod upstream;

use std::collections::VecDeque;
use std::net::SocketAddr;

use slab::Slab;

use crate::accounts::recorder::Cause;
use crate::daemon::admin::state_dump::SessionCounts;
use crate::daemon::fetch::ip_lists;
use crate::daemon::session::handshake::StageTurn;
use crate::daemon::session::relay::Transform;
use crate::daemon::session::{CloseReason, Endpoint, Readiness, Session, Stage, Turn};
use crate::daemon::session::{dial, handshake, outcome, proxy_header, relay};
use crate::daemon::shared::World;
use crate::io::clock::{Tick, Wall};
use crate::io::wheel::Wheel;
use crate::io::wire::{Net, Wire};

/// Sessions, the world they share, and who runs next.
pub struct Daemon<N: Net> {
    sessions: Slab<Session<N::Wire>>,
    /// Everything that sessions share.
    pub world: World,
    net: N,
    ready: VecDeque<u32>,
    most_sessions: usize,
    /// How many connections have become sessions: the number of the latest one.
    accepted: u64,
    /// What the log said last about the throttle.
    announced: bool,
    /// One deadline per session and one of the throttle, see [`wheel_key`].
    wheel: Wheel,
    /// Sessions that could not read because the pool was empty, oldest first.
    starved: VecDeque<u32>,
    /// When a session was last on the way from accept to the relay.
    greeted: Tick,
    /// A graceful drain is under way: no new reads.
    draining: bool,
}

impl<N: Net> Daemon<N> {
    /// An empty daemon for at most `most_sessions` at once.
    pub fn new(world: World, net: N, most_sessions: usize) -> Self {
        let (sessions, ready) = (Slab::new(), VecDeque::new());
        let (accepted, announced) = (0, false);
        let mut daemon = Self {
            sessions,
            world,
            net,
            ready,
            most_sessions,
            accepted,
            announced,
            wheel: Wheel::new(),
            starved: VecDeque::new(),
            greeted: Tick(0),
            draining: false,
        };
        daemon.set_most_sessions(most_sessions);
        daemon
    }

    /// Another limit; who is there already stays.
    fn set_most_sessions(&mut self, most: usize) {
        self.most_sessions = most;
        self.world.capacity.set_sessions_max(most);
    }

    /// Sessions that live now, fronted ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// When a session was last on the way from accept to the relay.
    pub fn greeted(&self) -> Tick {
        self.greeted
    }

    /// Sessions that wait for a block of the pool.
    pub fn starved(&self) -> usize {
        self.starved.len()
    }

    /// The sessions by stage, for the operator.
    pub fn session_counts(&self) -> SessionCounts {
        let mut counts = SessionCounts {
            total: self.sessions.len(),
            max: self.most_sessions,
            accepted: self.accepted,
            starved: self.starved.len(),
            ..SessionCounts::default()
        };
        for (_, session) in &self.sessions {
            *match &session.stage {
                Stage::AwaitProxyHeader(_) | Stage::AwaitClientHello(_) | Stage::AwaitFrame(_) => {
                    &mut counts.opening
                }
                Stage::Dial(_) => &mut counts.dialling,
                Stage::Relay(relay) => match relay.lanes {
                    Transform::Mtproto(_) => &mut counts.relayed,
                    Transform::Plain => &mut counts.fronted,
                },
                Stage::Leave { .. } => &mut counts.closing,
            } += 1;
        }
        counts
    }

    /// The network, for whoever drives the daemon.
    pub fn net(&mut self) -> &mut N {
        &mut self.net
    }

    /// The world and the network, for what runs beside the sessions.
    pub fn parts(&mut self) -> (&mut World, &mut N) {
        (&mut self.world, &mut self.net)
    }

    /// Starts a round: every `now` until the next one is this one.
    pub fn begin(&mut self, now: Tick, wall: Wall) {
        self.world.set_time(now, wall);
        self.world.telemetry.counters.reads = 0;
        self.world.telemetry.counters.read_bytes = 0;
        self.world.telemetry.counters.state_changed = false;
    }

    /// Takes a new connection in. At the limit it is closed, after a look at what it has sent so
    /// that the kernel says FIN rather than RST.
    pub fn accept(&mut self, mut wire: N::Wire, peer: SocketAddr) {
        let addr = peer.ip().to_canonical();
        let header = &self.world.settings.proxy_protocol;
        let may_announce = header.as_ref().is_some_and(|header| header.trusts(addr));
        if !may_announce && !ip_lists::may_enter(&mut self.world, addr) {
            return proxy_header::turn_away(&mut wire, &mut self.world);
        }
        if self.sessions.len() >= self.most_sessions {
            self.world.telemetry.counters.concurrency_limited += 1;
            self.world.telemetry.record_client(addr, Cause::Full);
            let line = format!("event=concurrency-limited limit={}", self.most_sessions);
            self.world.telemetry.info(&line);
            return proxy_header::turn_away(&mut wire, &mut self.world);
        }
        let entry = self.sessions.vacant_entry();
        let key = entry.key() as u32;
        if let Err(e) = self.net.register(&mut wire, token(key)) {
            let line = format!("event=adopt-failed error={:?}", e.to_string());
            self.world.telemetry.warn(&line);
            return;
        }
        self.accepted += 1;
        log::debug!(
            "event=accepted id={} client={}",
            self.accepted,
            self.world.telemetry.shown(addr)
        );
        let mut session = Session::new(wire, peer, may_announce, self.world.time.now);
        session.id = self.accepted;
        entry.insert(session);
        self.world.telemetry.counters.clients.add(addr);
        self.queue(key);
    }

    /// Notes what the poller says about one of the sessions' sockets.
    pub fn on_ready(&mut self, token: usize, fresh: Readiness) {
        let (key, slot) = (token / SLOTS_PER_SESSION, token % SLOTS_PER_SESSION);
        let Some(session) = self.sessions.get_mut(key) else { return };
        match (&mut session.stage, slot) {
            (_, CLIENT) => session.client.on_ready(fresh),
            (Stage::Dial(dial), _) => dial.wake(slot),
            (Stage::Relay(pipe), _) if usize::from(pipe.slot) == slot => {
                pipe.server.on_ready(fresh);
            }
            _ => return,
        }
        self.queue(key as u32);
    }

    /// Wakes a session by the token it left with somebody.
    pub fn wake(&mut self, token: usize) {
        self.queue((token / SLOTS_PER_SESSION) as u32);
    }

    /// Fires due timers and lets every queued session take one step. `true` = somebody has more
    /// to do at once.
    pub fn turn(&mut self) -> bool {
        self.world.telemetry.flush_due();
        while let Some(key) = self.wheel.pop_due(self.world.time.now) {
            if key == TIMER_THROTTLE {
                self.recompute_caps();
                continue;
            }
            self.world.telemetry.counters.state_changed = true;
            let session = key - wheel_key(0);
            if let Some(session) = self.sessions.get_mut(session as usize) {
                session.armed = None;
            }
            self.queue(session);
        }
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            self.step(key);
        }
        // Returned blocks wake those who waited longest.
        for _ in 0..self.world.buffers.spare_blocks().min(self.starved.len()) {
            if let Some(key) = self.starved.pop_front() {
                if let Some(session) = self.sessions.get_mut(key as usize) {
                    session.parked = false;
                }
                self.queue(key);
            }
        }
        if self.world.limits.throttle.is_some()
            && self.world.accounts.users.total_connections() > 0
            && !self.wheel.is_set(TIMER_THROTTLE)
        {
            self.arm_throttle();
        }
        self.announce_throttle();
        !self.ready.is_empty()
    }

    /// When the daemon must be called again even if nothing comes.
    pub fn next_due(&self) -> Option<Tick> {
        self.wheel.next().into_iter().chain(self.world.telemetry.due()).min()
    }

    /// Stops reading and sends everybody home; sessions that have something to flush stay until
    /// it is out.
    pub fn drain(&mut self) {
        self.draining = true;
        let keys: Vec<u32> = self.sessions.iter().map(|(key, _)| key as u32).collect();
        for key in keys {
            match self.sessions[key as usize].stage {
                Stage::Relay(_) | Stage::Leave { .. } => self.queue(key),
                _ => self.close(key, CloseReason::Drained),
            }
        }
    }

    fn queue(&mut self, key: u32) {
        if let Some(session) = self.sessions.get_mut(key as usize)
            && !session.queued
        {
            session.queued = true;
            self.ready.push_back(key);
        }
    }

    fn step(&mut self, key: u32) {
        let Self { sessions, world, net, ready, wheel, starved, greeted, draining, .. } = self;
        let Some(session) = sessions.get_mut(key as usize) else { return };
        session.queued = false;
        if !matches!(session.stage, Stage::Relay(_) | Stage::Leave { .. }) {
            *greeted = world.time.now;
        }
        match step(session, world, net, token(key), *draining) {
            Turn::Done(why) => return self.close(key, why),
            Turn::Again => {
                session.queued = true;
                ready.push_back(key);
            }
            Turn::Starved if !session.parked => {
                session.parked = true;
                starved.push_back(key);
            }
            Turn::Starved | Turn::Waiting => {}
        }
        let due = session.due(world);
        if session.armed.is_none_or(|armed| due < armed) {
            session.armed = Some(due);
            wheel.set(wheel_key(key), due);
        }
    }

    /// The only place where a session ends.
    fn close(&mut self, key: u32, why: CloseReason) {
        let mut session = self.sessions.remove(key as usize);
        self.wheel.clear(wheel_key(key));
        if session.parked {
            // Or the next returned block would wake nobody.
            self.starved.retain(|parked| *parked != key);
        }
        session.tell_end(&mut self.world, why);
        outcome::of_end(&session, &mut self.world, why);
        session.settle(&mut self.world);
        self.world.telemetry.counters.clients.remove(session.addr);
        if why == CloseReason::Pressure {
            self.world.telemetry.counters.pressed += 1;
        }
    }

    fn recompute_caps(&mut self) {
        let Some(throttle) = &mut self.world.limits.throttle else { return };
        throttle.recompute(self.world.accounts.users.connections());
        if self.world.accounts.users.total_connections() > 0 || throttle.is_active() {
            self.arm_throttle();
        }
    }

    /// Tells the log when caps come and go, whether a tick or an admission did it.
    fn announce_throttle(&mut self) {
        let Some(throttle) = &self.world.limits.throttle else { return };
        if std::mem::replace(&mut self.announced, throttle.is_active()) == throttle.is_active() {
            return;
        }
        self.world.telemetry.counters.state_changed = true;
        if throttle.is_active() {
            log::warn!("event=throttle active=true limit={}", throttle.limit());
        } else {
            log::info!("event=throttle active=false limit={}", throttle.limit());
        }
    }

    fn arm_throttle(&mut self) {
        let Some(share) = &self.world.settings.throttle else { return };
        let at = Tick(self.world.time.now.0 + share.check_interval.as_millis() as u64);
        self.wheel.set(TIMER_THROTTLE, at);
    }
}

impl<W: Wire> Endpoint<W> {
    fn on_ready(&mut self, fresh: Readiness) {
        self.ready.readable |= (fresh.readable || fresh.hup) && !self.done;
        self.ready.writable |= fresh.writable;
        self.ready.hup |= fresh.hup;
        self.ready.broken |= fresh.broken;
    }
}

/// One bounded step of one session. A session that changes its stage goes on in the same step;
/// stages only go forward, so this ends.
fn step<N: Net>(
    session: &mut Session<N::Wire>,
    world: &mut World,
    net: &mut N,
    token: usize,
    draining: bool,
) -> Turn {
    loop {
        let turn = match session.stage {
            Stage::AwaitProxyHeader(_) => proxy_header::prologue(session, world),
            Stage::AwaitClientHello(_) => handshake::hello(session, world),
            Stage::AwaitFrame(_) => handshake::greeting(session, world),
            Stage::Dial(_) => dial::dial(session, world, net, token),
            Stage::Relay(_) => relay::pipe(session, world, draining),
            Stage::Leave { until } => handshake::leaving(session, world, until),
        };
        if let StageTurn::Stop(fate) = turn {
            return fate;
        }
    }
}

/// The token of a session's client socket; its other sockets follow.
fn token(key: u32) -> usize {
    key as usize * SLOTS_PER_SESSION
}

/// Tokens per session: the client and two sockets that may be dialling.
pub const SLOTS_PER_SESSION: usize = 4;
const CLIENT: usize = 0;

/// The wheel key of a session; key 0 is [`TIMER_THROTTLE`].
fn wheel_key(session: u32) -> u32 {
    session + 1
}

/// The wheel key of the throttle's next look.
const TIMER_THROTTLE: u32 = 0;
