//! Invariants: while nothing can move, at every moment, and at the end of a run.

use mtbox::io::pool::BLOCK_LEN;
use mtbox::proto::http1::REQUEST_HEAD_MAX;
use mtbox::util::memory::Class;

use crate::accounting;
use crate::client::Phase;
use crate::driver::Driver;
use crate::link::{ConnectState, Link, NO_CLIENT};
use crate::peer::EndSeen;
use crate::script::Mix;
use crate::sockets;
use crate::trace::Failure;

/// Invariants of the moment when nothing can move before time advances.
///
/// # Errors
/// What does not hold.
pub fn check_idle(driver: &Driver) -> Result<(), Failure> {
    let network = driver.network.borrow();
    let shared = &driver.daemon.shared;
    if shared.buffers.pool.in_use() * BLOCK_LEN > shared.buffers.memory.budget.limit() {
        return Err("more blocks are in use than memory allows".to_owned().into());
    }
    let full = |c: &Link| !c.closed && !c.is_reset && !c.to_peer.is_writable();
    if shared.buffers.pool.in_use() > 0 && !network.links.iter().any(full) {
        let lent = shared.buffers.pool.in_use();
        return Err(format!("{lent} blocks are held although every socket is writable").into());
    }
    if driver.script.mix != Mix::Everything
        && driver.daemon.sessions() == 0
        && !driver.is_resolving()
        && shared.limits.throttle.is_none()
        && driver.daemon.due().is_some()
    {
        return Err("a timer runs without a session".to_owned().into());
    }
    if shared.outbound.dns.is_wanted() && !driver.is_resolving() {
        return Err("a lookup is wanted and not started".to_owned().into());
    }
    for (near, far) in pairs(&network.links) {
        let (client, server) = (&network.links[near], far.map(|id| &network.links[id]));
        if client.is_reset && server.is_none() {
            let why = "the client has reset, but its session continues".to_owned();
            return Err(Failure::of(client.client, why));
        }
        if server.is_none() && is_forgotten(driver, client) {
            let why = "its lookup has ended, and it was not woken".to_owned();
            return Err(Failure::of(client.client, why));
        }
        if let Some(server) = server.filter(|_| !driver.is_drained()) {
            let failure = |e: &str| Failure::of(client.client, e.to_owned());
            let relayed = driver.clients[client.client].phase == Phase::Relayed;
            let class = if relayed { Class::Users } else { Class::Unauthenticated };
            // One owner may have no more than twice of what is left.
            let budget = &shared.buffers.memory.budget;
            let room = budget.room(class);
            let has_memory = room >= BLOCK_LEN && budget.used_by(class) + BLOCK_LEN < 2 * room;
            // The FIN of a probe may wait for what the probe does with the front's answer.
            let is_held = !relayed && network.now <= client.fin_read_at + FIN_HOLD_MS;
            check_forwarded(client, server, has_memory, is_held).map_err(failure)?;
            // A shaped download may pause between two records.
            let last_io = client.last_io.max(server.last_io);
            let shaped = driver.script.settings.shape.is_some() && relayed;
            if !shaped || network.now > last_io + PACE_MS {
                check_forwarded(server, client, has_memory, false).map_err(failure)?;
            }
        }
    }
    Ok(())
}

/// Limits that hold at every moment.
///
/// # Errors
/// What does not hold.
pub fn check_limits(driver: &Driver) -> Result<(), String> {
    let (shared, script) = (&driver.daemon.shared, &driver.script);
    if driver.daemon.sessions() > script.most_sessions {
        return Err(format!("{} sessions", driver.daemon.sessions()));
    }
    let budget = &shared.buffers.memory.budget;
    let of_sessions = budget.used_by(Class::Users) + budget.used_by(Class::Unauthenticated);
    if driver.daemon.charged_bytes() != of_sessions {
        let own = driver.daemon.charged_bytes();
        return Err(format!("{own} bytes of sessions, but {of_sessions} in their classes"));
    }
    if shared.buffers.pool.in_use() * BLOCK_LEN > of_sessions {
        return Err(format!("{} blocks in {of_sessions} bytes", shared.buffers.pool.in_use()));
    }
    if shared.capacity.fronted > shared.capacity.fronted_max {
        return Err(format!("{} sessions are fronted", shared.capacity.fronted));
    }
    let share = script.settings.throttle.map_or(u32::MAX, |throttle| throttle.max_connections);
    match shared.accounts.users.connections().iter().find(|count| **count > share) {
        Some(count) => Err(format!("a user has {count} connections of {share}")),
        None => Ok(()),
    }
}

