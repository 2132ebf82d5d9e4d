//! The fifth stage: both sides are connected, and bytes are forwarded.
//!
//! A direction reads only if there is memory for what the write does not accept. So memory is
//! bounded, and the TCP window is the back-pressure. Each step does at most one read and one write
//! per direction (after one flush).

mod deadlines;
mod unproven;

use std::io::IoSliceMut;
use std::net::SocketAddr;

use crate::config::settings::Settings;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::Buffers;
use crate::daemon::session::client::Client;
use crate::daemon::session::close::Closing;
use crate::daemon::session::endpoint::{Endpoint, ReadOutcome};
use crate::daemon::session::memory::SessionAccount;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::step::{Step, Turn};
use crate::daemon::session::traffic::{TrafficOwner, count};
use crate::daemon::session::transform::Transform;
use crate::daemon::upstream::addresses::BadAddresses;
use crate::daemon::upstream::proxies::{UpstreamId, Upstreams};
use crate::flow::direction::Direction;
use crate::flow::fin_hold::{Answered, FinAction, FinHold};
use crate::flow::half_close::{Action, HalfState};
use crate::flow::shape::Shape;
use crate::flow::transform::{Downlink, RECORD_PAYLOAD_MAX, Uplink};
use crate::io::clock::Tick;
use crate::io::pool::BLOCK_LEN;
use crate::io::wire::Wire;
use crate::limits::dial_rate::DialRate;
use crate::limits::front_loops::{FrontLoops, Sender};
use crate::mimicry::shaper::Grant;
use crate::proto::tls::RecordFault;
use crate::util::drbg::Drbg;

/// The server's side of a session, and the transformation of the bytes.
pub struct Relay<W> {
    /// The data centre or the front.
    pub server: Endpoint<W>,
    /// The slot of the server's socket among the session's poll tokens.
    pub slot: u8,
    /// What has connected Telegram, until its first byte shows that it did.
    pub unproven: Option<Box<Unproven>>,
    /// The wait of an unauthenticated client's FIN.
    pub fin_hold: FinHold,
    /// Our FIN to the server was the first one.
    pub ends_first: bool,
    /// The transformation of the bytes.
    pub transform: Transform,
}

/// A way to Telegram that has brought no byte yet.
pub struct Unproven {
    /// The way.
    pub way: UnprovenWay,
    /// When the first request was sent.
    pub requested: Option<Tick>,
}

/// What has taken a connection to Telegram.
pub enum UnprovenWay {
    /// A proxy that says that it has connected Telegram.
    Proxy(UpstreamId),
    /// An address of Telegram.
    Address(SocketAddr),
}

/// What the stage uses.
pub struct RelayContext<'a> {
    /// Counters and records.
    pub accounting: Accounting<'a>,
    /// Timeouts.
    pub settings: &'a Settings,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
    /// The scratch block and the pool.
    pub buffers: &'a mut Buffers,
    /// The proxies, for their circuits.
    pub upstreams: &'a mut Upstreams,
    /// Openings whose answer has not begun.
    pub front_loops: &'a mut FrontLoops,
    /// Addresses that failed lately.
    pub bad_addresses: &'a mut BadAddresses,
    /// Whether ports in TIME_WAIT are to be saved.
    pub dials: &'a DialRate,
    /// A graceful drain is in progress: no more reads.
    pub draining: bool,
}

