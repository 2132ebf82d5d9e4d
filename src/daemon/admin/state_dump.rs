//! What a USR1 writes to the log: everything that an operator wants to know in one look, a line
//! for each part of the program. Never a secret, and no address of a client.

use std::time::{Duration, UNIX_EPOCH};

use crate::daemon::shared::World;
use crate::daemon::{Daemon, SessionCounts};
use crate::io::wire::Net;

impl<N: Net> Daemon<N> {
    /// The lines. `errands` are the fetches that run now.
    pub fn report(&self, errands: usize) -> Vec<String> {
        let world = &self.world;
        let mut lines = vec![
            self.census(),
            people(world),
            strangers(world),
            memory(world, self.session_counts().need_block),
        ];
        lines.push(format!(
            "event=state-fetches names={} names_wanted={} errands_running={errands} \
             errands_waiting={} jobs={} bad_addresses={} unreachable={}",
            world.outbound.dns.count(),
            world.outbound.dns.wanted(),
            world.fetch.queue.len(),
            world.fetch.schedule.count(),
            world.outbound.bad_addresses.count(world.time.now),
            world.telemetry.counters.unreachable,
        ));
        lines.extend(world.limits.throttle.as_ref().map(|throttle| {
            format!(
                "event=state-throttle active={} limit={} capped={} throttled={}",
                throttle.is_active(),
                throttle.limit(),
                throttle.caps().flatten().count(),
                world.telemetry.counters.throttled,
            )
        }));
        lines.extend(world.lists.iter().map(|(which, list)| {
            let updated = list.updated().map_or("never".to_owned(), stamp);
            format!(
                "event=state-list name={} entries={} bad_lines={} refused={} updated={updated}",
                which.as_str(),
                list.entries(),
                list.bad_lines(),
                list.refused,
            )
        }));
        lines
            .extend(world.outbound.upstreams.proxies(world.time.now).map(|(address, circuit, way)| {
            format!(
                "event=state-proxy proxy={address} state={} dials={} failures={} last_error={:?}",
                circuit.as_str(),
                way.dials,
                way.failures,
                way.last_error.as_deref().unwrap_or_default(),
            )
        }));
        lines.extend(busiest(world));
        lines
    }

    /// How far the sessions have come.
    fn census(&self) -> String {
        let counts = self.session_counts();
        let SessionCounts { opening, dialling, relayed, fronted, closing, .. } = counts;
        format!(
            "event=state uptime_s={} sessions={} of={} accepted={} opening={opening} \
             dialling={dialling} relayed={relayed} at_the_site={fronted} leaving={closing} \
             concurrency_limited={} pressed={}",
            self.world.time.now.0 / 1000,
            counts.total,
            counts.most,
            counts.accepted,
            self.world.telemetry.counters.concurrency_limited,
            self.world.telemetry.counters.pressed,
        )
    }
}

fn people(world: &World) -> String {
    let users = || world.accounts.users.iter();
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
        world.accounts.users.total_connections(),
    )
}

fn strangers(world: &World) -> String {
    format!(
        "event=state-probes fronted={} of={} fronted_ever={} replays={} bad_headers={} \
         bytes_in={} bytes_out={}",
        world.capacity.fronted,
        world.capacity.fronted_max,
        world.telemetry.counters.fronted,
        world.telemetry.counters.replays,
        world.telemetry.counters.bad_headers,
        world.telemetry.counters.front.from_client,
        world.telemetry.counters.front.to_client,
    )
}

fn memory(world: &World, starved: u32) -> String {
    format!(
        "event=state-memory buffers={} of={} starved={} hello_bytes={} hello_room={} \
         replay_bytes={} tight={}",
        world.buffers.pool.in_use(),
        world.buffers.pool.capacity(),
        starved,
        world.buffers.hello_bytes,
        world.buffers.hello_bytes_max(),
        world.limits.replay.as_ref().map_or(0, |replay| replay.bytes()),
        world.buffers.is_tight(),
    )
}

/// Those with the most connections, the busiest first; who has none is not named.
fn busiest(world: &World) -> Vec<String> {
    let mut top: Vec<_> = Vec::with_capacity(NAMED + 1);
    for (user, connections) in
        world.accounts.users.iter().filter(|(_, connections)| *connections > 0)
    {
        let at = top.iter().position(|(_, other)| connections > *other).unwrap_or(top.len());
        top.insert(at, (user, connections));
        top.truncate(NAMED);
    }
    let line = |(user, connections): &(&crate::accounts::users::User, u32)| {
        format!(
            "event=state-user user={:?} connections={connections} bytes_in={} bytes_out={}",
            user.name(),
            user.bytes_in,
            user.bytes_out,
        )
    };
    top.iter().map(line).collect()
}

fn stamp(since_1970: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

const NAMED: usize = 5;
