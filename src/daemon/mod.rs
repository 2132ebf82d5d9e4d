//! The scheduler: the sessions, the state that they share, and which of them runs next.
//!
//! [`Daemon`] is generic over the network, so that simulations drive it without sockets or time;
//! `daemon/server/mod.rs` joins it to the operating system. `daemon/round.rs` has the round of the
//! loop.

mod admin;
mod evict;
pub(crate) mod fetch;
pub mod listeners;
mod memory_waiters;
mod memory_watch;
mod reload;
pub(crate) mod resolver;
mod round;
pub mod server;
pub mod session;
pub mod shared;
pub mod time;
mod tokens;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use slab::Slab;

use crate::config::HAS_METRICS;
use crate::daemon::admin::AdminServer;
use crate::daemon::admin::state_dump::{self, SessionCounts};
use crate::daemon::admin::statsd::Statsd;
use crate::daemon::fetch::background::BackgroundTask;
use crate::daemon::fetch::ip_lists::admission;
use crate::daemon::fetch::runner::TaskRunner;
use crate::daemon::listeners::Listeners;
use crate::daemon::memory_waiters::MemoryWaiters;
use crate::daemon::resolver::Resolver;
use crate::daemon::session::Session;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::key::{CLIENT_SLOT, SessionKey, TIMER_THROTTLE};
use crate::daemon::session::memory::SessionAccount;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::proxy_header;
use crate::daemon::session::standing::{Room, Victims};
use crate::daemon::session::step::Turn;
use crate::daemon::shared::Shared;
use crate::io::clock::Tick;
use crate::io::logger::{event, fields};
use crate::io::readiness::Readiness;
use crate::io::wheel::Wheel;
use crate::io::wire::{DatagramSocket, Net};
use crate::limits::fair_queue::{COST_MAX, FairQueue, Flow};
use crate::limits::memory_level::MemoryWatch;
use crate::limits::read_coalescing::ReadCoalescing;
use crate::util::client_prefix::ClientPrefix;
use crate::util::memory::Class;

/// All sessions, the state that they share, their schedule, and the other sockets.
pub struct Daemon<N: Net> {
    sessions: Slab<Session<N::Wire>>,
    /// The state beside the sessions.
    pub shared: Shared,
    net: N,
    listeners: Listeners<N::Listener>,
    admin: AdminServer<N::Wire>,
    resolver: Resolver<N>,
    tasks: TaskRunner<BackgroundTask, N>,
    statsd: Option<Statsd<N::Datagram>>,
    coalescing: ReadCoalescing,
    /// The next round has work without an event, beside the queued sessions.
    has_work: bool,
    /// Sessions to step in this round or a later one.
    ready: FairQueue,
    /// Connections that became sessions; the number of the latest one.
    accepted: u64,
    /// The last round ended before every queued session had its step.
    is_cut: bool,
    /// The throttle state that was logged last.
    throttle_logged_active: bool,
    /// One deadline per session and one of the throttle, see [`SessionKey::timer`].
    wheel: Wheel,
    /// Sessions that may be closed to make room.
    victims: Victims,
    /// When sessions that hold memory are looked for again, while others wait for it.
    next_relief: Option<Tick>,
    /// Sessions that could not read because memory was short.
    memory_waiters: MemoryWaiters,
    memory_watch: MemoryWatch,
    /// When a session that does not relay yet was last stepped.
    last_handshake: Tick,
    /// When a step last read a short message and nothing else.
    last_short: Tick,
    /// A graceful drain is in progress: no more reads.
    draining: bool,
}

impl<N: Net> Daemon<N> {
    /// A daemon without sessions, for at most `sessions_max` sessions at once. Schedules all
    /// fetches.
    pub fn new(
        shared: Shared,
        net: N,
        listeners: Listeners<N::Listener>,
        sessions_max: usize,
    ) -> Self {
        // Before the first fetches, so that statsd gets the counters of their failures.
        let statsd = new_statsd(&shared);
        let mut daemon = Self {
            sessions: Slab::new(),
            net,
            listeners,
            admin: AdminServer::default(),
            resolver: Resolver::new(&shared.settings.dns),
            tasks: TaskRunner::default(),
            statsd,
            coalescing: ReadCoalescing::new(shared.settings.coalesce_reads),
            has_work: true,
            ready: FairQueue::default(),
            is_cut: false,
            accepted: 0,
            throttle_logged_active: false,
            wheel: Wheel::new(),
            victims: Victims::default(),
            next_relief: None,
            memory_waiters: MemoryWaiters::default(),
            memory_watch: MemoryWatch::default(),
            last_handshake: Tick(0),
            last_short: Tick(0),
            draining: false,
            shared,
        };
        daemon.set_sessions_max(sessions_max);
        daemon.apply_to_listeners();
        fetch::plan(&mut daemon.shared.fetch_context());
        daemon
    }

