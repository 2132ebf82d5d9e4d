//! What must hold: while nothing moves, and when everybody has left.

use mtbox::daemon::shared::World;

use crate::cable::{Cable, Link};
use crate::client::Phase;
use crate::ledger;
use crate::peer::Last;
use crate::play::Play;
use crate::trace::Failure;

/// Checked whenever nobody has anything to do without the passing of time.
///
/// # Errors
/// What does not hold.
pub fn at_rest(play: &Play) -> Result<(), Failure> {
    let hub = play.hub.borrow();
    let world = &play.daemon.world;
    if world.buffers.pool.in_use() > world.buffers.pool.capacity() {
        return Err("more blocks are lent than there are".to_owned().into());
    }
    let full = |c: &Cable| !c.closed && !c.broken && !c.outward.is_writable();
    if world.buffers.pool.in_use() > 0 && !hub.cables.iter().any(full) {
        let lent = world.buffers.pool.in_use();
        return Err(format!("{lent} blocks are held although every socket is writable").into());
    }
    if play.daemon.sessions() == 0
        && world.limits.throttle.is_none()
        && play.daemon.next_due().is_some()
    {
        return Err("a timer runs for nobody".to_owned().into());
    }
    for (near, far) in pairs(&hub.cables) {
        let (client, server) = (&hub.cables[near], far.map(|id| &hub.cables[id]));
        if client.broken && server.is_none() {
            let why = "the client has reset, and its session goes on".to_owned();
            return Err(Failure::of(client.client, why));
        }
        if let Some(server) = server.filter(|_| !play.is_drained()) {
            let failure = |e: &str| Failure::of(client.client, e.to_owned());
            flows(client, server, world).map_err(failure)?;
            // A shaped download may stand still for a moment, but never for long.
            let served = client.served.max(server.served);
            let relayed = play.clients[client.client].phase == Phase::Relayed;
            let shaped = play.scene.settings.shape.is_some() && relayed;
            if !shaped || hub.now > served + PACE_MS {
                flows(server, client, world).map_err(failure)?;
            }
        }
    }
    Ok(())
}

/// Limits that hold at every moment.
///
/// # Errors
/// What does not hold.
pub fn limits(play: &Play) -> Result<(), String> {
    let (world, scene) = (&play.daemon.world, &play.scene);
    if play.daemon.sessions() > scene.most_sessions {
        return Err(format!("{} sessions", play.daemon.sessions()));
    }
    if world.capacity.fronted > world.capacity.fronted_max {
        return Err(format!("{} sessions are fronted", world.capacity.fronted));
    }
    let share = scene.settings.throttle.map_or(u32::MAX, |throttle| throttle.max_connections);
    match world.accounts.users.connections().iter().find(|count| **count > share) {
        Some(count) => Err(format!("a user has {count} connections of {share}")),
        None => Ok(()),
    }
}

/// Nothing happens before `at`: is every silent session over by then?
///
/// # Errors
/// Which one is not.
pub fn until(play: &Play, at: u64) -> Result<(), Failure> {
    let hub = play.hub.borrow();
    let drained_at = play.scene.drain_at.filter(|_| play.is_drained());
    if drained_at.is_some_and(|begun| at > begun + STALL_MS + LEAVE_MS)
        && play.daemon.sessions() > 0
    {
        return Err(format!("{} sessions survive a drain", play.daemon.sessions()).into());
    }
    for (near, far) in pairs(&hub.cables) {
        let (client, server) = (&hub.cables[near], far.map(|id| &hub.cables[id]));
        let over = over_at(play, client, server);
        if at > over {
            let why = format!("it may live until {over} ms, but nothing ends it");
            return Err(Failure::of(client.client, why));
        }
    }
    Ok(())
}

/// Bytes at hand and room for them: then something must have moved already.
fn flows(from: &Cable, to: &Cable, world: &World) -> Result<(), &'static str> {
    let can = to.outward.is_writable() && world.buffers.spare_blocks() > 0 && !to.broken;
    if from.broken || !can || to.outward.fin {
        return Ok(());
    }
    if from.inward.ready() > 0 {
        return Err("bytes stand still although the other side has room");
    }
    if from.inward.fin_arrived && !from.fin_read {
        return Err("a FIN stands still although the other side has room");
    }
    // Whatever is writable at rest has nothing unsent before it.
    if from.fin_read && !to.outward.fin {
        return Err("a FIN was read and not passed on");
    }
    Ok(())
}

/// The open connections of clients, each with the connection made for it.
fn pairs(cables: &[Cable]) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
    let open = |(_, cable): &(usize, &Cable)| !cable.closed && cable.dialled.is_none();
    cables.iter().enumerate().filter(open).map(|(near, client)| {
        let far = cables.iter().position(|c| {
            c.client == client.client && c.dialled.is_some() && !c.closed && c.link == Link::Up
        });
        (near, far)
    })
}

