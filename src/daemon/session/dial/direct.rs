//! A direct connection: one attempt at a time, and a second one in parallel if the first is slow
//! (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::session::dial::context::{DialContext, warn_if_egress_refused};
use crate::daemon::session::dial::state::{Dial, DialAttempt, DialRoute, address_failure};
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::sockets;
use crate::io::clock::Tick;
use crate::io::wire::{Net, Wire};
use crate::util::host_port::HostPort;

/// Looks up the host name if there is one, checks the running attempts, and starts the next ones.
/// Ready with the slot of the connected attempt.
pub fn poll<N: Net>(
    dial: &mut Dial<N::Wire>,
    lookup_until: Tick,
    ctx: &mut DialContext<'_, N>,
) -> Poll<Result<usize, ()>> {
    if let DialRoute::Name(name) = &dial.route {
        match look_up(name, lookup_until, ctx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(addrs)) => dial.route = DialRoute::Addresses(addrs),
            Poll::Ready(None) => {
                dial.failure = Some((Cause::FrontUnknown, Detail::None));
                return Poll::Ready(Err(()));
            }
        }
    }
    if dial.next == 0 && !dial.is_connecting() {
        check_addresses(dial, ctx)?;
    }
    for slot in 0..dial.attempts.len() {
        if poll_attempt(dial, slot, ctx).is_ready() {
            return Poll::Ready(Ok(slot));
        }
    }
    loop {
        start_attempts(dial, ctx);
        if dial.is_connecting() {
            return Poll::Pending;
        }
        // Some networks block port 443 of Telegram only.
        let Some(dc) = dial.other_ports_of.take() else {
            return Poll::Ready(Err(()));
        };
        let others = addresses::other_ports(ctx.settings, dc);
        (dial.route, dial.next) = (DialRoute::Addresses(others), 0);
    }
}

/// The addresses of the front; `None` = there are none.
fn look_up<N: Net>(
    name: &HostPort,
    until: Tick,
    ctx: &mut DialContext<'_, N>,
) -> Poll<Option<Vec<SocketAddr>>> {
    let now = ctx.accounting.now;
    match ctx.outbound.dns.lookup(&name.host, ctx.key.token(0), now) {
        CachedAddrs::Found(ips) => {
            let mut list: Vec<_> = ips.iter().map(|ip| SocketAddr::new(*ip, name.port)).collect();
            ctx.outbound.bad_addresses.sort(&mut list, now);
            Poll::Ready(Some(list))
        }
        CachedAddrs::Pending if now < until => Poll::Pending,
        CachedAddrs::Pending | CachedAddrs::Failed => {
            let host = &name.host;
            ctx.accounting.telemetry.warn(format_args!("event=front-unresolved host={host:?}"));
            Poll::Ready(None)
        }
    }
}

/// Bounds the list, and removes our own listeners from the addresses of a front: otherwise each
/// connection would open another one, without end.
fn check_addresses<N: Net>(
    dial: &mut Dial<N::Wire>,
    ctx: &mut DialContext<'_, N>,
) -> Result<(), ()> {
    let is_relay = dial.is_relay();
    let DialRoute::Addresses(list) = &mut dial.route else { return Ok(()) };
    list.truncate(ADDRESSES_MAX);
    if is_relay || list.is_empty() {
        return Ok(());
    }
    let listeners = &ctx.outbound.own_listeners;
    list.retain(|addr| !sockets::is_own_listener(*addr, listeners, ctx.net));
    if !list.is_empty() {
        return Ok(());
    }
    ctx.accounting.telemetry.warn(format_args!("{LOOP_WARNING}"));
    dial.failure = Some((Cause::FrontLoop, Detail::None));
    Err(())
}

/// Checks the attempt in a slot. Ready = connected; a failed or late attempt is dropped.
fn poll_attempt<N: Net>(
    dial: &mut Dial<N::Wire>,
    slot: usize,
    ctx: &mut DialContext<'_, N>,
) -> Poll<()> {
    let Some(attempt) = &mut dial.attempts[slot] else { return Poll::Pending };
    let now = ctx.accounting.now;
    let outcome = match std::mem::take(&mut attempt.woken) {
        true => attempt.wire.poll_connect(),
        false => Poll::Pending,
    };
    let error = match outcome {
        Poll::Ready(Ok(())) => {
            ctx.outbound.bad_addresses.remove(attempt.addr);
            return Poll::Ready(());
        }
        Poll::Pending if now < attempt.until => return Poll::Pending,
        Poll::Pending => None,
        Poll::Ready(Err(e)) => Some(e),
    };
    let addr = attempt.addr;
    dial.attempts[slot] = None;
    // The next attempt need not wait for the stagger of the failed one.
    dial.stagger = now;
    fail(dial, addr, error.as_ref(), ctx);
    Poll::Pending
}

/// Starts the next attempt: at once if none is running, otherwise after the stagger.
fn start_attempts<N: Net>(dial: &mut Dial<N::Wire>, ctx: &mut DialContext<'_, N>) {
    let now = ctx.accounting.now;
    while let Some(addr) = next_address(dial) {
        let free = dial.attempts.iter().position(Option::is_none);
        let is_due = !dial.is_connecting() || now >= dial.stagger;
        let Some(slot) = free.filter(|_| is_due) else { break };
        dial.next += 1;
        log::debug!("event=dial-attempt id={} addr={addr}", ctx.id);
        let options = sockets::relay_socket_options(ctx.settings);
        match ctx.net.dial(addr, &options, ctx.key.token(slot + 1)) {
            Ok(wire) => {
                let until = now + ctx.settings.timeouts.tcp;
                dial.attempts[slot] =
                    Some(DialAttempt { wire, addr, until, woken: false, proxy: None });
                dial.stagger = now + STAGGER;
            }
            // Not a fault of the address, so it is not recorded as bad.
            Err(e) if warn_if_egress_refused(&e, ctx.accounting.telemetry) => {
                dial.failure = Some(address_failure(addr, Some(&e)));
            }
            Err(e) => fail(dial, addr, Some(&e), ctx),
        }
    }
}

fn next_address<W>(dial: &Dial<W>) -> Option<SocketAddr> {
    match &dial.route {
        DialRoute::Addresses(list) => list.get(dial.next).copied(),
        DialRoute::Name(_) | DialRoute::Upstreams(_) => None,
    }
}

/// Records an address that failed; `None` = it did not answer in time.
fn fail<N: Net>(
    dial: &mut Dial<N::Wire>,
    addr: SocketAddr,
    error: Option<&io::Error>,
    ctx: &mut DialContext<'_, N>,
) {
    dial.failure = Some(address_failure(addr, error));
    let why = error.map_or("timeout".to_owned(), io::Error::to_string);
    ctx.accounting.telemetry.info(format_args!("event=dial-failed addr={addr} error={why:?}"));
    ctx.outbound.bad_addresses.add(addr, ctx.accounting.now);
}

/// RFC 8305 "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses tried for one session.
const ADDRESSES_MAX: usize = 8;

const LOOP_WARNING: &str = "event=front-loop hint=\"the front is this proxy itself; set \
     [domain-fronting] host and port to the web server\"";