/// Nothing moves before `at`: every session must have ended at its deadline.
///
/// # Errors
/// The client whose session has not.
pub fn check_deadlines(driver: &Driver, at: u64) -> Result<(), Failure> {
    let network = driver.network.borrow();
    let drained_at = driver.script.drain_at.filter(|_| driver.is_drained());
    // A peer that reads from time to time is not stalled.
    let mine = network.links.iter().filter(|link| link.client != NO_CLIENT);
    let moved_at = mine.map(|link| link.last_io).max().unwrap_or_default();
    if drained_at.is_some_and(|begun| at > begun.max(moved_at) + STALL_MS + LEAVE_MS)
        && driver.daemon.sessions() > 0
    {
        return Err(format!("{} sessions survive a drain", driver.daemon.sessions()).into());
    }
    for part in driver.parts() {
        part.check(&driver.daemon, &network, at)?;
    }
    for listener in network.listeners.iter().filter(|one| !one.closed) {
        if sockets::is_admin(&listener.endpoint) {
            continue;
        }
        if driver.is_drained() {
            return Err("a listener for clients survives a drain".to_owned().into());
        }
        if let Some((link, _)) = listener.backlog.front()
            && at > network.links[*link].opened_at.max(network.excused_until) + ACCEPT_MS
        {
            let why = "it waits at a listener, and nothing will accept it".to_owned();
            return Err(Failure::of(network.links[*link].client, why));
        }
    }
    for (near, far) in pairs(&network.links) {
        let (client, server) = (&network.links[near], far.map(|id| &network.links[id]));
        let over = over_at(driver, client, server);
        if at > over {
            let why = format!("its deadline was {over} ms, but nothing ends it");
            return Err(Failure::of(client.client, why));
        }
    }
    Ok(())
}

/// Bytes that could be forwarded must have been forwarded.
fn check_forwarded(
    from: &Link,
    to: &Link,
    has_memory: bool,
    is_held: bool,
) -> Result<(), &'static str> {
    let can = to.to_peer.is_writable() && has_memory && !to.is_reset;
    if from.is_reset || !can || to.to_peer.fin {
        return Ok(());
    }
    if from.to_daemon.ready() > 0 {
        return Err("bytes wait although the other side has room");
    }
    if from.to_daemon.fin_arrived && !from.fin_read {
        return Err("a FIN waits although the other side has room");
    }
    // A writable socket has no unsent bytes left.
    if from.fin_read && !to.to_peer.fin && !is_held {
        return Err("a FIN was read and not forwarded");
    }
    Ok(())
}

/// The open connections of clients, each with its connection to a server.
fn pairs(links: &[Link]) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
    let open = |(_, link): &(usize, &Link)| {
        !link.closed && link.accepted_at.is_some() && link.client != NO_CLIENT
    };
    links.iter().enumerate().filter(open).map(|(near, client)| {
        let far = links.iter().position(|c| {
            c.client == client.client
                && c.dialled.is_some()
                && !c.closed
                && c.state == ConnectState::Connected
                && !c.to_peer.is_in_handshake
        });
        (near, far)
    })
}

/// The session needs nothing but the name of its front, and no lookup is open.
fn is_forgotten(driver: &Driver, client: &Link) -> bool {
    let plan = &driver.clients[client.client].plan;
    // Its first byte shows that it is no TLS.
    let is_judged = plan.opening.first() == Some(&b'G') && client.to_daemon.read > 0;
    let network = driver.network.borrow();
    let mine = |link: &Link| link.client == client.client && link.dialled.is_some();
    is_judged && !driver.is_resolving() && !network.links.iter().any(mine)
}

/// The deadline of a session if no more bytes move.
fn over_at(driver: &Driver, client: &Link, server: Option<&Link>) -> u64 {
    let timeouts = &driver.script.settings.timeouts;
    let idle = timeouts.idle.as_millis() as u64;
    let phase = driver.clients[client.client].phase;
    if let Some(server) = server {
        let half = client.fin_read || server.fin_read;
        let idle = match phase {
            Phase::Relayed if half => idle.min(HALF_CLOSED_MS),
            Phase::Relayed => idle,
            _ => idle.min(FRONT_IDLE_MS),
        };
        return client.last_activity.max(server.last_activity) + idle.max(STALL_MS) + LEAVE_MS;
    }
    let network = driver.network.borrow();
    let dialled = network.links.iter().any(|c| c.client == client.client && c.dialled.is_some());
    // A client that got an answer may take as long as at a web server.
    let times = if driver.clients[client.client].plan.credentials.is_some() { 6 } else { 1 };
    let handshake = client.accepted_at.unwrap_or(client.opened_at)
        + ACCEPT_MS
        + timeouts.handshake.as_millis() as u64 * times;
    if dialled || driver.is_resolving() {
        let dials = timeouts.tcp.as_millis() as u64 * MOST_ADDRESSES;
        handshake + LOOKUP_MS + dials + LEAVE_MS
    } else if client.log.is_empty() {
        handshake
    } else {
        handshake + LEAVE_MS
    }
}

