//! The scheduler: the sessions, the state that they share, and which of them runs next.
//!
//! [`Daemon`] is generic over the network, so that simulations drive it without sockets or time;
//! `daemon/server/mod.rs` joins it to the operating system. One round: readiness is noted, due
//! timers queue their sessions, and every queued session takes one bounded step.

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

pub use server::run;

use crate::accounts::recorder::Cause;
use crate::daemon::fetch::ip_lists;
use crate::daemon::session::Session;
use crate::daemon::session::key::{CLIENT_SLOT, SessionKey, TIMER_THROTTLE};
use crate::daemon::session::outcome::Phase;
use crate::daemon::session::proxy_header;
use crate::daemon::session::step::{CloseReason, Turn};
use crate::daemon::shared::World;
use crate::io::clock::{Tick, Wall};
use crate::io::readiness::Readiness;
use crate::io::wheel::Wheel;
use crate::io::wire::Net;

/// The sessions, the state that they share, and which of them runs next.
pub struct Daemon<N: Net> {
    sessions: Slab<Session<N::Wire>>,
    /// The state that sessions share.
    pub world: World,
    net: N,
    /// Sessions to step in this round or the next.
    ready: VecDeque<SessionKey>,
    /// The limit of `concurrency`.
    sessions_max: usize,
    /// How many connections have become sessions: the number of the latest one.
    accepted: u64,
    /// Whether the log said last that the throttle is active.
    throttle_logged_active: bool,
    /// One deadline per session and one of the throttle, see [`SessionKey::timer`].
    wheel: Wheel,
    /// Sessions that could not read because the pool was empty, oldest first.
    need_block: VecDeque<SessionKey>,
    /// When a session was last stepped before its relay.
    last_handshake: Tick,
    /// A graceful drain is under way: no new reads.
    draining: bool,
}

/// How many sessions are in which phase.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SessionCounts {
    /// Before the client's 64-byte frame.
    pub opening: u32,
    /// Connecting Telegram or the front.
    pub dialling: u32,
    /// Users' sessions with Telegram.
    pub relayed: u32,
    /// Fronted sessions.
    pub fronted: u32,
    /// Closed gracefully.
    pub closing: u32,
    /// All of them.
    pub total: u32,
    /// Most of them at once.
    pub most: u32,
    /// Sessions that wait for a block of the pool.
    pub need_block: u32,
    /// Connections that have become sessions since the start.
    pub accepted: u64,
}

impl<N: Net> Daemon<N> {
    /// An empty daemon for at most `sessions_max` sessions at once.
    pub fn new(world: World, net: N, sessions_max: usize) -> Self {
        let mut daemon = Self {
            sessions: Slab::new(),
            world,
            net,
            ready: VecDeque::new(),
            sessions_max,
            accepted: 0,
            throttle_logged_active: false,
            wheel: Wheel::new(),
            need_block: VecDeque::new(),
            last_handshake: Tick(0),
            draining: false,
        };
        daemon.set_sessions_max(sessions_max);
        daemon
    }

    /// Sets the limit of sessions. Sessions over it stay until they end.
    fn set_sessions_max(&mut self, most: usize) {
        self.sessions_max = most;
        self.world.capacity.set_sessions_max(most);
    }

    /// Sessions that live now, fronted ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many sessions are in which phase.
    pub fn session_counts(&self) -> SessionCounts {
        let as_u32 = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut counts = SessionCounts {
            total: as_u32(self.sessions.len()),
            most: as_u32(self.sessions_max),
            need_block: as_u32(self.need_block.len()),
            accepted: self.accepted,
            ..SessionCounts::default()
        };
        for (_, session) in &self.sessions {
            let count = match session.phase() {
                Phase::Opening | Phase::AwaitingFrame => &mut counts.opening,
                Phase::Dialling => &mut counts.dialling,
                Phase::Relaying => &mut counts.relayed,
                Phase::Fronting => &mut counts.fronted,
                Phase::Closing => &mut counts.closing,
            };
            *count += 1;
        }
        counts
    }

    /// When a session was last stepped before its relay.
    pub fn last_handshake(&self) -> Tick {
        self.last_handshake
    }

    /// The network.
    pub fn net(&mut self) -> &mut N {
        &mut self.net
    }

    /// The shared state and the network, for what runs beside the sessions.
    pub fn parts(&mut self) -> (&mut World, &mut N) {
        (&mut self.world, &mut self.net)
    }

    /// Starts a round at this time.
    pub fn begin_round(&mut self, now: Tick, wall: Wall) {
        self.world.set_time(now, wall);
        self.world.telemetry.counters.reads = 0;
        self.world.telemetry.counters.read_bytes = 0;
        self.world.telemetry.counters.stirred = false;
    }

    /// Makes a session of a new connection. A connection that the lists refuse, or over the limit
    /// of sessions, is closed.
    pub fn accept(&mut self, mut wire: N::Wire, peer: SocketAddr) {
        let addr = peer.ip().to_canonical();
        let World { settings, lists, telemetry, buffers, time, .. } = &mut self.world;
        let header = settings.proxy_protocol.as_ref();
        let may_announce = header.is_some_and(|header| header.trusts(addr));
        // With a PROXY protocol header the lists judge the address in it.
        if !may_announce && !ip_lists::may_enter(lists, telemetry, addr) {
            return proxy_header::turn_away(&mut wire, buffers);
        }
        if self.sessions.len() >= self.sessions_max {
            telemetry.counters.concurrency_limited += 1;
            telemetry.record_client(addr, Cause::Full);
            let limit = self.sessions_max;
            telemetry.info(format_args!("event=concurrency-limited limit={limit}"));
            return proxy_header::turn_away(&mut wire, buffers);
        }
        let entry = self.sessions.vacant_entry();
        let key = SessionKey::of_index(entry.key());
        if let Err(e) = self.net.register(&mut wire, key.token(CLIENT_SLOT)) {
            telemetry.warn(format_args!("event=adopt-failed error={:?}", e.to_string()));
            return;
        }
        self.accepted += 1;
        let id = self.accepted;
        log::debug!("event=accepted id={id} client={}", telemetry.shown(addr));
        telemetry.counters.clients.add(addr);
        entry.insert(Session::new(id, wire, peer, may_announce, time.now));
        self.queue(key);
    }

