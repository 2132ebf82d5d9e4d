//! The stages from the first byte of the ClientHello to the 64-byte frame. The client proves that
//! it has the secret of a user.
//!
//! Reads go into the shared scratch block; only the start of a hello is kept, and counted.

use std::io::IoSliceMut;
use std::ops::Range;
use std::time::Duration;

use crate::accounts::recorder::Cause;
use crate::accounts::users::{HostId, UserId};
use crate::config::settings::Settings;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_LEAST, READ_MAX};
use crate::daemon::session::client::Client;
use crate::daemon::session::close::Closing;
use crate::daemon::session::dial::Dial;
use crate::daemon::session::endpoint::ReadOutcome;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::rejected::{loop_outcome, record_reject};
use crate::daemon::session::server_hello;
use crate::daemon::session::step::{Step, Turn};
use crate::daemon::session::transform::{MtprotoTransform, Transform};
use crate::daemon::time::Time;
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::connect::Connect;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::front;
use crate::daemon::upstream::outbound::Outbound;
use crate::daemon::upstream::sockets;
use crate::flow::authenticate::{Admission, AuthContext, AuthVerdict, Authenticator};
use crate::flow::recrypt::Recrypt;
use crate::flow::shape::Shape;
use crate::flow::transform::{Downlink, Uplink};
use crate::io::clock::Tick;
use crate::io::logger::{Maybe, event, fields};
use crate::io::wire::Wire;
use crate::limits::Limits;
use crate::limits::front_loops::{self, FrontLoops, Sender};
use crate::mimicry::Mimicry;
use crate::mimicry::shaper::{Pace, Shaper};
use crate::proto::client_hello::Reject;
use crate::proto::dc::{self, DcId};
use crate::proto::obfuscated2::{self, ClientFrame, FRAME_LEN};
use crate::proto::proxy_header::{self, Preface};
use crate::proto::tls::{Deframer, RecordFault};
use crate::util::drbg::Drbg;
use crate::util::memory::ChargedBytes;

/// The second stage: collects the ClientHello and finds the user whose key matches it.
pub struct AwaitClientHello {
    seen: ChargedBytes,
    authenticator: Authenticator,
    /// The hello is accepted; the answer is sent at this time, or when there is memory for it.
    admitted: Option<(Box<Admission>, Tick)>,
    /// When silence ends the stage: an unfinished hello goes to the front, whose own timeout then
    /// applies. Drawn at random, so that no fixed limit of ours can be measured (PROTOCOL 15.12).
    silent_until: Tick,
    announced: Announced,
    /// The verdict on a hello that may be one of those that we sent to a front.
    suspect: Option<Box<Suspect>>,
}

/// A rejected hello that waits for the answer to an equal one.
struct Suspect {
    verdict: Rejected,
    until: Tick,
}

/// A hello that is led to a front.
#[derive(Clone, Copy)]
struct Rejected {
    host: HostId,
    why: Reject,
    user: Option<UserId>,
}

/// Whether a PROXY protocol header has named the address of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// The sender may not announce one.
    MayNot,
    /// The sender may, and has not.
    No,
    /// It has.
    Yes,
}

/// What follows [`AwaitClientHello`].
pub enum AfterHello<W> {
    /// The answer is sent; the client's frame follows.
    AwaitFrame(Box<AwaitFrame>),
    /// The client is not authenticated; the front is dialled.
    Front(Box<Dial<W>>),
}

/// What the stage uses.
pub struct HelloContext<'a> {
    /// Counters and records.
    pub accounting: Accounting<'a>,
    /// Timeouts, fronts and the tolerance for clocks.
    pub settings: &'a Settings,
    /// Both clocks.
    pub time: &'a Time,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
    /// Memory for the bytes of the hello.
    pub buffers: &'a mut Buffers,
    /// Throttle, replay store and rate limit of hellos.
    pub limits: &'a mut Limits,
    /// Profiles of the fronts and key shares.
    pub mimicry: &'a mut Mimicry,
    /// Fronts that lead back to us.
    pub front_loops: &'a mut FrontLoops,
}

