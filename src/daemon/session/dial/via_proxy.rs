//! A connection to Telegram through `network.proxies`: one candidate at a time, each an upstream
//! and an address. The frame and the first payload are sent once the destination is connected.

use std::net::SocketAddr;
use std::task::Poll;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::dial::context::{DialContext, warn_if_egress_refused};
use crate::daemon::session::dial::state::{
    Candidate, Dial, DialAttempt, DialRoute, ProxyAttempt, address_failure, upstream_failure,
};
use crate::daemon::upstream::proxies::{UpstreamAddr, UpstreamId};
use crate::daemon::upstream::sockets;
use crate::daemon::upstream::socks_handshake::{ProxyFailure, SocksHandshake, Unreachable};
use crate::io::clock::Tick;
use crate::io::wire::{Net, Wire};
use crate::proto::socks5::Destination;

/// Continues the running attempt, and tries the next candidate if it has failed. Ready with the
/// slot of the attempt once the destination is connected.
pub fn poll<N: Net>(
    dial: &mut Dial<N::Wire>,
    lookup_until: Tick,
    ctx: &mut DialContext<'_, N>,
) -> Poll<Result<usize, ()>> {
    loop {
        if dial.attempts[SLOT].is_some() {
            match poll_attempt(dial, ctx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(SLOT)),
                Poll::Ready(Err(failure)) => fail(dial, failure, ctx),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(candidate) = next_candidate(dial) else {
            return Poll::Ready(Err(()));
        };
        if start(dial, candidate, lookup_until, ctx).is_pending() {
            return Poll::Pending;
        }
    }
}

/// Starts an attempt. Pending = the host name of the upstream is being looked up. Ready = the
/// attempt is running, or the candidate was skipped.
fn start<N: Net>(
    dial: &mut Dial<N::Wire>,
    candidate: Candidate,
    lookup_until: Tick,
    ctx: &mut DialContext<'_, N>,
) -> Poll<()> {
    let Candidate { upstream, destination } = candidate;
    let (now, token) = (ctx.accounting.now, ctx.key.token(0));
    let outbound = &mut *ctx.outbound;
    let first_addr = outbound.upstreams.addr_of(upstream, &mut outbound.dns, token, now);
    let addr = match first_addr {
        UpstreamAddr::Pending if now < lookup_until => return Poll::Pending,
        UpstreamAddr::Pending | UpstreamAddr::Unknown => {
            outbound.upstreams.record_failure(upstream, "its name cannot be found", now);
            dial.failure = Some(upstream_failure(upstream));
            skip_upstream(dial, upstream);
            return Poll::Ready(());
        }
        UpstreamAddr::Direct => destination,
        UpstreamAddr::Proxy(addr) => addr,
    };
    if !outbound.upstreams.admit(upstream, now) {
        dial.failure.get_or_insert(upstream_failure(upstream));
        skip_upstream(dial, upstream);
        return Poll::Ready(());
    }
    dial.next += 1;
    outbound.upstreams.record_dial(upstream);
    let to = Destination::Addr(destination);
    let handshake = SocksHandshake::new(upstream, to, &outbound.upstreams);
    log::debug!("event=dial-attempt id={} addr={addr} goal={destination}", ctx.id);
    let options = sockets::relay_socket_options(ctx.settings);
    match ctx.net.dial(addr, &options, ctx.key.token(SLOT + 1)) {
        Ok(wire) => {
            let proxy = Some(ProxyAttempt { handshake, is_connected: false });
            let until = now + ctx.settings.timeouts.tcp;
            dial.attempts[SLOT] = Some(DialAttempt { wire, addr, until, woken: false, proxy });
        }
        Err(e) => {
            warn_if_egress_refused(&e, ctx.accounting.telemetry);
            outbound.upstreams.record_failure(upstream, &e.to_string(), now);
            let is_direct = addr == destination;
            dial.failure = Some(match is_direct {
                true => address_failure(addr, Some(&e)),
                false => upstream_failure(upstream),
            });
            skip_upstream(dial, upstream);
        }
    }
    Poll::Ready(())
}

/// Continues the running attempt: TCP first, then the SOCKS5 handshake. An attempt after its
/// deadline has failed.
fn poll_attempt<N: Net>(
    dial: &mut Dial<N::Wire>,
    ctx: &mut DialContext<'_, N>,
) -> Poll<Result<(), ProxyFailure>> {
    let Some(attempt) = &mut dial.attempts[SLOT] else { return Poll::Pending };
    let Some(proxy) = &mut attempt.proxy else { return Poll::Pending };
    let now = ctx.accounting.now;
    let was_connected = proxy.is_connected;
    let outcome = match std::mem::take(&mut attempt.woken) {
        true => proxy.poll(&mut attempt.wire),
        false => Poll::Pending,
    };
    if proxy.is_connected && !was_connected {
        // The SOCKS5 handshake gets as long as TCP did.
        attempt.until = now + ctx.settings.timeouts.tcp;
    }
    match outcome {
        Poll::Pending if now < attempt.until => Poll::Pending,
        Poll::Pending => Poll::Ready(Err(ProxyFailure::Upstream("timeout".to_owned()))),
        Poll::Ready(Ok(())) => {
            ctx.outbound.upstreams.record_success(proxy.handshake.upstream);
            Poll::Ready(Ok(()))
        }
        failed => failed,
    }
}

/// Drops the running attempt and blames the upstream or the destination.
fn fail<N: Net>(dial: &mut Dial<N::Wire>, failure: ProxyFailure, ctx: &mut DialContext<'_, N>) {
    let Some(attempt) = dial.attempts[SLOT].take() else { return };
    let Some(proxy) = &attempt.proxy else { return };
    let (addr, upstream) = (attempt.addr, proxy.handshake.upstream);
    let why = failure.to_string();
    match failure {
        // The upstream works, so its other addresses are tried.
        ProxyFailure::Destination(why) => {
            ctx.outbound.upstreams.record_success(upstream);
            let destination = dial.destination(&attempt);
            dial.failure = Some(destination_failure(destination, why));
        }
        ProxyFailure::Upstream(why) => {
            ctx.outbound.upstreams.record_failure(upstream, &why, ctx.accounting.now);
            dial.failure = Some(attempt.no_answer());
            skip_upstream(dial, upstream);
        }
    }
    ctx.accounting
        .telemetry
        .info(format_args!("event=dial-failed addr={addr} by=proxy error={why:?}"));
}

impl ProxyAttempt {
    fn poll<W: Wire>(&mut self, wire: &mut W) -> Poll<Result<(), ProxyFailure>> {
        if !self.is_connected {
            match wire.poll_connect() {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => self.is_connected = true,
                Poll::Ready(Err(e)) => {
                    return Poll::Ready(Err(match self.handshake.is_direct() {
                        true => ProxyFailure::Destination(Unreachable::System(
                            e.raw_os_error().unwrap_or(0),
                        )),
                        false => ProxyFailure::Upstream(e.to_string()),
                    }));
                }
            }
        }
        self.handshake.poll(wire)
    }
}

/// A destination that a working upstream cannot reach.
fn destination_failure(destination: SocketAddr, why: Unreachable) -> (Cause, Detail) {
    let detail = match why {
        Unreachable::Proxy(fault) => Detail::ViaProxy(destination, fault),
        Unreachable::System(code) => Detail::DialFailed(destination, code),
    };
    (Cause::DcUnreachable, detail)
}

fn next_candidate<W>(dial: &Dial<W>) -> Option<Candidate> {
    match &dial.route {
        DialRoute::Upstreams(list) => list.get(dial.next).copied(),
        DialRoute::Addresses(_) | DialRoute::Name(_) => None,
    }
}

/// Moves on to the first candidate of another upstream.
fn skip_upstream<W>(dial: &mut Dial<W>, upstream: UpstreamId) {
    let DialRoute::Upstreams(list) = &dial.route else { return };
    let rest = list.get(dial.next..).unwrap_or_default();
    dial.next += rest.iter().take_while(|candidate| candidate.upstream == upstream).count();
}

/// The only slot that a dial through upstreams uses.
const SLOT: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::session::dial::state::DESTINATIONS_MAX;
    use crate::daemon::session::transform::Transform;

    #[test]
    fn the_candidates_of_an_upstream_stand_together() {
        let destinations: Vec<SocketAddr> =
            (1..=5).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let order = [UpstreamId(1), UpstreamId(0)];
        let route = DialRoute::via_upstreams(&order, &destinations);
        let mut dial: Dial<()> = Dial::new(Transform::Plain, Vec::new(), route);
        let skip = |dial: &mut Dial<()>, next, upstream| {
            dial.next = next;
            skip_upstream(dial, UpstreamId(upstream));
            dial.next
        };
        assert_eq!(skip(&mut dial, 1, 1), DESTINATIONS_MAX);
        assert_eq!(skip(&mut dial, DESTINATIONS_MAX, 0), 2 * DESTINATIONS_MAX);
        assert_eq!(skip(&mut dial, DESTINATIONS_MAX, 1), DESTINATIONS_MAX);
    }
}
