//! Both ends are there: the one mover of bytes.
//!
//! A direction reads only when whatever its write leaves over has a place, so memory is bounded
//! and TCP's own window is the back-pressure. Each turn does at most one read and one write per
//! direction (after one flush).

use std::io::IoSliceMut;

use crate::accounts::users::UserId;
use crate::daemon::admin::counters::DcConnectionId;
use crate::daemon::session::handshake::{self, StageTurn};
use crate::daemon::session::outcome;
use crate::daemon::session::{CloseReason, Endpoint, ReadOutcome, Session, Stage, Turn};
use crate::daemon::shared::World;
use crate::flow::half_close::{Action, HalfState};
use crate::flow::shape::Shape;
use crate::flow::transform::{Downlink, RECORD_PAYLOAD_MAX, Uplink};
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::mimicry::shaper::Grant;
use crate::proto::tls::RecordFault;

/// The fifth stage: the other end and what happens to the bytes on the way.
pub struct Relay<W> {
    /// The DC or the front.
    pub server: Endpoint<W>,
    /// Which token of the session the server's socket has.
    pub slot: u8,
    /// The two directions.
    pub lanes: Transform,
}

/// What happens to the bytes.
pub enum Transform {
    /// A user's session with Telegram.
    Mtproto(Box<MtprotoTransform>),
    /// A stranger's visit to the front: nothing.
    Plain,
}

/// A user's session with Telegram.
pub struct MtprotoTransform {
    /// Client to DC.
    pub up: Uplink,
    /// DC to client.
    pub down: Downlink,
    /// The DC that was asked for.
    pub dc: u16,
}

/// One direction's transformation.
enum HalfTransform<'a> {
    Up(&'a mut Uplink),
    Down(&'a mut Downlink),
    Plain,
}

/// What one direction did in a turn.
enum ForwardResult {
    /// All that could be done now is done.
    Rest,
    /// The source has more.
    More,
    /// The pool is empty.
    Starved,
    /// The client's records are no longer records.
    Garbled(RecordFault),
}

/// One turn of a pipe.
pub fn pipe<W: Wire>(session: &mut Session<W>, world: &mut World, draining: bool) -> StageTurn {
    let Stage::Relay(pipe) = &mut session.stage else { return StageTurn::On };
    let (client, server) = (&mut session.client, &mut pipe.server);
    if client.flush(world.time.now) | server.flush(world.time.now) {
        session.active = world.time.now;
    }
    let owner = TrafficOwner { user: session.user, upstream: session.upstream };
    count(client, owner, world, Direction::Out);
    count(server, owner, world, Direction::In);
    if draining {
        return drain(session, world);
    }
    let (up, down) = match &mut pipe.lanes {
        Transform::Mtproto(relay) => {
            (HalfTransform::Up(&mut relay.up), HalfTransform::Down(&mut relay.down))
        }
        Transform::Plain => (HalfTransform::Plain, HalfTransform::Plain),
    };
    let mut moved = [ForwardResult::Rest, ForwardResult::Rest];
    moved[0] = carry(client, server, up, owner, Direction::In, &mut session.active, world);
    if let ForwardResult::Garbled(fault) = moved[0] {
        return handshake::expel(session, world, fault.as_str());
    }
    // A FIN of the client's, read or not, makes the other one an answer to it.
    let was_there = !server.done;
    moved[1] = carry(server, client, down, owner, Direction::Out, &mut session.active, world);
    if was_there
        && server.done
        && !(client.done || client.ready.hup)
        && let Transform::Mtproto(relay) = &pipe.lanes
        && !relay.down.has_started()
    {
        outcome::of_hang_up(session.user, session.born, world);
    }

    // A reset goes through as a reset, behind what was sent before it.
    if mirror_reset(client, server) || mirror_reset(server, client) {
        return StageTurn::Stop(Turn::Done(CloseReason::Reset));
    }
    if deed(client, server) == Action::Done && deed(server, client) == Action::Done {
        return StageTurn::Stop(Turn::Done(CloseReason::Finished));
    }
    if let Some(why) = overdue(session, world) {
        session.client.wire.reset_on_close();
        return StageTurn::Stop(Turn::Done(why));
    }
    StageTurn::Stop(if moved.iter().any(|m| matches!(m, ForwardResult::More)) {
        Turn::Again
    } else if moved.iter().any(|m| matches!(m, ForwardResult::Starved)) {
        Turn::Starved
    } else {
        Turn::Waiting
    })
}

/// Moves what one read brings from `from` to `to`.
fn carry<W: Wire>(
    from: &mut Endpoint<W>,
    to: &mut Endpoint<W>,
    mut lane: HalfTransform<'_>,
    owner: TrafficOwner,
    way: Direction,
    active: &mut Tick,
    world: &mut World,
) -> ForwardResult {
    match deed(from, to) {
        Action::Flush | Action::Done => return ForwardResult::Rest,
        Action::Shut if from.reset => return ForwardResult::Rest,
        Action::Shut => {
            to.shut();
            return ForwardResult::Rest;
        }
        Action::Discard => return discard(from, world),
        Action::Forward if !from.ready.readable && !lane.is_late(world.time.now) => {
            return ForwardResult::Rest;
        }
        Action::Forward => {}
    }
    let (most, longest) = match lane.grant(world) {
        Grant::Later(_) => return ForwardResult::Rest,
        Grant::One(longest) => (1, longest),
        Grant::Any => (world.buffers.slots, RECORD_PAYLOAD_MAX),
    };
    let records = world.buffers.records_to_read().min(most);
    if records == 0 {
        return ForwardResult::Starved;
    }
    let got = match &lane {
        _ if !from.ready.readable => ReadOutcome::Nothing,
        HalfTransform::Down(lane) => {
            from.read(&mut lane.read_slots(&mut world.buffers.scratch, records, longest)[..records])
        }
        HalfTransform::Up(_) | HalfTransform::Plain => from.read(&mut [IoSliceMut::new(
            &mut world.buffers.scratch[..records * RECORD_PAYLOAD_MAX],
        )]),
    };
    let (fresh, ended) = match got {
        ReadOutcome::Bytes(n) => (n, false),
        ReadOutcome::Nothing if lane.is_late(world.time.now) => (0, false),
        ReadOutcome::Nothing => return ForwardResult::Rest,
        ReadOutcome::Fin | ReadOutcome::Reset => (0, true),
    };
    if fresh > 0 {
        world.telemetry.counters.read(fresh);
        *active = world.time.now;
    }
    let (wire, payload) = match &mut lane {
        HalfTransform::Plain => (fresh, fresh),
        HalfTransform::Down(lane) => {
            let flush = ended || lane.shape().is_some_and(|shape| shape.is_late(world.time.now.0));
            seal(lane, fresh, flush, world)
        }
        HalfTransform::Up(lane) => match lane.transform(&mut world.buffers.scratch[..fresh]) {
            Ok(len) => (len, len),
            Err(fault) => return ForwardResult::Garbled(fault),
        },
    };
    let kept = to.send(&world.buffers.scratch[..wire], &world.buffers.pool, world.time.now);
    debug_assert!(kept, "the read rule left room for everything that was read");
    to.uncounted = to.uncounted.saturating_add(payload as u32);
    count(to, owner, world, way);
    let more = from.ready.readable && to.outbox.is_empty();
    // After an end the deed has changed: look again in this turn.
    if more || ended { ForwardResult::More } else { ForwardResult::Rest }
}

impl HalfTransform<'_> {
    fn shape(&self) -> Option<&Shape> {
        match self {
            Self::Down(lane) => lane.shape(),
            Self::Up(_) | Self::Plain => None,
        }
    }

    /// Bytes are held back that must leave now.
    fn is_late(&self, now: Tick) -> bool {
        self.shape().is_some_and(|shape| shape.is_late(now.0))
    }

    /// What may be read.
    fn grant(&self, world: &mut World) -> Grant {
        match self {
            Self::Down(lane) => lane.grant(world.time.now.0, || world.drbg.u32()),
            Self::Up(_) | Self::Plain => Grant::Any,
        }
    }
}