impl AwaitClientHello {
    /// A stage for a client that has sent `seen`, and nothing more since `silent_since`.
    pub fn new(
        seen: ChargedBytes,
        announced: Announced,
        silent_since: Tick,
        handshake_timeout: Duration,
        drbg: &mut Drbg,
    ) -> Self {
        let silent_until = silence_end(silent_since, handshake_timeout, drbg);
        Self {
            seen,
            authenticator: Authenticator::default(),
            admitted: None,
            silent_until,
            announced,
            suspect: None,
        }
    }

    /// The next deadline of the stage.
    pub fn due(&self, accepted: Tick, handshake_timeout: Duration, now: Tick) -> Tick {
        if let Some(suspect) = &self.suspect {
            return suspect.until.min(now + Duration::from_millis(front_loops::LOOK_MS));
        }
        let end = accepted + handshake_timeout;
        match &self.admitted {
            Some((_, at)) if now < *at => *at,
            // It waits for memory.
            Some(_) => end,
            None => self.silent_until.min(end),
        }
    }

    /// One step: at most one read and one slice of keys.
    pub fn step<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        ctx: &mut HelloContext<'_>,
    ) -> Step<AfterHello<W>> {
        if let Some((admission, at)) = self.admitted.take() {
            if ctx.accounting.now >= at || client.endpoint.ready.broken {
                return self.answer(client, admission, ctx);
            }
            self.admitted = Some((admission, at));
            return Step::Stay(Turn::Wait);
        }
        if let Some(suspect) = self.suspect.take() {
            return self.front(client, suspect.verdict, Some(suspect.until), ctx);
        }
        let room = SEEN_MAX - self.seen.len().min(SEEN_MAX);
        let mut need = None;
        match client.read_hello(&mut self.seen, room, ctx.buffers, &mut ctx.accounting) {
            Ok(0) => {}
            Ok(_) => {
                let timeout = ctx.settings.timeouts.handshake;
                self.silent_until = silence_end(ctx.accounting.now, timeout, ctx.drbg);
            }
            Err(Turn::Close(outcome)) => return Step::Stay(Turn::Close(outcome)),
            Err(turn) => need = Some(turn),
        }
        let mut auth = AuthContext {
            unix_s: (!ctx.time.is_unset()).then_some(ctx.time.wall.unix_s),
            started: (!ctx.time.is_unset()).then_some(ctx.time.started),
            users: ctx.accounting.users,
            replay: ctx.limits.replay.as_mut(),
            throttle: ctx.limits.throttle.as_mut(),
            places: &mut ctx.limits.places,
            hello_rate: &mut ctx.limits.hello_rate,
            now_ms: ctx.accounting.now.0,
            tolerance_s: ctx.settings.time_skew.as_secs(),
            account: client.account.get(),
        };
        match self.authenticator.check(&self.seen, client.addr, &mut auth) {
            AuthVerdict::Admit(admission) => self.admit(client, admission, ctx),
            AuthVerdict::Front { host, why, user } => {
                self.front(client, Rejected { host, why, user }, None, ctx)
            }
            AuthVerdict::KeysLeft => Step::Stay(Turn::Again),
            AuthVerdict::NeedMemory(bytes) => {
                self.await_more(client, Some(Turn::NeedMemory(bytes)), ctx)
            }
            AuthVerdict::Incomplete => self.await_more(client, need, ctx),
        }
    }

    /// Handles an incomplete hello: it goes to the front if it has ended, is too slow or too long.
    /// `need` = there is no memory for the next step.
    fn await_more<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        need: Option<Turn>,
        ctx: &mut HelloContext<'_>,
    ) -> Step<AfterHello<W>> {
        let now = ctx.accounting.now;
        let is_late = now >= self.due(client.accepted, ctx.settings.timeouts.handshake, now);
        let has_ended = client.endpoint.fin_received;
        let is_silent = has_ended && self.seen.is_empty();
        if is_silent && self.announced == Announced::No {
            Step::Stay(Turn::Close(Outcome::HealthCheck))
        } else if has_ended || is_late || self.seen.len() >= SEEN_MAX {
            let why = match has_ended {
                _ if is_silent => Reject::Silent,
                true => Reject::Truncated,
                false => Reject::TooSlow,
            };
            let host = ctx.accounting.users.first_host();
            self.front(client, Rejected { host, why, user: None }, None, ctx)
        } else if let Some(turn) = need {
            Step::Stay(turn)
        } else if client.endpoint.ready.readable {
            Step::Stay(Turn::Again)
        } else {
            Step::Stay(Turn::Wait)
        }
    }

    /// Counts the session for its user, and answers after the time that the front takes.
    fn admit<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        admission: Admission,
        ctx: &mut HelloContext<'_>,
    ) -> Step<AfterHello<W>> {
        let now = ctx.accounting.now;
        // Counted at once: otherwise many connections that wait for answers pass the throttle.
        ctx.accounting.users.add_session(admission.user, client.addr, now.0);
        client.user = Some(admission.user);
        if self.announced == Announced::No {
            let outcome = Outcome::Header(Cause::HeaderMissing, client.addr);
            ctx.accounting.record(client.user, client.addr, outcome);
        }
        let position = ctx.accounting.users.position(admission.user);
        client.account.move_to(ctx.buffers.memory.of_user(position));
        event!(
            Debug, "admitted", id = client.id,
            user = ?Maybe(ctx.accounting.users.name_of(client.user)),
            ms = now.since(client.accepted).as_millis(),
            client = %ctx.accounting.telemetry.shown(client.addr)
        );
        // A rejected hello is sent to the front now, so the front's answer time begins now.
        let delay_us = match ctx.settings.front.mimic_latency {
            true => ctx.mimicry.profiles.get(admission.host).delay_us(ctx.drbg).unwrap_or(0),
            false => 0,
        };
        if delay_us == 0 {
            return self.answer(client, Box::new(admission), ctx);
        }
        let at = now + Duration::from_millis(delay_us.div_ceil(1_000));
        self.admitted = Some((Box::new(admission), at));
        Step::Stay(Turn::Wait)
    }

    /// Sends the answer. The bytes after the hello are the start of the frame.
    fn answer<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        admission: Box<Admission>,
        ctx: &mut HelloContext<'_>,
    ) -> Step<AfterHello<W>> {
        let now = ctx.accounting.now;
        if client.endpoint.ready.broken {
            return Step::Stay(Turn::Close(Outcome::Reset));
        }
        if client.account.class_room() < ANSWER_ROOM {
            if now >= client.accepted + ctx.settings.timeouts.handshake {
                return Step::Stay(Turn::Close(Outcome::HandshakeTimeout));
            }
            self.admitted = Some((admission, now));
            return Step::Stay(Turn::NeedMemory(ANSWER_ROOM as u32));
        }
        let user = admission.user;
        let users = &ctx.accounting.users;
        let answer = server_hello::build(&admission, users, ctx.mimicry, ctx.drbg);
        client.endpoint.send_charged(ChargedBytes::held(client.account.get(), answer), now);
        let mut early = std::mem::take(&mut self.seen);
        early.discard_front(admission.consumed);
        Step::Next(AfterHello::AwaitFrame(Box::new(AwaitFrame {
            user,
            deframer: Deframer::before_frame(),
            frame: [0; FRAME_LEN],
            received: 0,
            early,
        })))
    }

    /// Starts to dial the front of a host for an unauthenticated client. The front gets all bytes
    /// received so far. A hello that may have come back from the front waits for the answer to the
    /// first one, `until` at most.
    fn front<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        verdict: Rejected,
        until: Option<Tick>,
        ctx: &mut HelloContext<'_>,
    ) -> Step<AfterHello<W>> {
        let (Rejected { host, why, user }, now) = (verdict, ctx.accounting.now);
        if ctx.front_loops.leads_back(host, now.0) {
            return Step::Stay(Turn::Close(loop_outcome(client, &mut ctx.accounting)));
        }
        if why.is_of_whole_hello() && ctx.front_loops.comes_back(&self.seen) {
            if client.endpoint.ready.broken {
                return Step::Stay(Turn::Close(Outcome::Reset));
            }
            let until = until.unwrap_or(now + Duration::from_millis(front_loops::WAIT_MS));
            if now < until {
                self.suspect = Some(Box::new(Suspect { verdict, until }));
                return Step::Stay(Turn::Wait);
            }
            ctx.front_loops.refuse(&self.seen, now.0);
            return Step::Stay(Turn::Close(loop_outcome(client, &mut ctx.accounting)));
        }
        // A web server need not answer one that is incomplete.
        if why != Reject::TooSlow && !why.is_of_whole_hello() && ctx.settings.front.probe {
            let has_answered = ctx.mimicry.profiles.get(host).latest().is_some();
            let until = ctx.front_loops.suspect(&self.seen, host, has_answered, now.0);
            if let Some(until) = until.filter(|_| !client.endpoint.ready.broken) {
                self.suspect = Some(Box::new(Suspect { verdict, until: Tick(until) }));
                return Step::Stay(Turn::Wait);
            }
        }
        let outcome = match proxy_header::parse(&self.seen) {
            Preface::Absent | Preface::Ambiguous => Outcome::Rejected(why),
            _ => Outcome::Header(self.stray_header(ctx.settings), client.addr),
        };
        record_reject(client, why, user, outcome, &mut ctx.accounting);
        let Some((start_ms, token)) = ctx.limits.dials.reserve(client.addr, now.0) else {
            let hint = "a flood of unauthenticated clients; the front sees only a part of them";
            ctx.accounting.telemetry.warn(fields!("dials-limited", hint = ?hint));
            client.endpoint.wire.reset_on_close();
            return Step::Stay(Turn::Close(Outcome::DialLimit));
        };
        if start_ms > now.0 {
            ctx.accounting.telemetry.counters.dials_delayed += 1;
            event!(Debug, "dial-delayed", id = client.id, ms = start_ms - now.0);
        }
        ctx.accounting.capacity.fronted += 1;
        ctx.accounting.telemetry.counters.fronted += 1;
        ctx.accounting.telemetry.counters.fronting.add(client.addr);
        client.fronted = Some(token);
        if why != Reject::TooSlow {
            ctx.front_loops.begin(Sender::Session(client.id), &self.seen, host);
        }
        let front = front::front_of(ctx.settings, ctx.accounting.users, host);
        let connect = Connect::new(front, Route::Front, client.id);
        let seen = std::mem::take(&mut self.seen);
        let dial = Dial::new(Transform::Plain, seen, connect, Tick(start_ms));
        Step::Next(AfterHello::Front(Box::new(dial)))
    }

    /// Why a header stands where a hello should.
    fn stray_header(&self, settings: &Settings) -> Cause {
        match (&settings.proxy_protocol, self.announced) {
            (None, _) => Cause::HeaderOff,
            (Some(_), Announced::MayNot) => Cause::HeaderUntrusted,
            (Some(_), _) => Cause::HeaderTwice,
        }
    }
}

