//! The state that the admin pages show.

use crate::accounts::Accounts;
use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::fetch::state::FetchState;
use crate::daemon::session::buffers::Buffers;
use crate::daemon::session::capacity::Capacity;
use crate::daemon::time::Time;
use crate::daemon::upstream::outbound::Outbound;
use crate::limits::Limits;
use crate::limits::memory_level::MemoryUse;

/// The owners of the daemon's state, borrowed for one answer. A page can read, not change.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The loaded config.
    pub settings: &'a Settings,
    /// The time of this round.
    pub time: &'a Time,
    /// The users, their counters and totals.
    pub accounts: &'a Accounts,
    /// The throttle and the replay store.
    pub limits: &'a Limits,
    /// The blocklist and the allowlist.
    pub lists: &'a IpLists,
    /// Host names, bad addresses and the circuits of the SOCKS proxies.
    pub outbound: &'a Outbound,
    /// The schedule and the queue of fetch tasks.
    pub fetch: &'a FetchState,
    /// The buffer pool.
    pub buffers: &'a Buffers,
    /// The limit of all memory, and how short it is.
    pub memory: &'a MemoryUse,
    /// The limits of the number of sessions.
    pub capacity: &'a Capacity,
    /// Counters, causes of refusals, and the log.
    pub telemetry: &'a Telemetry,
}