/// Invariants of the end, when the last session has ended and the last timer has fired.
///
/// # Errors
/// What does not hold.
pub fn check_final(driver: &Driver) -> Result<(), Failure> {
    let shared = &driver.daemon.shared;
    let meter = &shared.telemetry.counters;
    let telegram: u64 = meter.telegram.rows().iter().map(|row| row.connections).sum();
    let budget = &shared.buffers.memory.budget;
    let of_sessions = budget.used_by(Class::Users) + budget.used_by(Class::Unauthenticated);
    let pages = budget.used_by(Class::Operator);
    // Fetches go on beside everything else.
    let is_everything = driver.script.mix == Mix::Everything;
    let fetches = if is_everything { 0 } else { budget.used_by(Class::Fetches) };
    let left = [
        ("sessions", driver.daemon.sessions()),
        ("blocks", shared.buffers.pool.in_use()),
        ("live users", shared.accounts.users.total_connections() as usize),
        ("fronted sessions", shared.capacity.fronted as usize),
        ("charged bytes of sessions", of_sessions),
        ("charged bytes of fetches", fetches),
        ("charged bytes of pages", pages.saturating_sub(PAGE_BYTES)),
        ("starved sessions", driver.daemon.session_counts().starved),
        ("connections by user", shared.accounts.users.connections().iter().sum::<u32>() as usize),
        ("clients in the metrics", (meter.clients.v4 + meter.clients.v6) as usize),
        ("probes in the metrics", (meter.fronting.v4 + meter.fronting.v6) as usize),
        ("connections to Telegram in the metrics", telegram as usize),
    ];
    if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
        return Err(format!("{count} {what} are left over").into());
    }
    let is_everything = driver.script.mix == Mix::Everything;
    if !is_everything && driver.daemon.due().is_some() {
        return Err("a timer is left over".to_owned().into());
    }
    let is_left = |link: &Link| !link.closed && (link.client != NO_CLIENT || !is_everything);
    if driver.network.borrow().links.iter().any(is_left) {
        return Err("a socket is left open".to_owned().into());
    }
    for number in 0..driver.clients.len() {
        let client = &driver.clients[number];
        if client.plan.must_complete {
            complete(driver, number).map_err(|e| Failure::of(number, e))?;
        }
        let last = client.peer.as_ref().and_then(|peer| peer.end_seen);
        // Bytes behind a malformed record are answered with RST.
        let is_refused = match last {
            Some(EndSeen::Reset) => client.plan.bad_record_at.is_some(),
            last => last == Some(EndSeen::Fin),
        };
        if client.plan.must_be_refused && !is_refused {
            return Err(Failure::of(number, format!("refused with {last:?}")));
        }
    }
    accounting::check_counters(driver)?;
    accounting::check_ends(driver)
}

/// An honest session delivered every byte, and both sides saw FIN.
fn complete(driver: &Driver, number: usize) -> Result<(), String> {
    let client = &driver.clients[number];
    let server = driver.servers.iter().filter(|s| s.client == number).max_by_key(|s| s.verified);
    let phase = if client.plan.credentials.is_some() { Phase::Relayed } else { Phase::Fronted };
    if client.phase != phase {
        return Err(format!("{:?} instead of {phase:?}", client.phase));
    }
    let Some(server) = server else { return Err("no server was dialled for it".to_owned()) };
    let sent = if server.is_front { client.sent.len() } else { client.plan.up };
    if (server.verified, client.verified) != (sent, client.plan.down) {
        return Err(format!(
            "{} of {sent} bytes arrived at the server, {} of {} at the client",
            server.verified, client.verified, client.plan.down
        ));
    }
    let ends = [client.peer.as_ref().and_then(|peer| peer.end_seen), server.peer.end_seen];
    if ends != [Some(EndSeen::Fin); 2] {
        return Err(format!("the ends of an honest session are {ends:?}"));
    }
    Ok(())
}

const LOOKUP_MS: u64 = 10_000;
/// The longest delay between two records, and the time that few bytes wait for more.
const PACE_MS: u64 = 1_000 + 3;
/// Longest wait of a probe's FIN: for the first byte of the front and for its acknowledgement.
const FIN_HOLD_MS: u64 = 360;
const HALF_CLOSED_MS: u64 = 30_000;
const FRONT_IDLE_MS: u64 = 120_000;
/// A stalled reader since the last look at its socket, which follows a write by five seconds; then
/// the time to close.
const STALL_MS: u64 = 40_000;
const LEAVE_MS: u64 = 3_000;
/// From the client's connect to the daemon's accept.
const ACCEPT_MS: u64 = 5;
/// Of a data centre, each through every proxy.
const MOST_ADDRESSES: u64 = 40;
/// Requests to the admin pages that are not complete yet.
const PAGE_BYTES: usize = 8 * REQUEST_HEAD_MAX;
