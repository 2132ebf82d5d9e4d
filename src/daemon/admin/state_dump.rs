//! What a USR1 writes to the log: everything that an operator wants to know in one look, a line
//! for each part of the program. Never a secret, and no address of a client.

use std::time::{Duration, UNIX_EPOCH};

use crate::daemon::Daemon;
use crate::daemon::session::Stage;
use crate::daemon::session::relay::Transform;
use crate::daemon::world::World;
use crate::io::wire::Net;

impl<N: Net> Daemon<N> {
    /// The lines. `errands` are the fetches that run now.
    pub fn report(&self, errands: usize) -> Vec<String> {
        let world = &self.world;
        let mut lines = vec![self.census(), people(world), strangers(world), memory(world)];
        lines.push(format!(
            "event=state-fetches names={} names_wanted={} errands_running={errands} \
             errands_waiting={} jobs={} bad_addresses={} unreachable={}",
            world.names.count(),
            world.names.wanted(),
            world.errands.len(),
            world.agenda.count(),
            world.bad.count(world.now),
            world.meter.unreachable,
        ));
        lines.extend(world.throttle.as_ref().map(|throttle| {
            format!(
                "event=state-throttle active={} limit={} capped={} throttled={}",
                throttle.is_active(),
                throttle.limit(),
                throttle.caps().flatten().count(),
                world.meter.throttled,
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
        lines.extend(world.routes.proxies(world.now).map(|(address, circuit, way)| {
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
        let [mut opening, mut dialling, mut relayed, mut at_the_site, mut leaving] = [0u32; 5];
        for (_, session) in &self.sessions {
            let count = match &session.stage {
                Stage::AwaitProxyHeader(_) | Stage::AwaitClientHello(_) | Stage::AwaitFrame(_) => {
                    &mut opening
                }
                Stage::Dial(_) => &mut dialling,
                Stage::Relay(pipe) => match pipe.lanes {
                    Transform::Mtproto(_) => &mut relayed,
                    Transform::Plain => &mut at_the_site,
                },
                Stage::Leave { .. } => &mut leaving,
            };
            *count += 1;
        }
        format!(
            "event=state uptime_s={} sessions={} of={} accepted={} opening={opening} \
             dialling={dialling} relayed={relayed} at_the_site={at_the_site} leaving={leaving} \
             concurrency_limited={} pressed={}",
            self.world.now.0 / 1000,
            self.sessions.len(),
            self.most_sessions,
            self.accepted,
            self.world.meter.concurrency_limited,
            self.world.meter.pressed,
        )
    }
}

fn people(world: &World) -> String {
    let users = || world.users.iter();
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
        world.users.live(),
    )
}

fn strangers(world: &World) -> String {
    format!(
        "event=state-probes fronted={} of={} fronted_ever={} replays={} bad_headers={} \
         bytes_in={} bytes_out={}",
        world.fronted,
        world.front_cap,
        world.meter.fronted,
        world.meter.replays,
        world.meter.bad_headers,
        world.meter.front.from_client,
        world.meter.front.to_client,
    )
}

fn memory(world: &World) -> String {
    format!(
        "event=state-memory buffers={} of={} starved={} hello_bytes={} hello_room={} \
         replay_bytes={} tight={}",
        world.pool.in_use(),
        world.pool.capacity(),
        world.starved.len(),
        world.hello_bytes,
        world.hello_room(),
        world.replay.as_ref().map_or(0, |replay| replay.bytes()),
        world.is_tight(),
    )
}

/// Those with the most connections, the busiest first; who has none is not named.
fn busiest(world: &World) -> Vec<String> {
    let mut top: Vec<_> = Vec::with_capacity(NAMED + 1);
    for (user, connections) in world.users.iter().filter(|(_, connections)| *connections > 0) {
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
