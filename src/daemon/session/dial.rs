//! From a list of addresses to a connected end: one attempt at a time, a second one beside it
//! when the first is slow (RFC 8305), the client watched meanwhile.

pub mod via_proxy;

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::Poll;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::session::handshake::{self, StageTurn};
use crate::daemon::session::relay::{Relay, Transform};
use crate::daemon::session::{CloseReason, Endpoint, ReadOutcome, Readiness, Session, Stage, Turn};
use crate::daemon::shared::World;
use crate::daemon::upstream::addresses;
use crate::io::clock::Tick;
use crate::io::egress;
use crate::io::sockopt::SocketOptions;
use crate::io::wire::{Net, Wire};
use crate::proto::proxy_header;

/// The fourth stage: the other end is being connected.
pub struct Dial<W> {
    /// What the connection is for; taken when it stands.
    lanes: Option<Transform>,
    /// What the other end gets first, in one write.
    opening: Vec<u8>,
    targets: DialTargets,
    next: usize,
    attempts: [Option<DialAttempt<W>>; 2],
    /// When the next address is tried beside the running attempt.
    stagger: Tick,
    /// When the name must have been found.
    until: Option<Tick>,
    /// The data centre whose other ports are tried when all addresses have failed.
    second_chance: Option<u16>,
    /// What failed last, for the recorder.
    trouble: Option<(Cause, Detail)>,
}

/// Where to go.
pub enum DialTargets {
    /// These addresses, in this order.
    Known(Vec<SocketAddr>),
    /// A name that has to be looked up.
    Named {
        /// The host name.
        name: String,
        /// The port at each of its addresses.
        port: u16,
    },
    /// By these ways, in this order.
    Routed(Vec<via_proxy::Candidate>),
}

struct DialAttempt<W> {
    wire: W,
    addr: SocketAddr,
    until: Tick,
    woken: bool,
    /// What is left to do by a way of `network.proxies`.
    climb: Option<via_proxy::ProxyAttempt>,
}

impl<W: Wire> Dial<W> {
    /// A stage that has not begun.
    pub fn new(lanes: Transform, opening: Vec<u8>, targets: DialTargets) -> Self {
        let (stagger, until) = (Tick(0), None);
        Self {
            lanes: Some(lanes),
            opening,
            targets,
            next: 0,
            attempts: [None, None],
            stagger,
            until,
            second_chance: None,
            trouble: None,
        }
    }

    /// Tries this data centre's other ports when all addresses have failed.
    pub fn with_second_chance(mut self, dc: u16) -> Self {
        self.second_chance = Some(dc);
        self
    }

    /// An event has come for an attempt's socket.
    pub fn wake(&mut self, slot: usize) {
        if let Some(Some(attempt)) = self.attempts.get_mut(slot.wrapping_sub(1)) {
            attempt.woken = true;
        }
    }

    /// When the stage must be looked at even if nothing comes.
    pub fn due(&self) -> Tick {
        let attempts = self.attempts.iter().flatten().map(|a| a.until);
        let more = matches!(&self.targets, DialTargets::Known(list) if self.next < list.len());
        let stagger = (more && self.attempts.iter().any(Option::is_none)).then_some(self.stagger);
        let is_lookup = match self.targets {
            DialTargets::Known(_) => false,
            DialTargets::Named { .. } => true,
            DialTargets::Routed(_) => self.attempts.iter().all(Option::is_none),
        };
        let lookup = self.until.filter(|_| is_lookup);
        attempts.chain(stagger).chain(lookup).min().unwrap_or(Tick(0))
    }

    /// Why a client that leaves now has waited so long; `None` = it has not.
    fn tired_of(&self, now: Tick) -> Option<(Cause, Detail)> {
        let begun_ms = self.until?.0.saturating_sub(LOOKUP_MS);
        if now.0 < begun_ms + TIRED_MS {
            return None;
        }
        let lookup = matches!(self.targets, DialTargets::Named { .. });
        let lookup = lookup.then_some((Cause::FrontUnknown, Detail::None));
        let silence = self.attempts.iter().flatten().next().map(DialAttempt::silence);
        lookup.or(silence).or(self.trouble)
    }
}

