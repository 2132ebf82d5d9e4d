//! The log lines that SIGUSR1 writes: the state of the daemon, one line for each part. They contain
//! no secret and no address of a client.

use std::time::{Duration, UNIX_EPOCH};

use crate::accounts::Accounts;
use crate::accounts::users::User;
use crate::daemon::admin::view::View;

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
    /// Waiting for a block of the buffer pool.
    pub starved: usize,
}

/// The lines. `tasks_running` is the number of fetch tasks with a connection.
pub fn lines(view: &View<'_>, sessions: &SessionCounts, tasks_running: usize) -> Vec<String> {
    let counters = &view.telemetry.counters;
    let mut lines = vec![
        state(view, sessions),
        users(view.accounts),
        probes(view),
        memory(view, sessions.starved),
        fetches(view, tasks_running),
    ];
    lines.extend(view.limits.throttle.as_ref().map(|throttle| {
        format!(
            "event=state-throttle active={} limit={} capped={} throttled={}",
            throttle.is_active(),
            throttle.limit(),
            throttle.caps().flatten().count(),
            counters.throttled,
        )
    }));
    lines.extend(view.lists.iter().map(|(kind, list)| {
        let updated = list.updated().map_or("never".to_owned(), rfc_3339_seconds);
        format!(
            "event=state-list name={} entries={} bad_lines={} refused={} updated={updated}",
            kind.as_str(),
            list.entries(),
            list.bad_lines(),
            list.refused,
        )
    }));
    lines.extend(view.outbound.upstreams.proxies(view.time.now).map(
        |(address, circuit, proxy)| {
            format!(
                "event=state-proxy proxy={address} state={} dials={} failures={} last_error={:?}",
                circuit.as_str(),
                proxy.dials,
                proxy.failures,
                proxy.last_error.as_deref().unwrap_or_default(),
            )
        },
    ));
    lines.extend(busiest_users(view.accounts));
    lines
}

fn state(view: &View<'_>, sessions: &SessionCounts) -> String {
    let SessionCounts {
        total, max, accepted, opening, dialling, relayed, fronted, closing, ..
    } = sessions;
    let counters = &view.telemetry.counters;
    format!(
        "event=state uptime_s={} sessions={total} of={max} accepted={accepted} opening={opening} \
         dialling={dialling} relayed={relayed} fronted={fronted} closing={closing} \
         concurrency_limited={} pressed={}",
        view.time.now.0 / 1000,
        counters.concurrency_limited,
        counters.pressed,
    )
}

fn users(accounts: &Accounts) -> String {
    let users = || accounts.users.iter();
    let (bytes_in, bytes_out) = users().fold((0u64, 0u64), |(bytes_in, bytes_out), (user, _)| {
        (bytes_in.saturating_add(user.bytes_in), bytes_out.saturating_add(user.bytes_out))
    });
    format!(
        "event=state-users users={} disabled={} seen={} connected={} connections={} \
         bytes_in={bytes_in} bytes_out={bytes_out}",
        users().count(),
        users().filter(|(user, _)| !user.is_enabled()).count(),
        users().filter(|(user, _)| user.last_seen_ms.is_some()).count(),
        users().filter(|(_, connections)| *connections > 0).count(),
        accounts.users.total_connections(),
    )
}

fn probes(view: &View<'_>) -> String {
    let counters = &view.telemetry.counters;
    format!(
        "event=state-probes fronted={} of={} fronted_ever={} replays={} bad_headers={} \
         bytes_in={} bytes_out={}",
        view.capacity.fronted,
        view.capacity.fronted_max,
        counters.fronted,
        counters.replays,
        counters.bad_headers,
        counters.front.from_client,
        counters.front.to_client,
    )
}

fn memory(view: &View<'_>, starved: usize) -> String {
    format!(
        "event=state-memory buffers={} of={} starved={starved} hello_bytes={} hello_room={} \
         replay_bytes={} tight={}",
        view.buffers.pool.in_use(),
        view.buffers.pool.capacity(),
        view.buffers.hello_bytes,
        view.buffers.hello_bytes_max(),
        view.limits.replay.as_ref().map_or(0, |replay| replay.bytes()),
        view.buffers.is_tight(),
    )
}

fn fetches(view: &View<'_>, tasks_running: usize) -> String {
    format!(
        "event=state-fetches names={} names_wanted={} tasks_running={tasks_running} \
         tasks_waiting={} jobs={} bad_addresses={} unreachable={}",
        view.outbound.dns.count(),
        view.outbound.dns.pending(),
        view.fetch.queue.len(),
        view.fetch.schedule.count(),
        view.outbound.bad_addresses.count(view.time.now),
        view.telemetry.counters.unreachable,
    )
}

/// The users with the most connections, in descending order; users without one are left out.
fn busiest_users(accounts: &Accounts) -> Vec<String> {
    let mut top: Vec<(&User, u32)> = Vec::with_capacity(USERS_SHOWN + 1);
    for (user, connections) in accounts.users.iter().filter(|(_, connections)| *connections > 0) {
        let at = top.iter().position(|(_, other)| connections > *other).unwrap_or(top.len());
        top.insert(at, (user, connections));
        top.truncate(USERS_SHOWN);
    }
    let line = |(user, connections): &(&User, u32)| {
        format!(
            "event=state-user user={:?} connections={connections} bytes_in={} bytes_out={}",
            user.name(),
            user.bytes_in,
            user.bytes_out,
        )
    };
    top.iter().map(line).collect()
}

fn rfc_3339_seconds(since_1970: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

const USERS_SHOWN: usize = 5;
