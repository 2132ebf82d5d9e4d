//! To Telegram through `network.proxies`: one leg at a time, each a way and an address, until one
//! leads there. The header and the first payload leave only when the far end stands.

use std::net::SocketAddr;
use std::task::Poll;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::dial::{
    DialAttempt, DialTargets, LOOKUP_MS, connected, failure, give_up, options, warn_if_barred,
};
use crate::daemon::session::handshake::StageTurn;
use crate::daemon::session::{CloseReason, Session, Stage, Turn};
use crate::daemon::shared::World;
use crate::daemon::upstream::proxies::{UpstreamAddr, UpstreamId};
use crate::daemon::upstream::socks_handshake::{ProxyFailure, SocksHandshake, Unreachable};
use crate::io::clock::Tick;
use crate::io::wire::{Net, Wire};
use crate::proto::socks5::Destination;

/// One thing to try: an address of the data centre by one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which way.
    pub way: UpstreamId,
    /// The address of the data centre.
    pub goal: SocketAddr,
}

/// What is left to do of an attempt by a way.
pub struct ProxyAttempt {
    hop: SocksHandshake,
    /// The connection to where the way begins stands.
    stands: bool,
}

impl<W> DialAttempt<W> {
    /// What is told of it while it gets no answer.
    pub fn silence(&self) -> (Cause, Detail) {
        match &self.climb {
            Some(climb) if !climb.hop.is_direct() => down(climb.hop.upstream),
            _ => (Cause::DcUnreachable, Detail::Dial(self.addr, 0)),
        }
    }
}

/// Every way with the first few addresses of the data centre.
pub fn legs(ways: &[UpstreamId], goals: &[SocketAddr]) -> Vec<Candidate> {
    let goals = goals.get(..GOALS).unwrap_or(goals);
    ways.iter()
        .flat_map(|way| goals.iter().map(|goal| Candidate { way: *way, goal: *goal }))
        .collect()
}

/// One look at a routed dial: goes on with the running attempt, or begins the next one.
pub fn dial<N: Net>(
    session: &mut Session<N::Wire>,
    world: &mut World,
    net: &mut N,
    token: usize,
) -> StageTurn {
    let Stage::Dial(stage) = &mut session.stage else { return StageTurn::On };
    let DialTargets::Routed(legs) = &stage.targets else { return StageTurn::On };
    let patience = world.settings.timeouts.tcp.as_millis() as u64;
    loop {
        if let Some(attempt) = &mut stage.attempts[0] {
            let outcome = go_on(attempt, world.time.now, patience);
            let Some(way) = attempt.climb.as_ref().map(|climb| climb.hop.upstream) else {
                return StageTurn::Stop(Turn::Waiting);
            };
            let trouble = match outcome {
                Ok(true) => {
                    world.outbound.upstreams.record_success(way);
                    return connected(session, world, 0);
                }
                Ok(false) if world.time.now < attempt.until => {
                    return StageTurn::Stop(Turn::Waiting);
                }
                Ok(false) => ProxyFailure::Upstream("timeout".to_owned()),
                Err(trouble) => trouble,
            };
            let (addr, silence) = (attempt.addr, attempt.silence());
            stage.attempts[0] = None;
            let why = match trouble {
                ProxyFailure::Destination(why) => {
                    world.outbound.upstreams.record_success(way);
                    let goal = stage.next.checked_sub(1).and_then(|at| legs.get(at));
                    stage.trouble = goal.map(|leg| out_of_reach(leg.goal, why));
                    why.to_string()
                }
                ProxyFailure::Upstream(why) => {
                    world.outbound.upstreams.record_failure(way, &why, world.time.now);
                    stage.trouble = Some(silence);
                    stage.next = after(legs, stage.next, way);
                    why
                }
            };
            let line = format!("event=dial-failed addr={addr} by=proxy error={why:?}");
            world.telemetry.info(&line);
        }
        let Some(leg) = legs.get(stage.next).copied() else {
            return give_up(session, world, CloseReason::Unreachable);
        };
        let until = *stage.until.get_or_insert(Tick(world.time.now.0 + LOOKUP_MS));
        let entry = match world.outbound.upstreams.addr_of(
            leg.way,
            &mut world.outbound.dns,
            token,
            world.time.now,
        ) {
            UpstreamAddr::Pending if world.time.now < until => {
                return StageTurn::Stop(Turn::Waiting);
            }
            UpstreamAddr::Pending | UpstreamAddr::Unknown => {
                world.outbound.upstreams.record_failure(
                    leg.way,
                    "its name cannot be found",
                    world.time.now,
                );
                stage.trouble = Some(down(leg.way));
                stage.next = after(legs, stage.next, leg.way);
                continue;
            }
            UpstreamAddr::Direct => leg.goal,
            UpstreamAddr::Proxy(addr) => addr,
        };
        if !world.outbound.upstreams.admit(leg.way, world.time.now) {
            stage.trouble.get_or_insert(down(leg.way));
            stage.next = after(legs, stage.next, leg.way);
            continue;
        }
        stage.next += 1;
        world.outbound.upstreams.record_dial(leg.way);
        let hop =
            SocksHandshake::new(leg.way, Destination::Addr(leg.goal), &world.outbound.upstreams);
        let climb = Some(ProxyAttempt { hop, stands: false });
        let (id, goal) = (session.id, leg.goal);
        log::debug!("event=dial-attempt id={id} addr={entry} goal={goal}");
        match net.dial(entry, &options(world), token + 1) {
            Ok(wire) => {
                let until = Tick(world.time.now.0 + patience);
                stage.attempts[0] =
                    Some(DialAttempt { wire, addr: entry, until, woken: false, climb });
            }
            Err(e) => {
                warn_if_barred(world, &e);
                world.outbound.upstreams.record_failure(leg.way, &e.to_string(), world.time.now);
                let is_straight = entry == leg.goal;
                stage.trouble =
                    Some(if is_straight { failure(entry, Some(&e)) } else { down(leg.way) });
                stage.next = after(legs, stage.next, leg.way);
            }
        }
    }
}