/// The third stage: the answer is sent; collects the client's 64-byte frame.
pub struct AwaitFrame {
    user: UserId,
    deframer: Deframer,
    frame: [u8; FRAME_LEN],
    received: usize,
    /// Bytes that came with the hello; empty after the first step.
    early: ChargedBytes,
}

/// What follows [`AwaitFrame`].
pub enum AfterFrame<W> {
    /// A data centre is dialled.
    Dial(Box<Dial<W>>),
    /// The connection is closed gracefully.
    Closing(Closing),
}

/// What the stage uses.
pub struct FrameContext<'a> {
    /// Counters and records.
    pub accounting: Accounting<'a>,
    /// Timeouts and the configured addresses of data centres.
    pub settings: &'a Settings,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
    /// The scratch block and the pool.
    pub buffers: &'a mut Buffers,
    /// Addresses and upstreams.
    pub outbound: &'a Outbound,
    /// The timing of the download's records.
    pub pace: Pace,
}

type FrameStep<W> = Step<AfterFrame<W>>;

impl AwaitFrame {
    /// One step: at most one read.
    pub fn step<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        ctx: &mut FrameContext<'_>,
    ) -> FrameStep<W> {
        if !self.early.is_empty() {
            let len = self.early.len();
            ctx.buffers.scratch[..len].copy_from_slice(&self.early);
            self.early.clear();
            return self.add(client, len, ctx);
        }
        client.endpoint.flush(ctx.accounting.now);
        if client.endpoint.write_failed {
            return Step::Stay(Turn::Close(Outcome::ResetBeforeFrame));
        }
        if ctx.accounting.now >= frame_due(client.accepted, ctx.settings.timeouts.handshake) {
            return close(client, Outcome::HandshakeTimeout, ctx);
        }
        if client.endpoint.fin_received {
            // The FIN came with the hello: there will be no frame.
            return close(client, Outcome::GoneBeforeFrame, ctx);
        }
        if !client.endpoint.ready.readable {
            return Step::Stay(Turn::Wait);
        }
        // What follows the frame is kept until Telegram is connected.
        let Ok(room) = Buffers::bytes_to_read(&client.account, READ_MAX) else {
            return Step::Stay(Turn::NeedMemory(READ_LEAST as u32));
        };
        let into = &mut ctx.buffers.scratch[..room];
        match client.endpoint.read(&mut [IoSliceMut::new(into)]) {
            ReadOutcome::Bytes(n) => {
                ctx.accounting.telemetry.counters.read(n);
                client.active = ctx.accounting.now;
                self.add(client, n, ctx)
            }
            ReadOutcome::WouldBlock => Step::Stay(Turn::Wait),
            ReadOutcome::Fin => close(client, Outcome::GoneBeforeFrame, ctx),
            ReadOutcome::Reset => Step::Stay(Turn::Close(Outcome::ResetBeforeFrame)),
        }
    }

    /// Adds `n` fresh bytes in the scratch block to the frame.
    fn add<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        n: usize,
        ctx: &mut FrameContext<'_>,
    ) -> FrameStep<W> {
        let len = match self.deframer.deframe(&mut ctx.buffers.scratch[..n]) {
            Ok(len) => len,
            // As a TLS server that waits for Finished.
            Err(RecordFault::Alert) => return close(client, Outcome::Garbled, ctx),
            Err(fault) => return close_with_alert(client, fault.as_str(), ctx),
        };
        let missing = (FRAME_LEN - self.received).min(len);
        self.frame[self.received..self.received + missing]
            .copy_from_slice(&ctx.buffers.scratch[..missing]);
        self.received += missing;
        if self.received < FRAME_LEN {
            return Step::Stay(self.turn(client));
        }
        let key = ctx.accounting.users.get(self.user).key();
        match obfuscated2::decrypt_client_frame(&self.frame, key) {
            Ok(frame) => {
                // A censor may have taken over the connection before.
                client.endpoint.wire.set_options(&sockets::socket_options(ctx.settings));
                dial_dc(client, std::mem::take(&mut self.deframer), frame, missing..len, ctx)
            }
            // A TLS server cannot decrypt a record before its end.
            Err(_) if self.deframer.is_in_frame() => Step::Stay(self.turn(client)),
            Err(fault) => close_with_alert(client, fault.as_str(), ctx),
        }
    }

    /// What follows a read.
    fn turn<W>(&self, client: &Client<W>) -> Turn {
        let has_more = client.endpoint.ready.readable || client.endpoint.fin_received;
        if has_more { Turn::Again } else { Turn::Wait }
    }
}

