//! The state of the daemon beside the sessions, one field per owner.

use std::rc::Rc;

use crate::accounts::Accounts;
use crate::accounts::users::{ConfiguredUser, Users};
use crate::config::settings::{Settings, UserSettings};
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::admin::view::View;
use crate::daemon::fetch::FetchContext;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::fetch::state::FetchState;
use crate::daemon::session::buffers::Buffers;
use crate::daemon::session::capacity::Capacity;
use crate::daemon::time::Time;
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::io::clock::{Tick, Wall};
use crate::limits::Limits;
use crate::limits::memory_level::MemoryUse;
use crate::limits::relay_rate::RelayRate;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;
use crate::mimicry::Mimicry;
use crate::util::drbg::Drbg;

/// The state that sessions, fetches and admin pages share. Each borrows the fields that it uses.
pub struct Shared {
    /// The loaded config.
    pub settings: Rc<Settings>,
    /// The time of this round.
    pub time: Time,
    /// Generates keys, noise and random orders.
    pub drbg: Drbg,
    /// The buffer pool and the scratch block.
    pub buffers: Buffers,
    /// The limit of all memory, and how short it is.
    pub memory: MemoryUse,
    /// Limits of the number of sessions.
    pub capacity: Capacity,
    /// The users, their counters and totals.
    pub accounts: Accounts,
    /// Throttle, replay store and rate limit of hellos.
    pub limits: Limits,
    /// The blocklist and the allowlist.
    pub lists: IpLists,
    /// Profiles of the fronts, key shares, and the timing of downloads.
    pub mimicry: Mimicry,
    /// Host names, addresses, upstreams and TLS roots.
    pub outbound: Outbound,
    /// The schedule and the queue of background fetches.
    pub fetch: FetchState,
    /// Counters, causes of refusals, and the log.
    pub telemetry: Telemetry,
}

impl Shared {
    /// The state of a new process. `seed` is the seed of the random generator, `blocks_max` the
    /// capacity of the buffer pool in blocks, `slots` the number of records per read.
    pub fn new(settings: Rc<Settings>, seed: [u8; 48], blocks_max: usize, slots: usize) -> Self {
        let users = Users::new(configured_users(&settings));
        let throttle =
            settings.throttle.map(|t| Throttle::new(t.max_connections, settings.users.len()));
        let rate = settings.relay_rate.map(|rate| RelayRate::new(rate, 0));
        let replay = settings
            .replay
            .map(|r| Replay::new(usize::try_from(r.max_bytes).unwrap_or(usize::MAX), 0));
        let (mut drbg, hosts) = (Drbg::new(seed), users.hosts().count());
        Self {
            time: Time::default(),
            buffers: Buffers::new(blocks_max, slots),
            memory: MemoryUse::new(u64::MAX, u64::MAX),
            capacity: Capacity::default(),
            accounts: Accounts { users, totals: None },
            limits: Limits { throttle, rate, replay, ..Limits::default() },
            lists: IpLists::new(&settings),
            mimicry: Mimicry::new(hosts, &mut drbg),
            outbound: Outbound::new(&settings),
            fetch: FetchState::new(hosts),
            telemetry: Telemetry::new(settings.log_addresses),
            drbg,
            settings,
        }
    }

    /// Sets the time of a new round.
    pub fn set_time(&mut self, now: Tick, wall: Wall) {
        self.time.set(now, wall);
        self.telemetry.set_time(now);
    }

    /// Sets the time of a new round, and resets the counters of a round.
    pub(super) fn begin_round(&mut self, now: Tick, wall: Wall) {
        self.set_time(now, wall);
        let counters = &mut self.telemetry.counters;
        (counters.reads, counters.read_bytes, counters.state_changed) = (0, 0, false);
    }

    /// The parts that the admin pages and statsd show.
    pub(super) fn view(&self) -> View<'_> {
        View {
            settings: &self.settings,
            time: &self.time,
            accounts: &self.accounts,
            limits: &self.limits,
            lists: &self.lists,
            outbound: &self.outbound,
            fetch: &self.fetch,
            buffers: &self.buffers,
            memory: &self.memory,
            capacity: &self.capacity,
            telemetry: &self.telemetry,
        }
    }

    /// The parts that background fetches use and change.
    pub fn fetch_context(&mut self) -> FetchContext<'_> {
        FetchContext {
            settings: &self.settings,
            time: self.time,
            drbg: &mut self.drbg,
            scratch: &mut self.buffers.scratch,
            account: &self.buffers.memory.fetches,
            users: &self.accounts.users,
            lists: &mut self.lists,
            mimicry: &mut self.mimicry,
            outbound: &mut self.outbound,
            fetch: &mut self.fetch,
            telemetry: &mut self.telemetry,
        }
    }

    /// The parts that lookups and outgoing connections use.
    pub fn connect_context(&mut self) -> ConnectContext<'_> {
        ConnectContext {
            now: self.time.now,
            settings: &self.settings,
            outbound: &mut self.outbound,
            drbg: &mut self.drbg,
            log: &mut self.telemetry.log,
            account: &self.buffers.memory.fetches,
            first_buffers: None,
        }
    }
}

/// The users of the config.
pub fn configured_users(settings: &Settings) -> impl Iterator<Item = ConfiguredUser<'_>> {
    settings.users.iter().map(|UserSettings { name, secret, enabled }| ConfiguredUser {
        name,
        secret,
        enabled: *enabled,
    })
}