/// One look at a dial: judges woken attempts, drops late ones, starts the next.
pub fn dial<N: Net>(
    session: &mut Session<N::Wire>,
    world: &mut World,
    net: &mut N,
    token: usize,
) -> StageTurn {
    let Stage::Dial(stage) = &mut session.stage else { return StageTurn::On };
    let is_relay = matches!(stage.lanes, Some(Transform::Mtproto(_)));
    session.client.flush(world.time.now);
    let speechless = is_relay && stage.opening.len() <= FRAME;
    if speechless && session.client.ready.hup && session.client.ready.readable {
        return last_words(session, world);
    }
    // A FIN without a request before it: nobody waits for an answer any more.
    let gone = speechless && session.client.done;
    if session.client.ready.broken || session.client.dead || gone {
        if let Some(trouble) = stage.tired_of(world.time.now) {
            tell(session, world, trouble);
        }
        return StageTurn::Stop(Turn::Done(CloseReason::Gone));
    }
    if matches!(stage.targets, DialTargets::Routed(_)) {
        return via_proxy::dial(session, world, net, token);
    }
    let until = *stage.until.get_or_insert(Tick(world.time.now.0 + LOOKUP_MS));

    if let DialTargets::Named { name, port } = &stage.targets {
        let port = *port;
        match world.outbound.dns.lookup(name, token, world.time.now) {
            CachedAddrs::Found(ips) => {
                let mut list: Vec<_> = ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                world.outbound.bad_addresses.sort(&mut list, world.time.now);
                stage.targets = DialTargets::Known(list);
            }
            CachedAddrs::Pending if world.time.now < until => {
                return StageTurn::Stop(Turn::Waiting);
            }
            CachedAddrs::Pending | CachedAddrs::Failed => {
                let line = format!("event=front-unresolved host={name:?}");
                world.telemetry.warn(&line);
                stage.trouble = Some((Cause::FrontUnknown, Detail::None));
                return give_up(session, world, CloseReason::Unreachable);
            }
        }
    }
    let DialTargets::Known(list) = &mut stage.targets else {
        return StageTurn::Stop(Turn::Waiting);
    };
    if stage.next == 0 {
        list.truncate(MOST_ADDRESSES);
    }
    if !is_relay && stage.next == 0 && stage.attempts.iter().all(Option::is_none) {
        let before = list.len();
        list.retain(|addr| !is_own_listener(*addr, &world.outbound.own_listeners, net));
        if list.is_empty() && before > 0 {
            world.telemetry.warn(LOOP_ADVICE);
            stage.trouble = Some((Cause::FrontLoop, Detail::None));
            return give_up(session, world, CloseReason::Loop);
        }
    }

    for slot in 0..stage.attempts.len() {
        let Some(attempt) = &mut stage.attempts[slot] else { continue };
        let outcome = match std::mem::take(&mut attempt.woken) {
            true => attempt.wire.poll_connect(),
            false => Poll::Pending,
        };
        match outcome {
            Poll::Ready(Ok(())) => {
                world.outbound.bad_addresses.forgive(attempt.addr);
                return connected(session, world, slot);
            }
            Poll::Pending if world.time.now < attempt.until => {}
            late_or_failed => {
                let error = match late_or_failed {
                    Poll::Ready(outcome) => outcome.err(),
                    Poll::Pending => None,
                };
                stage.trouble = Some(failure(attempt.addr, error.as_ref()));
                let why = error.map_or("timeout".to_owned(), |e| e.to_string());
                let line = format!("event=dial-failed addr={} error={why:?}", attempt.addr);
                world.telemetry.info(&line);
                world.outbound.bad_addresses.add(attempt.addr, world.time.now);
                stage.attempts[slot] = None;
                stage.stagger = world.time.now;
            }
        }
    }
    loop {
        start_next(stage, world, net, token, session.id);
        if stage.attempts.iter().any(Option::is_some) {
            return StageTurn::Stop(Turn::Waiting);
        }
        let Some(dc) = stage.second_chance.take() else {
            return give_up(session, world, CloseReason::Unreachable);
        };
        let others = addresses::second_chance(&world.settings, dc);
        (stage.targets, stage.next) = (DialTargets::Known(others), 0);
    }
}

