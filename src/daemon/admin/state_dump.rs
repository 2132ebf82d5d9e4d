//! The log lines that SIGUSR1 writes: the state of the daemon, one line for each part. They contain
//! no secret and no address of a client.

use std::time::{Duration, UNIX_EPOCH};

use crate::accounts::Accounts;
use crate::accounts::users::User;
use crate::daemon::admin::AdminCounts;
use crate::daemon::admin::view::View;
use crate::io::logger::{self, LogFields, fields};
use crate::util::log_settings::LogLevel;
use crate::util::memory::Class;

/// The number of sessions by phase.
#[derive(Debug, Default, Clone, Copy)]
pub struct SessionCounts {
    /// All live sessions.
    pub total: usize,
    /// Most sessions at once.
    pub max: usize,
    /// Connections that became sessions since start.
    pub accepted: u64,
    /// Before the end of the handshake with the client.
    pub opening: u32,
    /// Connecting to Telegram or to the front.
    pub dialling: u32,
    /// Relays between a user and Telegram.
    pub relayed: u32,
    /// Relays between an unauthenticated client and the front.
    pub fronted: u32,
    /// Flushing the last bytes to the client.
    pub closing: u32,
    /// Waiting for memory.
    pub starved: usize,
}

/// Logs the state at any log level: the operator asked for them. `tasks_running` is the number
/// of fetch tasks with a connection.
pub fn log(view: &View<'_>, sessions: &SessionCounts, pages: &AdminCounts, tasks_running: usize) {
    let counters = &view.telemetry.counters;
    state(view, sessions);
    users(view.accounts);
    probes(view);
    memory(view, sessions.starved);
    fetches(view, tasks_running);
    put(fields! {
        "state-pages", connections = pages.connections, accepted = pages.accepted,
        written = pages.written, evicted = pages.evicted, refused = pages.refused
    });
    if let Some(throttle) = &view.limits.throttle {
        put(fields! {
            "state-throttle", active = throttle.is_active(), limit = throttle.limit(),
            capped = throttle.caps().flatten().count(), throttled = counters.throttled
        });
    }
    for (kind, list) in view.lists.iter() {
        let updated = list.updated().map_or("never".to_owned(), rfc_3339_seconds);
        put(fields!(
            "state-list", name = %kind.as_str(), entries = list.entries(),
            bad_lines = list.bad_lines(), refused = list.refused, updated = %updated
        ));
    }
    for (address, circuit, proxy) in view.outbound.upstreams.proxies(view.time.now) {
        put(fields!(
            "state-proxy", proxy = %address, state = %circuit.as_str(), dials = proxy.dials,
            failures = proxy.failures,
            last_error = ?proxy.last_error.as_deref().unwrap_or_default()
        ));
    }
    busiest_users(view.accounts);
}

fn state(view: &View<'_>, sessions: &SessionCounts) {
    let SessionCounts {
        total, max, accepted, opening, dialling, relayed, fronted, closing, ..
    } = *sessions;
    let counters = &view.telemetry.counters;
    put(fields! {
        "state", uptime_s = view.time.now.0 / 1000, sessions = total, of = max, accepted = accepted,
        opening = opening, dialling = dialling, relayed = relayed, fronted = fronted,
        closing = closing, concurrency_limited = counters.concurrency_limited,
        evicted = counters.evictions().map(|(.., count)| count).sum::<u64>(),
        pressed = counters.pressed
    });
}

fn users(accounts: &Accounts) {
    let users = || accounts.users.iter();
    let (bytes_in, bytes_out) = users().fold((0u64, 0u64), |(bytes_in, bytes_out), (user, _)| {
        (bytes_in.saturating_add(user.bytes_in), bytes_out.saturating_add(user.bytes_out))
    });
    put(fields! {
        "state-users", users = users().count(),
        disabled = users().filter(|(user, _)| !user.is_enabled()).count(),
        seen = users().filter(|(user, _)| user.last_seen_ms.is_some()).count(),
        connected = users().filter(|(_, connections)| *connections > 0).count(),
        connections = accounts.users.total_connections(), bytes_in = bytes_in, bytes_out = bytes_out
    });
}

fn probes(view: &View<'_>) {
    let counters = &view.telemetry.counters;
    put(fields! {
        "state-probes", fronted = view.capacity.fronted, of = view.capacity.fronted_max,
        fronted_ever = counters.fronted, replays = counters.replays,
        bad_headers = counters.bad_headers, bytes_in = counters.front.from_client,
        bytes_out = counters.front.to_client
    });
}

fn memory(view: &View<'_>, starved: usize) {
    put(fields! {
        "state-memory", buffers = view.buffers.pool.in_use(), of = view.buffers.blocks_max(),
        starved = starved, hello_bytes = view.buffers.bytes_beside_blocks(),
        hello_room = view.buffers.memory.budget.room(Class::Unauthenticated),
        replay_bytes = view.limits.replay.as_ref().map_or(0, |replay| replay.bytes()),
        tight = view.buffers.is_tight(), level = %view.memory.level().as_str(),
        limit = view.memory.limit(), resident = view.memory.resident, kernel = view.memory.kernel
    });
}

fn fetches(view: &View<'_>, tasks_running: usize) {
    put(fields! {
        "state-fetches", names = view.outbound.dns.count(),
        names_wanted = view.outbound.dns.pending(), tasks_running = tasks_running,
        tasks_waiting = view.fetch.queue.len(), jobs = view.fetch.schedule.count(),
        bad_addresses = view.outbound.bad_addresses.count(view.time.now),
        unreachable = view.telemetry.counters.unreachable
    });
}

/// Logs the users with the most connections, in descending order; users without one are left out.
fn busiest_users(accounts: &Accounts) {
    let mut top: Vec<(&User, u32)> = Vec::with_capacity(USERS_SHOWN + 1);
    for (user, connections) in accounts.users.iter().filter(|(_, connections)| *connections > 0) {
        let at = top.iter().position(|(_, other)| connections > *other).unwrap_or(top.len());
        top.insert(at, (user, connections));
        top.truncate(USERS_SHOWN);
    }
    for (user, connections) in top {
        put(fields!(
            "state-user", user = ?user.name(), connections = connections, bytes_in = user.bytes_in,
            bytes_out = user.bytes_out
        ));
    }
}

fn put(fields: LogFields<'_>) {
    logger::write(LogLevel::Info, fields);
}

fn rfc_3339_seconds(since_1970: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

const USERS_SHOWN: usize = 5;
