//! From the first byte to the 64-byte header: the stages in which a client proves itself.
//!
//! Reads into the shared scratch block; what has to be kept of it is small and counted.

use std::io::IoSliceMut;
use std::net::SocketAddr;

use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::{HostId, UserId};
use crate::daemon::admin::probe_summary::ProbeKind;
use crate::daemon::session::dial::{Dial, DialTargets, via_proxy};
use crate::daemon::session::outcome;
use crate::daemon::session::relay::{MtprotoTransform, Transform};
use crate::daemon::session::server_hello;
use crate::daemon::session::{CloseReason, ReadOutcome, Session, Stage, Turn};
use crate::daemon::shared::World;
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::front;
use crate::flow::authenticate::{Admission, AuthVerdict, Authenticator};
use crate::flow::recrypt::Recrypt;
use crate::flow::shape::Shape;
use crate::flow::transform::{Downlink, Uplink};
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::mimicry::shaper::Shaper;
use crate::proto::client_hello::Reject;
use crate::proto::dc::{self, DcId};
use crate::proto::obfuscated2::{self, ClientFrame, FRAME_LEN};
use crate::proto::tls::Deframer;

/// The second stage: who is there?
pub struct AwaitClientHello {
    seen: Vec<u8>,
    gate: Authenticator,
    /// Accepted, and when to say so.
    admitted: Option<(Box<Admission>, Tick)>,
    /// When silence ends our patience: a TLS server waits by its own rules, so an unfinished hello
    /// is handed to the front rather than timed out by ours (spec: protocol 15.12).
    patience: Tick,
}

/// The third stage: answered, waiting for the 64-byte header.
pub struct AwaitFrame {
    user: UserId,
    deframer: Deframer,
    frame: [u8; 64],
    have: usize,
}

/// What a stage did.
pub enum StageTurn {
    /// The stage is another one now: go on in the same turn.
    On,
    /// Enough for this turn.
    Stop(Turn),
}

impl AwaitClientHello {
    /// A stage for a client that has sent `seen` so far, which is counted in
    /// [`World::hello_bytes`] already, and nothing more since `silent_since`.
    pub fn new(seen: Vec<u8>, silent_since: Tick, world: &mut World) -> Self {
        let gate = Authenticator::default();
        Self { seen, gate, admitted: None, patience: patience(silent_since, world) }
    }

    /// Bytes that the stage holds on the heap.
    pub fn held(&self) -> usize {
        self.seen.capacity()
    }

    /// When the stage must be looked at even if nothing comes.
    pub fn due(&self, born: Tick, handshake_ms: u64) -> Tick {
        let answer = self.admitted.as_ref().map(|(_, at)| *at);
        answer.unwrap_or(self.patience.min(Tick(born.0 + handshake_ms)))
    }
}

/// One look at the hello: at most one read and one slice of keys.
pub fn hello<W: Wire>(session: &mut Session<W>, world: &mut World) -> StageTurn {
    let Stage::AwaitClientHello(stage) = &mut session.stage else { return StageTurn::On };
    if let Some((_, at)) = stage.admitted {
        return match world.time.now >= at || session.client.ready.broken {
            true => answer(session, world),
            false => StageTurn::Stop(Turn::Waiting),
        };
    }
    let client = &mut session.client;
    let mut ended = client.done;
    if client.ready.readable {
        let room = MOST_SEEN - stage.seen.len().min(MOST_SEEN);
        let into = &mut world.buffers.scratch[..room.clamp(1, READ)];
        match client.read(&mut [IoSliceMut::new(into)]) {
            ReadOutcome::Bytes(n) => {
                world.telemetry.counters.read(n);
                if world.buffers.keep_hello(&mut stage.seen, n).is_err() {
                    return StageTurn::Stop(Turn::Done(CloseReason::Pressure));
                }
                session.active = world.time.now;
                stage.patience = patience(world.time.now, world);
            }
            ReadOutcome::Nothing => {}
            ReadOutcome::Fin => ended = true,
            ReadOutcome::Reset => return StageTurn::Stop(Turn::Done(CloseReason::Reset)),
        }
    }
    let verdict = stage.gate.look(&stage.seen, session.addr, &mut world.auth_context());
    match verdict {
        AuthVerdict::Admit(admission) => admit(session, world, admission),
        AuthVerdict::Front { host, why, user } => front(session, world, host, why, user),
        AuthVerdict::Busy => StageTurn::Stop(Turn::Again),
        AuthVerdict::More => {
            let Stage::AwaitClientHello(stage) = &session.stage else { return StageTurn::On };
            let out_of_time = world.time.now >= stage.due(session.born, handshake_ms(world));
            if ended && stage.seen.is_empty() {
                // Nothing was said and nothing will be: a port scan or a health check.
                world.telemetry.count_probe(ProbeKind::Silent, session.addr);
                StageTurn::Stop(Turn::Done(CloseReason::Gone))
            } else if ended || out_of_time || stage.seen.len() >= MOST_SEEN {
                let why = if ended { Reject::Truncated } else { Reject::TooSlow };
                front(session, world, world.accounts.users.first_host(), why, None)
            } else if session.client.ready.readable {
                StageTurn::Stop(Turn::Again)
            } else {
                StageTurn::Stop(Turn::Waiting)
            }
        }
    }
}