/// Starts the next attempt, if it is time for one: at once when none runs, else after the stagger.
fn start_next<N: Net>(
    stage: &mut Dial<N::Wire>,
    world: &mut World,
    net: &mut N,
    token: usize,
    id: u64,
) {
    let DialTargets::Known(list) = &stage.targets else { return };
    let patience = world.settings.timeouts.tcp.as_millis() as u64;
    while stage.next < list.len() {
        let running = stage.attempts.iter().flatten().count();
        let free = stage.attempts.iter().position(Option::is_none);
        let Some(slot) = free.filter(|_| running == 0 || world.time.now >= stage.stagger) else {
            break;
        };
        let addr = list[stage.next];
        stage.next += 1;
        log::debug!("event=dial-attempt id={id} addr={addr}");
        match net.dial(addr, &options(world), token + slot + 1) {
            Ok(wire) => {
                let until = Tick(world.time.now.0 + patience);
                let attempt = DialAttempt { wire, addr, until, woken: false, climb: None };
                stage.attempts[slot] = Some(attempt);
                stage.stagger = Tick(world.time.now.0 + STAGGER_MS);
            }
            // Not the address's fault: the same would happen with any other.
            Err(e) if warn_if_barred(world, &e) => stage.trouble = Some(failure(addr, Some(&e))),
            Err(e) => {
                stage.trouble = Some(failure(addr, Some(&e)));
                let line = format!("event=dial-failed addr={addr} error={:?}", e.to_string());
                world.telemetry.info(&line);
                world.outbound.bad_addresses.add(addr, world.time.now);
            }
        }
    }
}

/// The client has sent its FIN while we dial: what it said before that leaves with the header.
fn last_words<W: Wire>(session: &mut Session<W>, world: &mut World) -> StageTurn {
    let Stage::Dial(stage) = &mut session.stage else { return StageTurn::On };
    let Some(Transform::Mtproto(relay)) = &mut stage.lanes else { return StageTurn::On };
    let room = LAST_WORDS.min(world.buffers.scratch.len());
    let ReadOutcome::Bytes(n) =
        session.client.read(&mut [IoSliceMut::new(&mut world.buffers.scratch[..room])])
    else {
        return StageTurn::On;
    };
    match relay.up.transform(&mut world.buffers.scratch[..n]) {
        Ok(len) => {
            stage.opening.extend_from_slice(&world.buffers.scratch[..len]);
            StageTurn::On
        }
        Err(fault) => handshake::expel(session, world, fault.as_str()),
    }
}

/// An attempt has won: the pipe begins, and what was kept leaves in one write.
fn connected<W: Wire>(session: &mut Session<W>, world: &mut World, slot: usize) -> StageTurn {
    let Stage::Dial(stage) = &mut session.stage else { return StageTurn::On };
    let Some(attempt) = stage.attempts[slot].take() else { return StageTurn::On };
    let mut opening = std::mem::take(&mut stage.opening);
    let lanes = stage.lanes.take().unwrap_or(Transform::Plain);
    let plain = matches!(lanes, Transform::Plain);
    let goal = match &stage.targets {
        DialTargets::Routed(legs) => stage.next.checked_sub(1).and_then(|at| legs.get(at)),
        _ => None,
    };
    let goal = goal.map_or(attempt.addr, |leg| leg.goal);
    let mut uncounted = opening.len();
    if plain && world.settings.front.proxy_protocol {
        let client = SocketAddr::new(session.addr, session.port);
        let mut announced = Vec::with_capacity(proxy_header::WRITTEN_MAX + opening.len());
        proxy_header::write(&mut announced, client, attempt.addr);
        announced.append(&mut opening);
        opening = announced;
    }
    if plain && session.client.ready.readable && !session.client.done && opening.len() < OPENING {
        // What came while we dialled leaves with the rest in one write (spec: protocol 10).
        let room = (OPENING - opening.len()).min(world.buffers.scratch.len());
        let into = &mut world.buffers.scratch[..room];
        if let ReadOutcome::Bytes(n) = session.client.read(&mut [IoSliceMut::new(into)]) {
            opening.extend_from_slice(&world.buffers.scratch[..n]);
            uncounted += n;
        }
    }
    let ready = Readiness { readable: true, writable: true, ..Readiness::default() };
    let mut server = Endpoint::new(attempt.wire, ready);
    if !server.send(&opening, &world.buffers.pool, world.time.now) {
        return StageTurn::Stop(Turn::Done(CloseReason::Pressure));
    }
    server.uncounted = uncounted as u32;
    if let Transform::Mtproto(relay) = &lanes {
        server.uncounted = uncounted.saturating_sub(FRAME) as u32;
        session.upstream = Some(world.telemetry.counters.telegram.add(goal.ip(), relay.dc));
        log::debug!(
            "event=connected id={}{} dc={} addr={} ms={} client={}",
            session.id,
            world.accounts.users.log_field(session.user),
            relay.dc,
            attempt.addr,
            world.time.now.0 - session.born.0,
            world.telemetry.shown(session.addr)
        );
    } else {
        log::debug!(
            "event=front-connected id={} addr={} ms={} client={}",
            session.id,
            attempt.addr,
            world.time.now.0 - session.born.0,
            world.telemetry.shown(session.addr)
        );
    }
    session.active = world.time.now;
    session.stage = Stage::Relay(Box::new(Relay { server, slot: slot as u8 + 1, lanes }));
    StageTurn::On
}