/// When a session must be over if not another byte moves.
fn over_at(play: &Play, client: &Cable, server: Option<&Cable>) -> u64 {
    let timeouts = &play.scene.settings.timeouts;
    let idle = timeouts.idle.as_millis() as u64;
    let phase = play.clients[client.client].phase;
    if let Some(server) = server {
        let half = client.fin_read || server.fin_read;
        let idle = match phase {
            Phase::Relayed if half => idle.min(HALF_CLOSED_MS),
            Phase::Relayed => idle,
            _ => idle.min(FRONT_IDLE_MS),
        };
        return client.moved.max(server.moved) + idle.max(STALL_MS) + LEAVE_MS;
    }
    let hub = play.hub.borrow();
    let dialled = hub.cables.iter().any(|c| c.client == client.client && c.dialled.is_some());
    let greeted = client.born + ACCEPT_MS + timeouts.handshake.as_millis() as u64;
    if dialled || play.is_resolving() {
        let dials = timeouts.tcp.as_millis() as u64 * MOST_ADDRESSES;
        greeted + LOOKUP_MS + dials + LEAVE_MS
    } else if client.log.is_empty() {
        greeted
    } else {
        greeted + LEAVE_MS
    }
}

/// Checked when the last session is gone and the last timer has fired.
///
/// # Errors
/// What does not hold.
pub fn at_the_end(play: &Play) -> Result<(), Failure> {
    let world = &play.daemon.world;
    let meter = &world.telemetry.counters;
    let telegram: u64 = meter.telegram.rows().iter().map(|row| row.connections).sum();
    let left = [
        ("sessions", play.daemon.sessions()),
        ("blocks", world.buffers.pool.in_use()),
        ("live users", world.accounts.users.total_connections() as usize),
        ("fronted sessions", world.capacity.fronted as usize),
        ("bytes of hellos", world.buffers.hello_bytes),
        ("starved sessions", play.daemon.starved()),
        ("connections by user", world.accounts.users.connections().iter().sum::<u32>() as usize),
        ("clients in the metrics", (meter.clients.v4 + meter.clients.v6) as usize),
        ("strangers in the metrics", (meter.fronting.v4 + meter.fronting.v6) as usize),
        ("connections to Telegram in the metrics", telegram as usize),
    ];
    if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
        return Err(format!("{count} {what} are left over").into());
    }
    if play.daemon.next_due().is_some() {
        return Err("a timer is left over".to_owned().into());
    }
    if play.hub.borrow().cables.iter().any(|cable| !cable.closed) {
        return Err("a socket is left open".to_owned().into());
    }
    for number in 0..play.clients.len() {
        let client = &play.clients[number];
        if client.plan.guaranteed {
            complete(play, number).map_err(|e| Failure::of(number, e))?;
        }
        let last = client.peer.as_ref().and_then(|peer| peer.last);
        if client.plan.turned_away && last != Some(Last::Fin) {
            return Err(Failure::of(number, format!("turned away with {last:?}")));
        }
    }
    ledger::counters(play)?;
    ledger::ends(play)
}

/// An honest session has got everything through, and both sides saw a decent end.
fn complete(play: &Play, number: usize) -> Result<(), String> {
    let client = &play.clients[number];
    let server = play.servers.iter().filter(|s| s.client == number).max_by_key(|s| s.seen);
    let phase = if client.plan.member.is_some() { Phase::Relayed } else { Phase::Plain };
    if client.phase != phase {
        return Err(format!("{:?} instead of {phase:?}", client.phase));
    }
    let Some(server) = server else { return Err("nobody was dialled for it".to_owned()) };
    let sent = if server.is_front { client.transcript.len() } else { client.plan.up };
    if (server.seen, client.seen) != (sent, client.plan.down) {
        return Err(format!(
            "{} of {sent} bytes came up, {} of {} down",
            server.seen, client.seen, client.plan.down
        ));
    }
    let ends = [client.peer.as_ref().and_then(|peer| peer.last), server.peer.last];
    if ends != [Some(Last::Fin); 2] {
        return Err(format!("the ends of an honest session are {ends:?}"));
    }
    Ok(())
}

const LOOKUP_MS: u64 = 10_000;
/// The longest delay between two records, and the wait of a few bytes for company.
const PACE_MS: u64 = 1_000 + 3;
const HALF_CLOSED_MS: u64 = 30_000;
const FRONT_IDLE_MS: u64 = 120_000;
/// A stalled reader, then the farewell.
const STALL_MS: u64 = 30_000;
const LEAVE_MS: u64 = 3_000;
/// From the client's connect to our accept.
const ACCEPT_MS: u64 = 5;
const MOST_ADDRESSES: u64 = 8;