/// The transformation of one direction.
enum HalfTransform<'a> {
    Up(&'a mut Uplink),
    Down(&'a mut Downlink),
    Plain,
}

/// The state of one direction after a step.
#[derive(PartialEq, Eq)]
enum Forwarded {
    /// Nothing more can be done now.
    Idle,
    /// The source has more.
    More,
    /// There is no memory for a block.
    NeedMemory,
    /// The client's bytes are not TLS records.
    Malformed(RecordFault),
}

impl<W: Wire> Relay<W> {
    /// One step: forwards bytes in both directions.
    pub fn step(&mut self, client: &mut Client<W>, ctx: &mut RelayContext<'_>) -> Step<Closing> {
        let now = ctx.accounting.now;
        let owner = TrafficOwner { user: client.user, dc_connection: client.dc_connection };
        if client.endpoint.flush(now) + self.server.flush(now) > 0 {
            client.active = now;
        }
        count(&mut client.endpoint, owner, Direction::Down, &mut ctx.accounting);
        count(&mut self.server, owner, Direction::Up, &mut ctx.accounting);
        if ctx.draining {
            // Its deadline would make the loop spin: no step judges it any more.
            self.unproven = None;
            return self.drain(client, owner, ctx);
        }
        if self.is_fronted() {
            // Before its acknowledgements are asked for: a socket after a reset owes none.
            note_gone(&mut client.endpoint);
        }
        let up = match self.fin_action(client, ctx.dials, now) {
            FinAction::Hold => Forwarded::Idle,
            FinAction::Forward => self.forward_up(client, owner, ctx),
            FinAction::Reset => {
                self.server.wire.reset_on_close();
                return Step::Stay(Turn::Close(Outcome::Finished));
            }
        };
        if let Forwarded::Malformed(fault) = up {
            self.abandon(ctx.upstreams);
            client.sent_up = self.server.sent;
            let RelayContext { drbg, accounting, .. } = ctx;
            return Step::Next(Closing::begin_with_alert(client, fault.as_str(), drbg, accounting));
        }
        let down = self.forward_down(client, owner, ctx);
        self.judge_way(client, ctx);

        if self.is_fronted() {
            note_gone(&mut client.endpoint);
        }
        let Self { server, .. } = self;
        // A reset is forwarded as a reset, after the bytes that were sent before it.
        if mirror_reset(&client.endpoint, server) || mirror_reset(server, &mut client.endpoint) {
            let has_timed_out = client.endpoint.timed_out || server.timed_out;
            let outcome = if has_timed_out { Outcome::Stalled } else { Outcome::Reset };
            return Step::Stay(Turn::Close(outcome));
        }
        if action(&client.endpoint, server) == Action::Done
            && action(server, &client.endpoint) == Action::Done
        {
            return Step::Stay(Turn::Close(Outcome::Finished));
        }
        if let Some(outcome) = self.overdue(client, ctx.settings, ctx.buffers, now) {
            client.endpoint.wire.reset_on_close();
            return Step::Stay(Turn::Close(outcome));
        }
        let turn = if up == Forwarded::More || down == Forwarded::More {
            Turn::Again
        } else if up == Forwarded::NeedMemory || down == Forwarded::NeedMemory {
            Turn::NeedMemory(BLOCK_LEN as u32)
        } else {
            Turn::Wait
        };
        Step::Stay(turn)
    }

    fn forward_up(
        &mut self,
        client: &mut Client<W>,
        owner: TrafficOwner,
        ctx: &mut RelayContext<'_>,
    ) -> Forwarded {
        let transform = match &mut self.transform {
            Transform::Mtproto(mtproto) => HalfTransform::Up(&mut mtproto.up),
            Transform::Plain => HalfTransform::Plain,
        };
        let (from, to) = (&mut client.endpoint, &mut self.server);
        let forwarded = forward(from, to, transform, &client.account, &mut client.active, ctx);
        self.ends_first |= self.server.fin_sent && !self.server.fin_received;
        count(&mut self.server, owner, Direction::Up, &mut ctx.accounting);
        forwarded
    }

    fn forward_down(
        &mut self,
        client: &mut Client<W>,
        owner: TrafficOwner,
        ctx: &mut RelayContext<'_>,
    ) -> Forwarded {
        let had_ended = self.server.fin_received;
        let had_answer = is_answered(client);
        let transform = match &mut self.transform {
            Transform::Mtproto(mtproto) => HalfTransform::Down(&mut mtproto.down),
            Transform::Plain => HalfTransform::Plain,
        };
        let (from, to) = (&mut self.server, &mut client.endpoint);
        let forwarded = forward(from, to, transform, &client.account, &mut client.active, ctx);
        let has_answer = is_answered(client);
        if self.is_fronted() && (had_answer, had_ended) != (has_answer, self.server.fin_received) {
            ctx.front_loops.end(Sender::Session(client.id), has_answer, ctx.accounting.now.0);
        }
        count(&mut client.endpoint, owner, Direction::Down, &mut ctx.accounting);
        forwarded
    }

    /// Whether the FIN of an unauthenticated client waits, so that the connection to the front can
    /// be reset if the client has gone.
    fn fin_action(&mut self, client: &Client<W>, dials: &DialRate, now: Tick) -> FinAction {
        if !self.may_hold_fin(client) {
            return FinAction::Forward;
        }
        if self.server.sent + u64::from(self.server.uncounted) == 0 {
            // The front answers nothing before it.
            return FinAction::Forward;
        }
        let sent = client.endpoint.sent + u64::from(client.endpoint.uncounted);
        let answered = match client.endpoint.outbox.is_empty() {
            _ if sent == 0 => Answered::Nothing,
            true if client.endpoint.wire.is_acknowledged() => Answered::Acknowledged,
            _ => Answered::InFlight,
        };
        let active = if self.server.ready.readable { now } else { client.active };
        let active_ms = dials.is_low(now.0).then_some(active.0);
        self.fin_hold.action(answered, active_ms, now.0)
    }

    /// Whether the port of the connection to the server stays in TIME_WAIT.
    pub fn is_in_time_wait(&self) -> bool {
        self.ends_first && self.server.fin_received && !self.server.reset_received
    }

    /// Whether a FIN of an unauthenticated client could be forwarded now and would be the first.
    fn may_hold_fin(&self, client: &Client<W>) -> bool {
        self.is_fronted()
            && !self.server.fin_received
            && !client.endpoint.reset_received
            && action(&client.endpoint, &self.server) == Action::Shut
    }

    /// A step during a graceful drain: flushes both directions, then closes the session.
    fn drain(
        &mut self,
        client: &mut Client<W>,
        owner: TrafficOwner,
        ctx: &mut RelayContext<'_>,
    ) -> Step<Closing> {
        let now = ctx.accounting.now;
        // Without reads, silence shows nothing.
        self.unproven = None;
        if let Transform::Mtproto(mtproto) = &mut self.transform
            && mtproto.down.shape().is_some_and(|shape| !shape.held().is_empty())
            && client.endpoint.outbox.is_empty()
            && !client.endpoint.write_failed
        {
            if client.account.room() < BLOCK_LEN {
                return Step::Stay(Turn::NeedMemory(BLOCK_LEN as u32));
            }
            let (wire_len, payload_len) =
                seal(&mut mtproto.down, 0, true, now, ctx.buffers, ctx.drbg);
            let sealed = &ctx.buffers.scratch[..wire_len];
            let kept = client.endpoint.send(sealed, &ctx.buffers.pool, &client.account, now);
            debug_assert!(kept.is_ok(), "there is memory for a block");
            client.endpoint.uncounted =
                client.endpoint.uncounted.saturating_add(payload_len as u32);
            count(&mut client.endpoint, owner, Direction::Down, &mut ctx.accounting);
        }
        if client.endpoint.is_flushed() && self.server.is_flushed() {
            client.sent_up = self.server.sent;
            let closing = Closing::begin(client, Outcome::Drained, &mut ctx.accounting);
            return Step::Next(closing);
        }
        let turn = self.overdue(client, ctx.settings, ctx.buffers, now);
        Step::Stay(turn.map_or(Turn::Wait, Turn::Close))
    }

    /// Whether the server is the front, not Telegram.
    pub fn is_fronted(&self) -> bool {
        matches!(self.transform, Transform::Plain)
    }
}

/// Forwards the bytes of one read from `from` to `to`, and sets `active` if there were any.
fn forward<W: Wire>(
    from: &mut Endpoint<W>,
    to: &mut Endpoint<W>,
    mut transform: HalfTransform<'_>,
    account: &SessionAccount,
    active: &mut Tick,
    ctx: &mut RelayContext<'_>,
) -> Forwarded {
    let now = ctx.accounting.now;
    // 1. The action that the state of both sides requires.
    match action(from, to) {
        Action::Flush | Action::Done => return Forwarded::Idle,
        Action::Shut if from.reset_received => return Forwarded::Idle,
        Action::Shut => {
            to.send_fin();
            return Forwarded::Idle;
        }
        Action::Discard => return discard(from, ctx.buffers),
        Action::Forward if !from.ready.readable && !transform.is_late(now) => {
            return Forwarded::Idle;
        }
        Action::Forward => {}
    }
    // 2. How much may be read: what the shape grants and what the outbox could keep.
    let (records_max, payload_max) = match transform.grant(now, ctx.drbg) {
        Grant::Later(_) => return Forwarded::Idle,
        Grant::One(payload_max) => (1, payload_max),
        Grant::Any => (ctx.buffers.slots, RECORD_PAYLOAD_MAX),
    };
    let records = ctx.buffers.records_to_read(account).min(records_max);
    if records == 0 {
        return Forwarded::NeedMemory;
    }
    if ctx.buffers.read_max == 0 {
        // The other direction has used up the step.
        return if from.ready.readable { Forwarded::More } else { Forwarded::Idle };
    }
    // At least the bytes that a shaped download may hold: an empty buffer would read as an end.
    let payload_max = payload_max.min(ctx.buffers.read_max.max(READ_LEAST));
    let records = records.min(ctx.buffers.read_max.div_ceil(payload_max));
    // 3. One read. Reads of a download leave gaps for the record headers.
    let scratch = &mut ctx.buffers.scratch;
    let outcome = match &transform {
        _ if !from.ready.readable => ReadOutcome::WouldBlock,
        HalfTransform::Down(down) => {
            from.read(&mut down.read_slots(scratch, records, payload_max)[..records])
        }
        HalfTransform::Up(_) | HalfTransform::Plain => {
            from.read(&mut [IoSliceMut::new(&mut scratch[..records * payload_max])])
        }
    };
    let (fresh, has_ended) = match outcome {
        ReadOutcome::Bytes(n) => (n, false),
        ReadOutcome::WouldBlock if transform.is_late(now) => (0, false),
        ReadOutcome::WouldBlock => return Forwarded::Idle,
        ReadOutcome::Fin | ReadOutcome::Reset => (0, true),
    };
    if fresh > 0 {
        ctx.accounting.telemetry.counters.read(fresh);
        ctx.buffers.read_max = ctx.buffers.read_max.saturating_sub(fresh);
        *active = now;
    }
    // 4. Records and ciphers, in place.
    let (wire_len, payload_len) = match &mut transform {
        HalfTransform::Plain => (fresh, fresh),
        HalfTransform::Down(down) => {
            let flush = has_ended || down.shape().is_some_and(|shape| shape.is_late(now.0));
            seal(down, fresh, flush, now, ctx.buffers, ctx.drbg)
        }
        HalfTransform::Up(up) => match up.transform(&mut ctx.buffers.scratch[..fresh]) {
            Ok(len) => (len, len),
            Err(fault) => {
                return Forwarded::Malformed(fault);
            }
        },
    };
    // 5. One write; the outbox keeps the rest.
    let kept = to.send(&ctx.buffers.scratch[..wire_len], &ctx.buffers.pool, account, now);
    debug_assert!(kept.is_ok(), "step 2 left room for everything that was read");
    to.uncounted = to.uncounted.saturating_add(payload_len as u32);
    let has_more = from.ready.readable && to.outbox.is_empty();
    // After an end the next action differs; it follows in the same round.
    if has_more || has_ended { Forwarded::More } else { Forwarded::Idle }
}

impl HalfTransform<'_> {
    fn shape(&self) -> Option<&Shape> {
        match self {
            Self::Down(down) => down.shape(),
            Self::Up(_) | Self::Plain => None,
        }
    }

    /// Whether held bytes must be sent now.
    fn is_late(&self, now: Tick) -> bool {
        self.shape().is_some_and(|shape| shape.is_late(now.0))
    }

    /// How much may be read.
    fn grant(&self, now: Tick, drbg: &mut Drbg) -> Grant {
        match self {
            Self::Down(down) => down.grant(now.0, || drbg.u32()),
            Self::Up(_) | Self::Plain => Grant::Any,
        }
    }
}