/// No address is left. A stranger sees what the origin's own address would do to it: a reset.
fn give_up<W: Wire>(session: &mut Session<W>, world: &mut World, why: CloseReason) -> StageTurn {
    let trouble = match &mut session.stage {
        Stage::Dial(stage) => stage.trouble.take(),
        _ => None,
    };
    tell(session, world, trouble.unwrap_or((Cause::DcUnreachable, Detail::None)));
    if session.fronted {
        session.client.wire.reset_on_close();
        return StageTurn::Stop(Turn::Done(why));
    }
    world.telemetry.counters.unreachable += 1;
    let name = session.user.map_or("", |user| world.accounts.users.get(user).name());
    let line = format!("event=dc-unreachable user={name:?} why={}", why.as_str());
    world.telemetry.warn(&line);
    handshake::leave(session, world, why)
}

/// Tells the recorder what is wrong with the other end. All strangers find the same site, so it is
/// not told by their networks.
fn tell<W>(session: &Session<W>, world: &mut World, (cause, detail): (Cause, Detail)) {
    match (session.user, cause) {
        (Some(user), _) => world.record_user(user, cause, detail),
        (None, Cause::DcUnreachable) => world.telemetry.record_front(Cause::FrontDown, detail),
        (None, _) => world.telemetry.record_front(cause, detail),
    }
}

/// An address that did not answer, or how it did.
fn failure(addr: SocketAddr, error: Option<&io::Error>) -> (Cause, Detail) {
    let code = error.and_then(io::Error::raw_os_error).unwrap_or(0);
    (Cause::DcUnreachable, Detail::DialFailed(addr, code))
}

/// Tells the operator that the system refuses the way out. `false` = it is something else.
fn warn_if_barred(world: &mut World, error: &io::Error) -> bool {
    let is_barred = egress::is_refused(error);
    if is_barred {
        let line = format!("event=egress-refused error={:?}", error.to_string());
        world.telemetry.warn(&line);
    }
    is_barred
}

/// Whether an address leads back to one of our listeners.
pub fn is_own_listener<N: Net>(addr: SocketAddr, binds: &[SocketAddr], net: &mut N) -> bool {
    let ip = addr.ip().to_canonical();
    binds.iter().filter(|bind| bind.port() == addr.port()).any(|bind| {
        let ours = bind.ip().to_canonical();
        ours == ip || (ours.is_unspecified() && net.is_own_address(ip)) || ip.is_unspecified()
    })
}

/// The options of every relayed socket (spec: network 3).
pub fn options(world: &World) -> SocketOptions {
    let keep = &world.settings.keep_alive;
    let user_timeout = keep.idle + keep.interval * keep.count;
    SocketOptions {
        keep_alive: keep.enabled.then_some((keep.idle, keep.interval, keep.count)),
        user_timeout_ms: user_timeout.as_millis() as u32,
        not_sent_lowat: world.settings.not_sent_lowat,
        congestion: world.settings.congestion.clone(),
    }
}

/// The 64-byte header to a DC.
const FRAME: usize = 64;
/// Most bytes of a client that finished while we dialled.
const LAST_WORDS: usize = 16_384;
/// Most bytes that leave in the first write to a front.
const OPENING: usize = 32_768;
/// RFC 8305 "Connection Attempt Delay".
const STAGGER_MS: u64 = 250;
/// For finding the addresses of a name.
pub const LOOKUP_MS: u64 = 10_000;
/// A client that leaves later than this has lost its patience with the other end: apps begin anew
/// after some seconds, long before the last address of a silent data centre has been tried.
const TIRED_MS: u64 = 2_000;
/// Addresses tried for one session.
const MOST_ADDRESSES: usize = 8;
const LOOP_ADVICE: &str = "event=front-loop hint=\"the front is this proxy itself; set \
     [domain-fronting] host and port to the web server\"";