/// Counts the session for its user, and answers as soon as the site could have.
fn admit<W: Wire>(session: &mut Session<W>, world: &mut World, admission: Admission) -> StageTurn {
    // Counted at once, or a crowd that waits for its answers would pass the throttle.
    world.accounts.users.admitted(admission.user, session.addr, world.time.now.0);
    session.user = Some(admission.user);
    log::debug!(
        "event=admitted id={}{} ms={} client={}",
        session.id,
        world.accounts.users.log_field(session.user),
        world.time.now.0 - session.born.0,
        world.telemetry.shown(session.addr)
    );
    // A stranger's hello sets out for the site now, so this is when the site's time begins.
    let delay_us = match world.settings.front.mimic_latency {
        true => world.mimicry.profiles.of(admission.host).delay_us(&mut world.drbg).unwrap_or(0),
        false => 0,
    };
    if let Stage::AwaitClientHello(stage) = &mut session.stage {
        let at = Tick(world.time.now.0 + delay_us.div_ceil(1_000));
        stage.admitted = Some((Box::new(admission), at));
    }
    match delay_us {
        0 => answer(session, world),
        _ => StageTurn::Stop(Turn::Waiting),
    }
}

/// Answers an accepted hello.
fn answer<W: Wire>(session: &mut Session<W>, world: &mut World) -> StageTurn {
    if session.client.ready.broken {
        return StageTurn::Stop(Turn::Done(CloseReason::Reset));
    }
    let Stage::AwaitClientHello(stage) = &mut session.stage else { return StageTurn::On };
    let Some((admission, _)) = stage.admitted.take() else { return StageTurn::On };
    let rest = stage.seen.split_off(admission.consumed.min(stage.seen.len()));
    let user = admission.user;
    let sealed = server_hello::seal(world, &admission);
    if !session.client.send(&sealed, &world.buffers.pool, world.time.now) {
        return StageTurn::Stop(Turn::Done(CloseReason::Pressure));
    }
    release_hello(session, world);
    let greeting = AwaitFrame { user, deframer: Deframer::new(), frame: [0; 64], have: 0 };
    session.stage = Stage::AwaitFrame(Box::new(greeting));
    if rest.is_empty() {
        return StageTurn::On;
    }
    world.buffers.scratch[..rest.len()].copy_from_slice(&rest);
    take(session, world, rest.len())
}

/// One look for the 64-byte header: at most one read.
pub fn greeting<W: Wire>(session: &mut Session<W>, world: &mut World) -> StageTurn {
    session.client.flush(world.time.now);
    if session.client.dead {
        return StageTurn::Stop(Turn::Done(CloseReason::Reset));
    }
    if world.time.now.0 >= session.born.0 + handshake_ms(world) {
        return leave(session, world, CloseReason::Handshake);
    }
    if session.client.done {
        // The FIN came with the hello: there will be no header.
        return leave(session, world, CloseReason::Gone);
    }
    if !session.client.ready.readable {
        return StageTurn::Stop(Turn::Waiting);
    }
    let into = &mut world.buffers.scratch[..READ];
    match session.client.read(&mut [IoSliceMut::new(into)]) {
        ReadOutcome::Bytes(n) => {
            world.telemetry.counters.read(n);
            session.active = world.time.now;
            take(session, world, n)
        }
        ReadOutcome::Nothing => StageTurn::Stop(Turn::Waiting),
        ReadOutcome::Fin => leave(session, world, CloseReason::Gone),
        ReadOutcome::Reset => StageTurn::Stop(Turn::Done(CloseReason::Reset)),
    }
}