    /// Sets the limit of sessions.
    fn set_sessions_max(&mut self, most: usize) {
        self.shared.capacity.set_sessions_max(most);
        self.shared.limits.places.set_limit(self.shared.capacity.users_max);
    }

    /// The number of live sessions, fronted ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The number of sessions in each phase.
    pub fn session_counts(&self) -> SessionCounts {
        let mut counts = SessionCounts {
            total: self.sessions.len(),
            max: self.shared.capacity.sessions_max as usize,
            starved: self.memory_waiters.count(),
            accepted: self.accepted,
            ..SessionCounts::default()
        };
        for (_, session) in &self.sessions {
            session.count(&mut counts);
        }
        counts
    }

    /// Bytes that are charged to the sessions.
    pub fn charged_bytes(&self) -> usize {
        self.sessions.iter().map(|(_, session)| session.client.account.used()).sum()
    }

    /// Whether sessions of a class wait for memory.
    pub fn waits_for_memory(&self, class: Class) -> bool {
        self.memory_waiters.has_class(class)
    }

    /// The network.
    pub fn net(&mut self) -> &mut N {
        &mut self.net
    }

    /// Logs the state, at any log level.
    pub fn log_state(&self) {
        let (sessions, pages) = (self.session_counts(), self.admin.counts());
        state_dump::log(&self.shared.view(), &sessions, &pages, self.tasks.count());
    }

