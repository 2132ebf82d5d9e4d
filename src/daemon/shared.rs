//! The state that sessions, fetches and pages share, one field per owner.

use std::rc::Rc;

use crate::accounts::Accounts;
use crate::accounts::users::{ConfiguredUser, Users};
use crate::config::settings::{Settings, UserSettings};
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::FetchContext;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::fetch::state::FetchState;
use crate::daemon::session::buffers::Buffers;
use crate::daemon::session::capacity::Capacity;
use crate::daemon::time::Time;
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::flow::authenticate::AuthContext;
use crate::io::clock::{Tick, Wall};
use crate::limits::Limits;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;
use crate::mimicry::Mimicry;
use crate::util::drbg::Drbg;

/// Everything beside the sessions themselves. A handler takes the fields that it uses.
pub struct Shared {
    /// The settings of the config.
    pub settings: Rc<Settings>,
    /// The time of this round.
    pub time: Time,
    /// Random bytes for keys, noise and shuffles.
    pub drbg: Drbg,
    /// Memory for bytes of clients.
    pub buffers: Buffers,
    /// How many sessions there may be.
    pub capacity: Capacity,
    /// The users and what is counted for them.
    pub accounts: Accounts,
    /// What a hello is checked against besides the keys.
    pub limits: Limits,
    /// Which addresses may connect.
    pub lists: IpLists,
    /// What was learned of the fronts.
    pub mimicry: Mimicry,
    /// What outgoing connections use.
    pub outbound: Outbound,
    /// Background fetches.
    pub fetch: FetchState,
    /// What the operator learns.
    pub telemetry: Telemetry,
}

impl Shared {
    /// Empty state for these settings. `seed` makes the random bytes; `blocks_max` bounds the pool
    /// of buffers; `slots` is the number of records per read.
    pub fn new(settings: Rc<Settings>, seed: [u8; 48], blocks_max: usize, slots: usize) -> Self {
        let users = Users::new(configured_users(&settings));
        let throttle =
            settings.throttle.map(|t| Throttle::new(t.max_connections, settings.users.len()));
        let replay = settings
            .replay
            .map(|r| Replay::new(usize::try_from(r.max_bytes).unwrap_or(usize::MAX)));
        let (mut drbg, hosts) = (Drbg::new(seed), users.hosts().count());
        Self {
            time: Time::default(),
            buffers: Buffers::new(blocks_max, slots),
            capacity: Capacity::default(),
            accounts: Accounts { users, totals: None },
            limits: Limits { throttle, replay, ..Limits::default() },
            lists: IpLists::new(&settings),
            mimicry: Mimicry::new(hosts, &mut drbg),
            outbound: Outbound::new(&settings),
            fetch: FetchState::new(hosts),
            telemetry: Telemetry::new(settings.log_addresses),
            drbg,
            settings,
        }
    }

    /// Takes the time of a new round.
    pub fn set_time(&mut self, now: Tick, wall: Wall) {
        self.time.set(now, wall);
        self.telemetry.set_time(now);
    }

    /// What decides about a hello.
    pub fn auth_context(&mut self) -> AuthContext<'_> {
        AuthContext {
            unix_s: (!self.time.is_unset()).then_some(self.time.wall.unix_s),
            users: &self.accounts.users,
            replay: self.limits.replay.as_mut(),
            throttle: self.limits.throttle.as_mut(),
            hello_rate: &mut self.limits.hello_rate,
            now_ms: self.time.now.0,
            tolerance_s: self.settings.time_skew.as_secs(),
        }
    }

    /// What background fetches use and change.
    pub fn fetch_context(&mut self) -> FetchContext<'_> {
        FetchContext {
            settings: &self.settings,
            time: self.time,
            drbg: &mut self.drbg,
            scratch: &mut self.buffers.scratch,
            users: &self.accounts.users,
            lists: &mut self.lists,
            mimicry: &mut self.mimicry,
            outbound: &mut self.outbound,
            fetch: &mut self.fetch,
            telemetry: &mut self.telemetry,
        }
    }

    /// What lookups and outgoing connections use.
    pub fn connect_context(&mut self) -> ConnectContext<'_> {
        ConnectContext {
            now: self.time.now,
            settings: &self.settings,
            outbound: &mut self.outbound,
            drbg: &mut self.drbg,
            log: &mut self.telemetry.log,
        }
    }

    /// Records why a user was refused or lost a session.
    pub fn record_user(
        &mut self,
        user: crate::accounts::users::UserId,
        cause: crate::accounts::recorder::Cause,
        detail: crate::accounts::recorder::Detail,
    ) {
        self.telemetry.record_user(&mut self.accounts.users, user, cause, detail);
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