/// Takes `n` fresh bytes in the scratch block towards the header.
fn take<W: Wire>(session: &mut Session<W>, world: &mut World, n: usize) -> StageTurn {
    let Stage::AwaitFrame(stage) = &mut session.stage else { return StageTurn::On };
    let len = match stage.deframer.compact(&mut world.buffers.scratch[..n]) {
        Ok(len) => len,
        Err(fault) => return expel(session, world, fault.as_str()),
    };
    let missing = (stage.frame.len() - stage.have).min(len);
    stage.frame[stage.have..stage.have + missing]
        .copy_from_slice(&world.buffers.scratch[..missing]);
    stage.have += missing;
    if stage.have < stage.frame.len() {
        let again = session.client.ready.readable || session.client.done;
        return StageTurn::Stop(if again { Turn::Again } else { Turn::Waiting });
    }
    let key = *world.accounts.users.get(stage.user).key();
    match obfuscated2::open_client(&stage.frame, &key) {
        Ok(frame) => {
            let deframer = std::mem::take(&mut stage.deframer);
            call_dc(session, world, deframer, frame, missing..len)
        }
        Err(fault) => expel(session, world, fault.as_str()),
    }
}

/// The header is good: choose the DC, make the relay's ciphers, start to dial.
fn call_dc<W: Wire>(
    session: &mut Session<W>,
    world: &mut World,
    deframer: Deframer,
    client: ClientFrame,
    early: std::ops::Range<usize>,
) -> StageTurn {
    let settings = world.settings.clone();
    let mut id = DcId::decode(client.dc).number;
    let mut addrs = addresses::of_dc(&settings, &world.outbound.dc_list, id, &mut world.drbg);
    if addrs.is_empty() && settings.fallback_on_unknown_dc {
        let line = format!("event=unknown-dc dc={id} fallback={}", dc::DEFAULT_DC);
        world.telemetry.warn(&line);
        id = dc::DEFAULT_DC;
        addrs = addresses::of_dc(&settings, &world.outbound.dc_list, id, &mut world.drbg);
    }
    if addrs.is_empty() {
        let name = session.user.map_or("", |user| world.accounts.users.get(user).name());
        let line = format!("event=unknown-dc user={name:?} dc={id}");
        world.telemetry.info(&line);
        if let Some(user) = session.user {
            world.record_user(user, Cause::UnknownDc, Detail::Dc(id));
        }
        return leave(session, world, CloseReason::UnknownDc);
    }
    world.outbound.bad_addresses.sort(&mut addrs, world.time.now);

    let matched = (!settings.re_encrypt).then_some((&client.down_key, &client.down_iv));
    let ours = obfuscated2::forge_dc(client.tag, id as i16, matched, &mut |b| world.drbg.fill(b));
    let recrypt =
        settings.re_encrypt.then(|| Box::new(Recrypt::new(ours.down(), client.down(), 0)));
    let mut up = Uplink::new(deframer, Recrypt::new(client.up, ours.up, FRAME_LEN));
    let mut opening = Vec::with_capacity(ours.wire.len() + early.len());
    opening.extend_from_slice(&ours.wire);
    let payload = &mut world.buffers.scratch[early];
    up.recrypt(payload);
    opening.extend_from_slice(payload);
    let shaper =
        settings.shape.map(|shape| Shaper::new(world.mimicry.pace, shape.always, shape.drs));
    let down = Downlink::new(recrypt, shaper.map(|shaper| Box::new(Shape::new(shaper))));
    let lanes = Transform::Mtproto(Box::new(MtprotoTransform { up, down, dc: id }));
    let dial = if world.outbound.upstreams.is_empty() {
        Dial::new(lanes, opening, DialTargets::Known(addrs)).with_second_chance(id)
    } else {
        let legs = via_proxy::legs(&world.outbound.upstreams.shuffled(&mut world.drbg), &addrs);
        Dial::new(lanes, opening, DialTargets::Routed(legs))
    };
    session.stage = Stage::Dial(Box::new(dial));
    StageTurn::On
}

/// Not provably ours: hand everything seen to the site that the secret names.
fn front<W: Wire>(
    session: &mut Session<W>,
    world: &mut World,
    host: HostId,
    why: Reject,
    user: Option<UserId>,
) -> StageTurn {
    let opening = match &mut session.stage {
        Stage::AwaitClientHello(stage) => std::mem::take(&mut stage.seen),
        _ => Vec::new(),
    };
    world.buffers.hello_bytes = world.buffers.hello_bytes.saturating_sub(opening.capacity());
    note(session, world, why, user);
    if world.capacity.fronted >= world.capacity.fronted_max {
        world.telemetry.count_probe(ProbeKind::NoRoom, session.addr);
        return StageTurn::Stop(Turn::Done(CloseReason::Pressure));
    }
    world.capacity.fronted += 1;
    world.telemetry.counters.fronted += 1;
    world.telemetry.counters.fronting.add(session.addr);
    session.fronted = true;
    let front = front::front_of(&world.settings, &world.accounts.users, host);
    let targets = match front.ip() {
        Some(ip) => DialTargets::Known(vec![SocketAddr::new(ip, front.port)]),
        None => DialTargets::Named { name: front.host, port: front.port },
    };
    session.stage = Stage::Dial(Box::new(Dial::new(Transform::Plain, opening, targets)));
    StageTurn::On
}