    /// Notes what the poller reports about a socket of a session.
    pub fn on_ready(&mut self, token: usize, fresh: Readiness) {
        let (key, slot) = SessionKey::of_token(token);
        if let Some(session) = self.sessions.get_mut(key.index())
            && session.on_ready(slot, fresh)
        {
            self.queue(key);
        }
    }

    /// Queues the session of a token, for instance when a name that it waits for has been found.
    pub fn wake(&mut self, token: usize) {
        self.queue(SessionKey::of_token(token).0);
    }

    /// Fires due timers and lets every queued session take one step. Returns whether sessions are
    /// queued for the next round.
    pub fn run_ready(&mut self) -> bool {
        self.world.telemetry.flush_due();
        self.fire_timers();
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            self.step(key);
        }
        self.wake_for_blocks();
        if self.world.limits.throttle.is_some()
            && self.world.accounts.users.total_connections() > 0
            && !self.wheel.is_set(TIMER_THROTTLE)
        {
            self.arm_throttle();
        }
        self.log_throttle();
        !self.ready.is_empty()
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.wheel.pop_due(self.world.time.now) {
            let Some(key) = SessionKey::of_timer(timer) else {
                self.recompute_caps();
                continue;
            };
            self.world.telemetry.counters.stirred = true;
            if let Some(session) = self.sessions.get_mut(key.index()) {
                session.armed = None;
            }
            self.queue(key);
        }
    }

    /// Blocks that have come back wake the sessions that waited longest.
    fn wake_for_blocks(&mut self) {
        for _ in 0..self.world.buffers.spare_blocks().min(self.need_block.len()) {
            if let Some(key) = self.need_block.pop_front() {
                if let Some(session) = self.sessions.get_mut(key.index()) {
                    session.needs_block = false;
                }
                self.queue(key);
            }
        }
    }

    /// When the daemon must be called again even if nothing comes.
    pub fn next_due(&self) -> Option<Tick> {
        self.wheel.next().into_iter().chain(self.world.telemetry.due()).min()
    }

    /// Starts a graceful drain: no more reads; sessions close once flushed.
    pub fn drain(&mut self) {
        self.draining = true;
        for key in self.keys() {
            let Some(session) = self.sessions.get(key.index()) else { continue };
            match session.phase() {
                Phase::Relaying | Phase::Fronting | Phase::Closing => self.queue(key),
                Phase::Opening | Phase::AwaitingFrame | Phase::Dialling => {
                    self.close(key, CloseReason::Drained);
                }
            }
        }
    }

    /// The keys of all sessions, for calls that change the slab.
    fn keys(&self) -> Vec<SessionKey> {
        self.sessions.iter().map(|(index, _)| SessionKey::of_index(index)).collect()
    }

    fn queue(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key.index())
            && !session.queued
        {
            session.queued = true;
            self.ready.push_back(key);
        }
    }

    fn step(&mut self, key: SessionKey) {
        let Self { sessions, world, net, .. } = self;
        let Some(session) = sessions.get_mut(key.index()) else { return };
        session.queued = false;
        if !matches!(session.phase(), Phase::Relaying | Phase::Fronting | Phase::Closing) {
            self.last_handshake = world.time.now;
        }
        match session.step(key, world, net, self.draining) {
            Turn::Close(reason) => return self.close(key, reason),
            Turn::Again => {
                session.queued = true;
                self.ready.push_back(key);
            }
            Turn::NeedBlock if !session.needs_block => {
                session.needs_block = true;
                self.need_block.push_back(key);
            }
            Turn::NeedBlock | Turn::Wait => {}
        }
        let due = session.due(&world.settings, world.time.now);
        if session.armed.is_none_or(|armed| due < armed) {
            session.armed = Some(due);
            self.wheel.set(key.timer(), due);
        }
    }

    /// Removes a session. No other function does.
    fn close(&mut self, key: SessionKey, reason: CloseReason) {
        let Some(mut session) = self.sessions.try_remove(key.index()) else { return };
        self.wheel.clear(key.timer());
        if session.needs_block {
            // Or the next returned block would wake no session.
            self.need_block.retain(|waiting| *waiting != key);
        }
        session.finish(reason, &mut self.world);
    }

    fn recompute_caps(&mut self) {
        let Some(throttle) = &mut self.world.limits.throttle else { return };
        throttle.recompute(self.world.accounts.users.connections());
        if self.world.accounts.users.total_connections() > 0 || throttle.is_active() {
            self.arm_throttle();
        }
    }

    /// Logs when the caps come into force or end, whether a tick or an admission did it.
    fn log_throttle(&mut self) {
        let Some(throttle) = &self.world.limits.throttle else { return };
        let is_active = throttle.is_active();
        if std::mem::replace(&mut self.throttle_logged_active, is_active) == is_active {
            return;
        }
        self.world.telemetry.counters.stirred = true;
        let limit = throttle.limit();
        match is_active {
            true => log::warn!("event=throttle active=true limit={limit}"),
            false => log::info!("event=throttle active=false limit={limit}"),
        }
    }

    fn arm_throttle(&mut self) {
        let Some(share) = &self.world.settings.throttle else { return };
        self.wheel.set(TIMER_THROTTLE, self.world.time.now + share.check_interval);
    }
}