/// Puts records around a download's `fresh` bytes; the lengths of what leaves, with the headers
/// and without.
fn seal(lane: &mut Downlink, fresh: usize, flush: bool, world: &mut World) -> (usize, usize) {
    let World { buffers, drbg, time, .. } = world;
    let sealed = lane.transform(&mut buffers.scratch, fresh, flush, time.now.0, || drbg.u32());
    (sealed.wire_len, sealed.payload_len)
}

/// Passes a reset on once everything before it has left. `true` = the session is over.
fn mirror_reset<W: Wire>(from: &Endpoint<W>, to: &mut Endpoint<W>) -> bool {
    let over = from.reset && (to.outbox.is_empty() || to.dead);
    if over {
        to.wire.reset_on_close();
    }
    over
}

/// Reads what nobody can take any more.
fn discard<W: Wire>(from: &mut Endpoint<W>, world: &mut World) -> ForwardResult {
    if !from.ready.readable {
        return ForwardResult::Rest;
    }
    match from.read(&mut [IoSliceMut::new(&mut world.buffers.scratch)]) {
        ReadOutcome::Nothing => ForwardResult::Rest,
        ReadOutcome::Bytes(_) if !from.ready.readable => ForwardResult::Rest,
        ReadOutcome::Bytes(_) | ReadOutcome::Fin | ReadOutcome::Reset => ForwardResult::More,
    }
}

/// Which of the user's counters a direction feeds.
#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// Whom the bytes of a session are counted for: nobody = the front's.
#[derive(Clone, Copy)]
struct TrafficOwner {
    user: Option<UserId>,
    upstream: Option<DcConnectionId>,
}