/// Completes the records around `fresh` bytes of a download in the scratch block. Returns their
/// length with the record headers, and without.
fn seal(
    down: &mut Downlink,
    fresh: usize,
    flush: bool,
    now: Tick,
    buffers: &mut Buffers,
    drbg: &mut Drbg,
) -> (usize, usize) {
    let sealed = down.transform(&mut buffers.scratch, fresh, flush, now.0, || drbg.u32());
    (sealed.wire_len, sealed.payload_len)
}

/// Notes that an unauthenticated client that had sent its FIN has answered bytes with RST.
fn note_gone<W>(client: &mut Endpoint<W>) {
    // After both FINs the poller reports every connection as broken.
    let is_broken = client.write_failed || client.ready.broken;
    client.reset_received |= client.fin_received && !client.fin_sent && is_broken;
}

/// Forwards a reset once all bytes before it are sent. Returns whether the session is over.
fn mirror_reset<W: Wire>(from: &Endpoint<W>, to: &mut Endpoint<W>) -> bool {
    let is_over = from.reset_received && to.is_flushed();
    if is_over {
        to.wire.reset_on_close();
    }
    is_over
}

/// Reads and discards bytes for a peer that accepts no more.
fn discard<W: Wire>(from: &mut Endpoint<W>, buffers: &mut Buffers) -> Forwarded {
    if !from.ready.readable {
        return Forwarded::Idle;
    }
    match from.read(&mut [IoSliceMut::new(&mut buffers.scratch)]) {
        ReadOutcome::WouldBlock => Forwarded::Idle,
        ReadOutcome::Bytes(_) if !from.ready.readable => Forwarded::Idle,
        ReadOutcome::Bytes(_) | ReadOutcome::Fin | ReadOutcome::Reset => Forwarded::More,
    }
}

/// Whether the server has sent a byte.
fn is_answered<W>(client: &Client<W>) -> bool {
    client.endpoint.sent > 0 || client.endpoint.uncounted > 0
}

fn action<W>(from: &Endpoint<W>, to: &Endpoint<W>) -> Action {
    HalfState {
        source_done: from.fin_received,
        unsent: !to.outbox.is_empty(),
        sink_shut: to.fin_sent,
        sink_dead: to.write_failed,
    }
    .action()
}

/// Bytes that a read may request even if the step has less left.
const READ_LEAST: usize = 256;