fn close_with_alert<W: Wire>(
    client: &mut Client<W>,
    fault: &str,
    ctx: &mut FrameContext<'_>,
) -> FrameStep<W> {
    let closing = Closing::begin_with_alert(client, fault, ctx.drbg, &mut ctx.accounting);
    Step::Next(AfterFrame::Closing(closing))
}

fn close<W: Wire>(
    client: &mut Client<W>,
    outcome: Outcome,
    ctx: &mut FrameContext<'_>,
) -> FrameStep<W> {
    let closing = Closing::begin(client, outcome, &mut ctx.accounting);
    let is_of_tls = matches!(outcome, Outcome::Garbled | Outcome::HandshakeTimeout);
    Step::Next(AfterFrame::Closing(if is_of_tls { closing.at_once() } else { closing }))
}

/// Handles a valid frame: chooses the addresses, builds the ciphers of the relay, starts to dial.
/// `early` is the payload after the frame in the scratch block.
fn dial_dc<W: Wire>(
    client: &mut Client<W>,
    deframer: Deframer,
    frame: ClientFrame,
    early: Range<usize>,
    ctx: &mut FrameContext<'_>,
) -> FrameStep<W> {
    let (settings, outbound) = (ctx.settings, ctx.outbound);
    let mut dc = DcId::decode(frame.dc).number;
    let mut addrs = addresses::of_dc(settings, &outbound.dc_list, dc, ctx.drbg);
    if addrs.is_empty() && settings.fallback_on_unknown_dc {
        let fallback = dc::DEFAULT_DC;
        let line = fields!("unknown-dc", dc = dc, fallback = fallback);
        ctx.accounting.telemetry.warn(line);
        dc = fallback;
        addrs = addresses::of_dc(settings, &outbound.dc_list, dc, ctx.drbg);
    }
    if addrs.is_empty() {
        let name = client.user.map_or("", |user| ctx.accounting.users.get(user).name());
        ctx.accounting.telemetry.info(fields!("unknown-dc", user = ?name, dc = dc));
        return close(client, Outcome::UnknownDc(dc), ctx);
    }

    // With matched keys the DC encrypts what this client decrypts, so a download is copied.
    let matched = (!settings.re_encrypt).then_some((&frame.down_key, &frame.down_iv));
    let ours = obfuscated2::build_dc_frame(frame.tag, dc as i16, matched, &mut |b| {
        ctx.drbg.fill(b);
    });
    let recrypt = settings.re_encrypt.then(|| Box::new(Recrypt::new(ours.down(), frame.down(), 0)));
    let mut up = Uplink::new(deframer, Recrypt::new(frame.up, ours.up, FRAME_LEN));
    let mut opening = Vec::with_capacity(ours.wire.len() + early.len());
    opening.extend_from_slice(&ours.wire);
    let payload = &mut ctx.buffers.scratch[early];
    up.recrypt(payload);
    opening.extend_from_slice(payload);
    let opening = ChargedBytes::held(client.account.get(), opening);
    let shaper = settings.shape.map(|shape| Shaper::new(ctx.pace, shape.always, shape.drs));
    let down = Downlink::new(recrypt, shaper.map(|shaper| Box::new(Shape::new(shaper))));
    let transform = Transform::Mtproto(Box::new(MtprotoTransform { up, down, dc }));

    let connect = Connect::new(HostOrAddrs::Addrs(addrs), Route::Upstreams, client.id);
    let connect = connect.with_other_ports_of(dc);
    let dial = Dial::new(transform, opening, connect, ctx.accounting.now);
    Step::Next(AfterFrame::Dial(Box::new(dial)))
}

/// The deadline of the frame: with the default handshake timeout a minute, as the usual web servers
/// wait for the end of a TLS handshake.
pub fn frame_due(accepted: Tick, handshake_timeout: Duration) -> Tick {
    accepted + handshake_timeout.saturating_mul(FRAME_TIMEOUTS)
}

/// 30 to 50 per cent of the handshake timeout after `since`, at random.
fn silence_end(since: Tick, handshake_timeout: Duration, drbg: &mut Drbg) -> Tick {
    let limit_ms = handshake_timeout.as_millis() as u64;
    let spread = u32::try_from(limit_ms / 5).unwrap_or(u32::MAX).max(1);
    since + Duration::from_millis(limit_ms * 3 / 10 + u64::from(drbg.u32_below(spread)))
}

/// nginx and caddy wait 60 seconds, 6 times the default.
const FRAME_TIMEOUTS: u32 = 6;

/// For an answer that the socket does not accept.
const ANSWER_ROOM: usize = 16 << 10;

/// More than the longest hello in the largest number of records that we accept.
const SEEN_MAX: usize = 17_408;