    /// The addresses at which clients are accepted.
    pub fn listen_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.listeners.client_addrs()
    }

    /// Creates a session for an accepted connection. Closes the connection if the lists refuse it
    /// or the limit of sessions is reached.
    fn accept(&mut self, mut wire: N::Wire, peer: SocketAddr) {
        let addr = peer.ip().to_canonical();
        let limit = self.shared.capacity.sessions_max as usize;
        let Shared { settings, lists, telemetry, time, .. } = &mut self.shared;
        let header = settings.proxy_protocol.as_ref();
        let may_send_header = header.is_some_and(|header| header.trusts(addr));
        // Behind a PROXY protocol header, the lists are checked for the address in the header.
        let listed = match may_send_header {
            true => Ok(()),
            false => admission::check(lists, addr, time.now, telemetry),
        };
        let admitted = listed.and_then(|()| {
            let has_room = self.sessions.len() < limit || self.make_room(Room::Place, None);
            if has_room { Ok(()) } else { Err(Outcome::Full) }
        });
        let Shared { telemetry, buffers, memory, time, capacity, accounts, .. } = &mut self.shared;
        if let Err(outcome) = admitted {
            Accounting::new(time, accounts, capacity, telemetry).record(None, addr, outcome);
            if outcome == Outcome::Full {
                telemetry.info(fields!("concurrency-limited", limit = limit));
            }
            return proxy_header::close_unanswered(&mut wire, buffers);
        }
        let entry = self.sessions.vacant_entry();
        let key = SessionKey::of_index(entry.key());
        if let Err(e) = self.net.register(&mut wire, key.token(CLIENT_SLOT)) {
            telemetry.warn(fields!("adopt-failed", error = ?e));
            return;
        }
        self.accepted += 1;
        let id = self.accepted;
        event!(Debug, "accepted", id = id, client = %telemetry.shown(addr));
        telemetry.counters.clients.add(addr);
        let account = SessionAccount::new(buffers.memory.of_network(ClientPrefix::of(addr)));
        let session = Session::new(id, wire, peer, may_send_header, account, time.now);
        let session = entry.insert(session);
        if memory.socket_buffer(Class::Users, 0).is_some() {
            session.limit_buffers(memory, false);
        }
        self.queue(key);
    }

    /// Records what the poller reports about a socket of a session.
    fn on_ready(&mut self, token: usize, fresh: Readiness) {
        let (key, slot) = SessionKey::of_token(token);
        if let Some(session) = self.sessions.get_mut(key.index())
            && session.on_ready(slot, fresh)
        {
            self.queue(key);
        }
    }

    /// Queues the session of a token, such as when its lookup ends.
    fn wake(&mut self, token: usize) {
        self.queue(SessionKey::of_token(token).0);
    }

    /// Fires due timers and lets queued sessions take one step each, until they have moved enough
    /// bytes for a round.
    fn run_ready(&mut self) {
        self.shared.telemetry.flush_due();
        self.fire_timers();
        let mut left = self.round_cost();
        self.is_cut = false;
        for _ in 0..self.ready.len() {
            self.is_cut = left == 0;
            let next = if self.is_cut { None } else { self.next_ready() };
            let Some(session) = next else { break };
            left = left.saturating_sub(self.step(SessionKey::of_index(session as usize), left));
        }
        self.wake_for_memory();
        self.relieve_memory();
        if self.shared.limits.throttle.is_some()
            && self.shared.accounts.users.total_connections() > 0
            && !self.wheel.is_set(TIMER_THROTTLE)
        {
            self.arm_throttle();
        }
        self.log_throttle();
    }

    /// The cost after which a round ends: less while short messages come.
    fn round_cost(&self) -> u32 {
        match self.shared.time.now < self.last_short + SHORT_MESSAGES {
            true => ROUND_COST,
            // In proportion to the reads, which are smaller on slow machines.
            false => self.shared.buffers.slots as u32 * ROUND_COST_PER_SLOT,
        }
    }

    /// Takes the next session that the rate permits to run, and sets how much it may read.
    fn next_ready(&mut self) -> Option<u32> {
        let now = self.shared.time.now.0;
        let Some(rate) = self.shared.limits.rate.as_ref().filter(|_| !self.draining) else {
            self.shared.buffers.read_max = usize::MAX;
            return self.ready.pop(false);
        };
        let allowed = [false, true].map(|is_sparse| rate.allowance(is_sparse, now));
        let read_max = allowed.iter().flatten().next()?;
        self.shared.buffers.read_max = *read_max as usize;
        self.ready.pop(allowed[0].is_none())
    }

    /// When the next queued session may run; `None` = no session is queued.
    fn ready_at(&self) -> Option<Tick> {
        let now = self.shared.time.now;
        match self.shared.limits.rate.as_ref().filter(|_| !self.draining) {
            _ if self.ready.is_empty() => None,
            None => Some(now),
            Some(rate) => Some(Tick(rate.due(self.ready.has_sparse(), now.0))),
        }
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.wheel.pop_due(self.shared.time.now) {
            let Some(key) = SessionKey::of_timer(timer) else {
                self.recompute_caps();
                continue;
            };
            self.shared.telemetry.counters.state_changed = true;
            if let Some(session) = self.sessions.get_mut(key.index()) {
                session.armed = None;
            }
            self.queue(key);
        }
    }

    /// Queues as many waiting sessions as there is memory for.
    fn wake_for_memory(&mut self) {
        if self.memory_waiters.count() == 0 {
            return;
        }
        for key in self.memory_waiters.wake(&self.shared.buffers.memory.budget) {
            if let Some(session) = self.sessions.get_mut(key.index()) {
                session.needs_memory = 0;
            }
            self.queue(key);
        }
    }

    /// Starts a graceful drain: closes the listeners for clients, and reads no more; sessions close
    /// once flushed.
    pub fn drain(&mut self) {
        self.listeners.close_clients();
        self.draining = true;
        for key in self.keys() {
            let Some(session) = self.sessions.get(key.index()) else { continue };
            match session.was_connected() {
                true => self.queue(key),
                false => self.close(key, Outcome::Drained),
            }
        }
    }

    /// The keys of all sessions, for calls that change the slab.
    fn keys(&self) -> Vec<SessionKey> {
        self.sessions.iter().map(|(index, _)| SessionKey::of_index(index)).collect()
    }

    fn queue(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get(key.index()) {
            self.ready.push(session.flow(&self.shared.accounts.users), key.number());
        }
    }

    /// Steps the session that was taken from the queue, again until it has nothing to do or has
    /// cost `most`. Returns the cost in bytes.
    fn step(&mut self, key: SessionKey, most: u32) -> u32 {
        let Self { sessions, shared, net, .. } = self;
        let Some(session) = sessions.get_mut(key.index()) else { return 0 };
        let is_opening = session.flow(&shared.accounts.users) == Flow::OPENING;
        let was_connected = session.was_connected();
        if !was_connected {
            self.last_handshake = shared.time.now;
        }
        let before = shared.telemetry.counters.read_bytes;
        let mut bytes = 0;
        let turn = loop {
            let turn = session.step(key, shared, net, self.draining);
            let had = std::mem::replace(&mut bytes, shared.telemetry.counters.read_bytes - before);
            let may_go_on = shared.limits.rate.is_none() && bytes > had && bytes < most.into();
            if turn != Turn::Again || !may_go_on {
                break turn;
            }
        };
        if let Some(rate) = &mut shared.limits.rate {
            rate.take(bytes, shared.time.now.0);
        }
        if turn != Turn::Again && (1..SHORT).contains(&bytes) {
            self.last_short = shared.time.now;
        }
        let cost =
            if is_opening && shared.limits.rate.is_none() { OPENING_STEP_COST } else { STEP_COST };
        let cost = u32::try_from(bytes).unwrap_or(COST_MAX).saturating_add(cost);
        let again = (turn == Turn::Again).then(|| session.flow(&shared.accounts.users));
        session.client.account.trim();
        if !was_connected && session.was_connected() {
            session.limit_buffers(&shared.memory, false);
        }
        self.ready.stepped(key.number(), cost, again);
        self.after_step(key, turn);
        cost
    }

    /// Does what the session wants next, and sets its deadline.
    fn after_step(&mut self, key: SessionKey, turn: Turn) {
        let Self { sessions, shared, .. } = self;
        let Some(session) = sessions.get_mut(key.index()) else { return };
        match turn {
            Turn::Close(outcome) => return self.close(key, outcome),
            Turn::NeedMemory(bytes) if session.needs_memory == 0 => {
                session.needs_memory = bytes;
                self.memory_waiters.add(key, bytes, session.client.account.owner());
            }
            Turn::NeedMemory(_) | Turn::Again | Turn::Wait => {}
        }
        let due = session.due(&shared.settings, shared.time.now);
        if session.armed.is_none_or(|armed| due < armed) {
            session.armed = Some(due);
            self.wheel.set(key.timer(), due);
        }
        self.enforce_limits(key);
    }

    /// Closes a session and removes it. No other function removes one.
    fn close(&mut self, key: SessionKey, outcome: Outcome) {
        let Some(mut session) = self.sessions.try_remove(key.index()) else { return };
        self.wheel.clear(key.timer());
        self.ready.remove(key.number());
        if session.needs_memory > 0 {
            // Otherwise memory that is given back would wake no session.
            self.memory_waiters.remove(key);
        }
        session.finish(outcome, &mut self.shared);
    }

    fn recompute_caps(&mut self) {
        let Some(throttle) = &mut self.shared.limits.throttle else { return };
        throttle.recompute(self.shared.accounts.users.connections());
        if self.shared.accounts.users.total_connections() > 0 || throttle.is_active() {
            self.arm_throttle();
        }
    }

    /// Logs when the throttle becomes active or inactive, by its timer or by an admission.
    fn log_throttle(&mut self) {
        let Some(throttle) = &self.shared.limits.throttle else { return };
        let is_active = throttle.is_active();
        if std::mem::replace(&mut self.throttle_logged_active, is_active) == is_active {
            return;
        }
        self.shared.telemetry.counters.state_changed = true;
        let limit = throttle.limit();
        match is_active {
            true => event!(Warn, "throttle", active = true, limit = limit),
            false => event!(Info, "throttle", active = false, limit = limit),
        }
    }

    fn arm_throttle(&mut self) {
        let Some(share) = &self.shared.settings.throttle else { return };
        self.wheel.set(TIMER_THROTTLE, self.shared.time.now + share.check_interval);
    }
}

fn new_statsd<D: DatagramSocket>(shared: &Shared) -> Option<Statsd<D>> {
    let settings = shared.settings.statsd.clone().filter(|_| HAS_METRICS)?;
    Some(Statsd::new(settings, &shared.view()))
}

/// The poller is asked after this many bytes, so that a short message does not wait for many large
/// reads.
const ROUND_COST: u32 = 128 << 10;
/// The same without short messages, for each record of a read.
const ROUND_COST_PER_SLOT: u32 = 48 << 10;
/// Bytes. A step that reads fewer has read a short message.
const SHORT: u64 = 4 << 10;
/// Rounds stay short for this long after a short message.
const SHORT_MESSAGES: Duration = Duration::from_millis(10);
/// A step costs as much time as this many bytes of a download, and one before the verdict more:
/// it computes hashes.
const STEP_COST: u32 = 1 << 10;
const OPENING_STEP_COST: u32 = 16 << 10;