/// Counts payload once the last byte of its batch has left.
fn count<W>(to: &mut Endpoint<W>, owner: TrafficOwner, world: &mut World, way: Direction) {
    if to.uncounted == 0 || !to.outbox.is_empty() || to.dead {
        return;
    }
    let bytes = u64::from(std::mem::take(&mut to.uncounted));
    to.moved += bytes;
    let traffic = match owner.upstream {
        Some(upstream) => world.telemetry.counters.telegram.traffic(upstream),
        None => Some(&mut world.telemetry.counters.front),
    };
    if let Some(traffic) = traffic {
        match way {
            Direction::In => traffic.from_client += bytes,
            Direction::Out => traffic.to_client += bytes,
        }
    }
    let Some(id) = owner.user else { return };
    let user = world.accounts.users.get_mut(id);
    match way {
        Direction::In => user.bytes_in += bytes,
        Direction::Out => user.bytes_out += bytes,
    }
    user.last_seen_ms = Some(world.time.now.0);
}

fn deed<W>(from: &Endpoint<W>, to: &Endpoint<W>) -> Action {
    HalfState {
        source_done: from.done,
        unsent: !to.outbox.is_empty(),
        sink_shut: to.shut,
        sink_dead: to.dead,
    }
    .action()
}

/// The daemon is leaving: flush both ways, then say goodbye to the client.
fn drain<W: Wire>(session: &mut Session<W>, world: &mut World) -> StageTurn {
    let Stage::Relay(pipe) = &mut session.stage else { return StageTurn::On };
    let client = &mut session.client;
    if let Transform::Mtproto(relay) = &mut pipe.lanes
        && relay.down.shape().is_some_and(|shape| !shape.held().is_empty())
        && client.outbox.is_empty()
        && !client.dead
    {
        if world.buffers.pool.available() == 0 {
            return StageTurn::Stop(Turn::Starved);
        }
        let (wire, payload) = seal(&mut relay.down, 0, true, world);
        client.send(&world.buffers.scratch[..wire], &world.buffers.pool, world.time.now);
        client.uncounted = client.uncounted.saturating_add(payload as u32);
        let owner = TrafficOwner { user: session.user, upstream: session.upstream };
        count(client, owner, world, Direction::Out);
    }
    let flushed = |end: &Endpoint<W>| end.outbox.is_empty() || end.dead;
    if flushed(&session.client) && flushed(&pipe.server) {
        return handshake::leave(session, world, CloseReason::Drained);
    }
    StageTurn::Stop(overdue(session, world).map_or(Turn::Waiting, Turn::Done))
}

/// The deadlines of a pipe: a stalled reader, or silence.
fn overdue<W: Wire>(session: &Session<W>, world: &World) -> Option<CloseReason> {
    let Stage::Relay(pipe) = &session.stage else { return None };
    let patience = if world.buffers.is_tight() { TIGHT_STALL_MS } else { STALL_MS };
    let stalled = [session.client.stalled, pipe.server.stalled];
    if stalled.iter().flatten().any(|since| world.time.now.0 >= since.0 + patience) {
        return Some(CloseReason::Stalled);
    }
    (world.time.now.0 >= session.active.0 + idle_ms(session, pipe, world))
        .then_some(CloseReason::Idle)
}

/// When a pipe must be looked at even if nothing comes.
pub fn due<W>(session: &Session<W>, pipe: &Relay<W>, world: &World) -> Tick {
    let idle = Tick(session.active.0 + idle_ms(session, pipe, world));
    let stalled = [session.client.stalled, pipe.server.stalled].into_iter().flatten();
    // Looked at early, so that a pool that fills up meanwhile can shorten the patience.
    let stall = stalled.map(|since| {
        let first = since.0 + TIGHT_STALL_MS;
        Tick(if world.time.now.0 < first {
            first
        } else {
            (world.time.now.0 + TIGHT_STALL_MS).min(since.0 + STALL_MS)
        })
    });
    let shape = match &pipe.lanes {
        Transform::Mtproto(relay) if session.client.outbox.is_empty() => relay.down.shape(),
        _ => None,
    };
    let next = shape.and_then(|shape| shape.due(world.time.now.0, pipe.server.ready.readable));
    stall.chain([idle]).chain(next.map(Tick)).min().unwrap_or(idle)
}

/// How much silence a pipe is allowed: less for strangers and for the half-closed.
fn idle_ms<W>(session: &Session<W>, pipe: &Relay<W>, world: &World) -> u64 {
    let idle = world.settings.timeouts.idle.as_millis() as u64;
    let half_closed = session.client.done || pipe.server.done;
    match (&pipe.lanes, half_closed) {
        (Transform::Plain, _) => idle.min(FRONT_IDLE_MS),
        (Transform::Mtproto(_), true) => idle.min(HALF_CLOSED_MS),
        (Transform::Mtproto(_), false) => idle,
    }
}

/// A reader may take nothing for this long.
const STALL_MS: u64 = 30_000;
/// The same while the pool is nearly used up.
const TIGHT_STALL_MS: u64 = 5_000;
/// Silence of a fronted session; longer than the keep-alive limits of common web servers.
const FRONT_IDLE_MS: u64 = 120_000;
/// Silence of a relayed session of which one side has finished.
const HALF_CLOSED_MS: u64 = 30_000;