/// What is told of a way that does not lead anywhere.
fn down(way: UpstreamId) -> (Cause, Detail) {
    (Cause::ProxyDown, Detail::Way(way.0))
}

/// What is told of an address that a working way does not lead to.
fn out_of_reach(goal: SocketAddr, why: Unreachable) -> (Cause, Detail) {
    let detail = match why {
        Unreachable::Proxy(fault) => Detail::Behind(goal, fault),
        Unreachable::System(code) => Detail::Dial(goal, code),
    };
    (Cause::DcUnreachable, detail)
}

/// The first leg from `next` on that goes another way.
fn after(legs: &[Candidate], next: usize, way: UpstreamId) -> usize {
    let rest = legs.get(next..).unwrap_or_default();
    next + rest.iter().take_while(|leg| leg.way == way).count()
}

/// `true` = the far end stands.
fn go_on<W: Wire>(
    attempt: &mut DialAttempt<W>,
    now: Tick,
    patience: u64,
) -> Result<bool, ProxyFailure> {
    let Some(climb) = &mut attempt.climb else { return Ok(false) };
    if !std::mem::take(&mut attempt.woken) {
        return Ok(false);
    }
    if !climb.stands {
        let outcome = attempt.wire.outcome().map_err(|e| match climb.hop.is_direct() {
            true => ProxyFailure::Destination(Unreachable::System(e.raw_os_error().unwrap_or(0))),
            false => ProxyFailure::Upstream(e.to_string()),
        });
        if !outcome? {
            return Ok(false);
        }
        climb.stands = true;
        attempt.until = Tick(now.0 + patience);
    }
    match climb.hop.poll(&mut attempt.wire) {
        Poll::Ready(outcome) => outcome.map(|()| true),
        Poll::Pending => Ok(false),
    }
}

/// Addresses of a data centre tried by each way.
const GOALS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legs_of_a_way_stand_together() {
        let goals: Vec<SocketAddr> =
            (1..=5).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let legs = legs(&[UpstreamId(1), UpstreamId(0)], &goals);
        assert_eq!(legs.len(), 2 * GOALS);
        assert_eq!(after(&legs, 1, UpstreamId(1)), GOALS);
        assert_eq!(after(&legs, GOALS, UpstreamId(0)), 2 * GOALS);
        assert_eq!(after(&legs, GOALS, UpstreamId(1)), GOALS);
    }
}