/// Counts and logs a suspicion. A stranger is a debug line; what a person of ours suffers from is
/// for the operator to see.
fn note<W>(session: &Session<W>, world: &mut World, why: Reject, user: Option<UserId>) {
    match why {
        Reject::Replay => world.telemetry.counters.replays += 1,
        Reject::Throttled => world.telemetry.counters.throttled += 1,
        _ => {}
    }
    outcome::of_hello(world, session.addr, why, user);
    let off = match why {
        Reject::ClockOff { off_s } => format!(" off_s={off_s}"),
        _ => String::new(),
    };
    if let Some(deed) = ProbeKind::of(why) {
        world.telemetry.count_probe(deed, session.addr);
    }
    let (why, who, from) =
        (why.as_str(), world.accounts.users.log_field(user), world.telemetry.shown(session.addr));
    log::debug!("event=fronted id={} why={why}{off}{who} client={from}", session.id);
    if user.is_some() {
        let line = format!("event=refused{who} why={why}{off} client={from}");
        world.telemetry.info(&line);
    }
}

/// A client that already got our answer sends what a TLS server would refuse: an encrypted alert
/// and FIN, as that server would (spec: protocol 15.13).
pub fn expel<W: Wire>(session: &mut Session<W>, world: &mut World, why: &str) -> StageTurn {
    let from = world.telemetry.shown(session.addr);
    log::debug!("event=protocol-error id={} why={why} client={from}", session.id);
    let mut alert = [0u8; 24];
    alert[..5].copy_from_slice(&[0x17, 3, 3, 0, 19]);
    world.drbg.fill(&mut alert[5..]);
    if !session.client.send(&alert, &world.buffers.pool, world.time.now) {
        return StageTurn::Stop(Turn::Done(CloseReason::Pressure));
    }
    leave(session, world, CloseReason::Garbled)
}

/// Settles the counters and closes the client decently.
pub fn leave<W: Wire>(session: &mut Session<W>, world: &mut World, why: CloseReason) -> StageTurn {
    log::debug!(
        "event=closing id={} why={}{} client={}",
        session.id,
        why.as_str(),
        world.accounts.users.log_field(session.user),
        world.telemetry.shown(session.addr)
    );
    session.complain(world, why);
    outcome::of_end(session, world, why);
    session.settle(world);
    session.stage = Stage::Leave { until: Tick(world.time.now.0 + LEAVE_MS) };
    StageTurn::On
}

/// The last stage: flush, FIN, and read until the client's own FIN. At most one read and one write.
pub fn leaving<W: Wire>(session: &mut Session<W>, world: &mut World, until: Tick) -> StageTurn {
    let client = &mut session.client;
    client.flush(world.time.now);
    if client.outbox.is_empty() {
        client.shut();
    }
    if client.ready.readable && !client.done && world.time.now < until {
        let into = &mut world.buffers.scratch[..READ];
        if let ReadOutcome::Bytes(_) = client.read(&mut [IoSliceMut::new(into)])
            && client.ready.readable
        {
            return StageTurn::Stop(Turn::Again);
        }
    }
    let over = client.dead || (client.done && client.shut) || world.time.now >= until;
    StageTurn::Stop(if over { Turn::Done(CloseReason::Finished) } else { Turn::Waiting })
}

fn release_hello<W>(session: &mut Session<W>, world: &mut World) {
    if let Stage::AwaitClientHello(stage) = &mut session.stage {
        world.buffers.hello_bytes = world.buffers.hello_bytes.saturating_sub(stage.seen.capacity());
        stage.seen = Vec::new();
    }
}

/// Three to five tenths of the handshake limit, drawn anew for each silence.
fn patience(since: Tick, world: &mut World) -> Tick {
    let limit = handshake_ms(world);
    let spread = u32::try_from(limit / 5).unwrap_or(u32::MAX).max(1);
    Tick(since.0 + limit * 3 / 10 + u64::from(world.drbg.u32_below(spread)))
}

/// The limit from accept to the header, in milliseconds.
pub fn handshake_ms(world: &World) -> u64 {
    world.settings.timeouts.handshake.as_millis() as u64
}

/// Most bytes asked for by one read before the relay.
pub const READ: usize = 16_384;
/// More than the longest hello in the largest number of records that the gate accepts.
const MOST_SEEN: usize = 17_408;
/// How long a client may take to answer our FIN.
const LEAVE_MS: u64 = 3_000;
