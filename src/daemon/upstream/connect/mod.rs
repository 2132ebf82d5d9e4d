//! One outgoing TCP connection, up to the moment at which bytes for the destination may be sent:
//! lookup, order of the addresses, two attempts at a time (RFC 8305), SOCKS5 upstreams one after
//! the other. The owner polls it after an event, a wake-up or its deadline.

mod attempt;
pub mod error;
mod proxy_handshake;
pub mod target;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Poll, ready};
use std::time::Duration;
use std::vec;

use crate::config::settings::Settings;
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::connect::attempt::Attempt;
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::proxy_handshake::ProxyHandshake;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Reach, Route};
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::daemon::upstream::proxies::{UpstreamId, Upstreams};
use crate::daemon::upstream::sockets;
use crate::io::clock::{Tick, earliest};
use crate::io::egress;
use crate::io::logger::{Maybe, event, fields};
use crate::io::sockopt::SocketOptions;
use crate::io::wire::{Net, Wire};
use crate::proto::socks5::Destination;
use crate::util::host_port::HostPort;

/// A connection that is being established. Dropping it closes its sockets.
pub struct Connect<W> {
    target: HostOrAddrs,
    route: Route,
    /// The number of the session in the log.
    id: u64,
    /// The ways that have not been tried yet, the next one last. Decided at the first poll, since
    /// a reload may change the upstreams meanwhile.
    ways: Option<Vec<Way>>,
    /// What has not been tried yet on the present way.
    candidates: vec::IntoIter<Candidate>,
    attempts: [Option<Attempt<W>>; SOCKETS],
    /// When the next attempt may start beside the running one.
    stagger: Tick,
    /// The deadline of the lookup in progress.
    lookup_until: Option<Tick>,
    /// When old addresses may serve instead of the lookup in progress.
    stale_at: Option<Tick>,
    /// The data centre whose other ports are tried when all addresses have failed.
    other_ports_of: Option<u16>,
    /// What failed for a shortage of this machine, and is tried again.
    short: Shortage,
    /// The last failure.
    error: Option<ConnectError>,
}

/// Candidates that could not be tried, since this machine lacked a port, a descriptor or memory.
#[derive(Default)]
struct Shortage {
    candidates: Vec<Candidate>,
    /// When they are tried again.
    retry_at: Option<Tick>,
    /// When the connection fails.
    until: Option<Tick>,
}

enum Way {
    /// To the addresses of the target, two at a time.
    Direct,
    /// To the other ports of a data centre: some networks block port 443 of Telegram only.
    OtherPorts(u16),
    /// Through the proxy of an upstream, to one destination at a time.
    Proxy(UpstreamId, HostPort),
}

struct Candidate {
    /// The address to dial: the destination's or the proxy's.
    addr: SocketAddr,
    /// What the proxy shall connect to; `None` = there is no proxy.
    via: Option<(UpstreamId, Destination)>,
}

/// A connection to the destination.
pub struct Connected<W> {
    /// The socket. No byte has been read from the destination.
    pub wire: W,
    /// The offset of the socket's token from the first token.
    pub offset: usize,
    /// The address that was dialled: the destination's or the proxy's.
    pub addr: SocketAddr,
    /// The address of the destination; that of the proxy if the proxy looks the name up.
    pub destination: SocketAddr,
    /// When the attempt began, by [`Net::micros`].
    pub begun_us: u64,
    /// The proxy. The owner records whether the destination answers through it.
    pub upstream: Option<UpstreamId>,
}

impl<W: Wire> Connect<W> {
    /// A connection that has not begun. `id` = the number of the session in the log, or 0.
    pub fn new(target: HostOrAddrs, route: Route, id: u64) -> Self {
        Self {
            target,
            route,
            id,
            ways: None,
            candidates: Vec::new().into_iter(),
            attempts: [None, None],
            stagger: Tick(0),
            lookup_until: None,
            stale_at: None,
            other_ports_of: None,
            short: Shortage::default(),
            error: None,
        }
    }

    /// Tries this data centre's other ports when all addresses have failed; not through upstreams.
    pub fn with_other_ports_of(mut self, dc: u16) -> Self {
        self.other_ports_of = Some(dc);
        self
    }

    /// Records an event for the socket with this offset from the first token.
    pub fn wake(&mut self, offset: usize) {
        if let Some(Some(attempt)) = self.attempts.get_mut(offset) {
            attempt.woken = true;
        }
    }

    /// The next deadline.
    pub fn due(&self) -> Tick {
        let attempts = self.attempts.iter().flatten().map(|attempt| attempt.until).min();
        let has_room = self.attempts.iter().any(Option::is_none);
        let stagger = (self.may_race() && has_room).then_some(self.stagger);
        let lookup = earliest(&[self.lookup_until, self.stale_at]);
        let due = earliest(&[attempts, stagger, lookup, self.short.retry_at]);
        due.unwrap_or(Tick(0))
    }

    /// Why the connection is not established yet: no answer, or the last failure.
    pub fn current_error(&mut self) -> Option<ConnectError> {
        let silent = self.attempts.iter().flatten().next().map(|attempt| attempt.error(None));
        silent.or_else(|| self.error.take()).or_else(|| match &self.target {
            HostOrAddrs::Host(server, _) => {
                let fault = LookupFault::unanswered();
                Some(ConnectError::NameNotFound(server.host.clone(), fault))
            }
            HostOrAddrs::Addrs(_) => None,
        })
    }

    /// Drops the running attempts, since the owner has no more use for the connection. A second
    /// call does nothing. One that is connected is reset, so that no port stays in TIME_WAIT.
    pub fn abandon(&mut self, upstreams: &mut Upstreams) {
        for mut attempt in self.attempts.iter_mut().filter_map(Option::take) {
            attempt.wire.reset_on_close();
            attempt.upstream().into_iter().for_each(|id| upstreams.record_abandoned(id));
        }
    }

    /// Checks the running attempts, and starts the next ones. The sockets get `first_token` and
    /// the one after it. After a lookup, `first_token` is woken. Not to be polled after `Ready`.
    ///
    /// # Errors
    /// No way leads to the target: the last failure.
    pub fn poll<N: Net<Wire = W>>(
        &mut self,
        first_token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Poll<Result<Connected<W>, ConnectError>> {
        for offset in 0..SOCKETS {
            let Some(mut attempt) = self.attempts[offset].take() else { continue };
            match attempt.poll(context.now, context.settings.timeouts.tcp) {
                Poll::Pending => self.attempts[offset] = Some(attempt),
                Poll::Ready(Ok(())) => {
                    self.abandon(&mut context.outbound.upstreams);
                    return Poll::Ready(Ok(connected(attempt, offset, self.route, context)));
                }
                Poll::Ready(Err(error)) => {
                    // The next attempt need not wait for the stagger of the failed one.
                    self.stagger = context.now;
                    self.fail(attempt.addr, attempt.upstream(), error, context);
                }
            }
        }
        if self.short.retry_at.is_some_and(|at| context.now >= at) {
            self.short.retry_at = None;
            let again = std::mem::take(&mut self.short.candidates).into_iter();
            self.candidates = again.chain(self.candidates.by_ref()).collect::<Vec<_>>().into_iter();
        }
        loop {
            self.start_attempts(first_token, context, net);
            if self.is_connecting() {
                return Poll::Pending;
            }
            if let Err(error) = ready!(self.next_way(first_token, context, net)) {
                if self.short.retry_at.is_some() && self.short.until > Some(context.now) {
                    self.error = Some(error);
                    return Poll::Pending;
                }
                self.log_front(&error, context);
                return Poll::Ready(Err(error));
            }
        }
    }

    fn is_connecting(&self) -> bool {
        self.attempts.iter().any(Option::is_some)
    }

    /// Whether the next attempt may run beside another one.
    fn may_race(&self) -> bool {
        self.candidates.as_slice().first().is_some_and(|next| next.via.is_none())
    }

    /// Starts the next attempts: at once if none is running, otherwise after the stagger.
    fn start_attempts<N: Net<Wire = W>>(
        &mut self,
        first_token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) {
        loop {
            let is_due = !self.is_connecting() || self.may_race() && context.now >= self.stagger;
            let free = self.attempts.iter().position(Option::is_none).filter(|_| is_due);
            let Some(offset) = free else { break };
            let Some(candidate) = self.candidates.next() else { break };
            let paused_until = context.outbound.front_paused_until;
            if self.route == Route::Front && context.now < paused_until {
                self.error.get_or_insert(ConnectError::Shortage(PAUSED.to_owned()));
                self.set_aside(candidate, paused_until, context);
                continue;
            }
            self.attempts[offset] = self.start(candidate, first_token + offset, context, net);
        }
    }

    fn start<N: Net<Wire = W>>(
        &mut self,
        candidate: Candidate,
        token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Option<Attempt<W>> {
        let (now, Candidate { addr, via }) = (context.now, candidate);
        let upstream = via.as_ref().map(|(upstream, _)| *upstream);
        match &via {
            None => event!(Debug, "dial-attempt", id = self.id, addr = %addr),
            Some((_, goal)) => {
                event!(Debug, "dial-attempt", id = self.id, addr = %addr, goal = %goal);
            }
        }
        let begun_us = net.micros();
        let options = match self.route {
            Route::Front => sockets::plain_socket_options(context.settings),
            _ => sockets::outgoing_socket_options(context.settings),
        };
        let options = SocketOptions { first_buffers: context.first_buffers, ..options };
        let dialled = net.dial(addr, &options, token);
        if let Err(e) = &dialled
            && is_shortage(e, addr, net)
        {
            self.run_short(Candidate { addr, via }, e, context);
            return None;
        }
        let socks = match via {
            None => None,
            Some((upstream, destination)) => {
                let upstreams = &mut context.outbound.upstreams;
                upstreams.record_dial(upstream);
                let (negotiation, outbox) = upstreams.negotiate(upstream, destination)?;
                let charge = context.account.charge_held(PROXY_HANDSHAKE);
                Some(Box::new(ProxyHandshake { upstream, negotiation, outbox, _charge: charge }))
            }
        };
        match dialled {
            Ok(wire) => {
                self.stagger = now + STAGGER;
                let until = now + context.settings.timeouts.tcp;
                let (woken, is_connected) = (false, false);
                Some(Attempt { wire, addr, begun_us, until, woken, is_connected, socks })
            }
            Err(e) => {
                if egress::is_refused(&e) {
                    let why = e.to_string();
                    context.log.warn(now, fields!("egress-refused", error = ?why));
                }
                self.fail(addr, upstream, attempt::error(addr, upstream, Some(e)), context);
                None
            }
        }
    }

    /// Handles a shortage of this machine. Neither the address nor the proxy failed.
    fn run_short(
        &mut self,
        candidate: Candidate,
        error: &io::Error,
        context: &mut ConnectContext<'_>,
    ) {
        let now = context.now;
        let why = error.to_string();
        let hint = "connections to the front pause for a second; widen \
                    net.ipv4.ip_local_port_range, or raise the limit of open files";
        context.log.warn(now, fields!("dial-shortage", error = ?why, hint = ?hint));
        self.error = Some(ConnectError::Shortage(why));
        let outbound = &mut *context.outbound;
        outbound.shortages += 1;
        if let Some((upstream, _)) = &candidate.via {
            outbound.upstreams.record_abandoned(*upstream);
        }
        // A lack of descriptors costs no search, and the daemon makes room.
        let pauses = !egress::lacks_files(error);
        if pauses {
            outbound.front_paused_until = now + FRONT_PAUSE;
        }
        let wait = if pauses && self.route == Route::Front { FRONT_PAUSE } else { RETRY };
        self.set_aside(candidate, now + wait, context);
    }

    /// Keeps a candidate that could not be tried for a later attempt.
    fn set_aside(&mut self, candidate: Candidate, retry_at: Tick, context: &ConnectContext<'_>) {
        let Shortage { candidates, retry_at: at, until } = &mut self.short;
        candidates.push(candidate);
        *at = Some(retry_at);
        until.get_or_insert(context.now + context.settings.timeouts.tcp);
    }

    /// Logs and records the failure of an attempt. No other function does.
    fn fail(
        &mut self,
        addr: SocketAddr,
        upstream: Option<UpstreamId>,
        error: ConnectError,
        context: &mut ConnectContext<'_>,
    ) {
        let (now, why) = (context.now, error.to_string());
        let Outbound { upstreams, bad_addresses, .. } = &mut *context.outbound;
        match (upstream, &error) {
            // The proxy works, so its other destinations are tried.
            (Some(upstream), ConnectError::Refused(..)) => upstreams.record_refusal(upstream, &why),
            (Some(upstream), _) => {
                upstreams.record_failure(upstream, &why, now);
                self.candidates = Vec::new().into_iter();
            }
            // Not a fault of the address.
            (None, ConnectError::Address(_, Some(e))) if egress::is_refused(e) => {
                self.error = Some(error);
                return;
            }
            (None, _) => bad_addresses.add(addr, now),
        }
        let by = Maybe(upstream.map(|_| "proxy"));
        context.log.info(now, fields!("dial-failed", addr = %addr, by = %by, error = ?why));
        self.error = Some(error);
    }

    /// Finds the candidates of the next way. Pending = a name is being looked up.
    fn next_way<N: Net<Wire = W>>(
        &mut self,
        token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Poll<Result<(), ConnectError>> {
        let mut ways = self.ways.take().unwrap_or_else(|| self.all_ways(context));
        let outcome = loop {
            let Some(way) = ways.pop() else {
                break Poll::Ready(Err(self.error.take().unwrap_or(ConnectError::NoAddress)));
            };
            let until = *self.lookup_until.get_or_insert(context.now + LOOKUP);
            let Poll::Ready(found) = self.candidates_of(&way, until, token, context, net) else {
                ways.push(way);
                self.stale_at = context.outbound.dns.stale_at(context.now);
                break Poll::Pending;
            };
            (self.lookup_until, self.stale_at) = (None, None);
            match found {
                Ok(candidates) => {
                    self.candidates = candidates.into_iter();
                    break Poll::Ready(Ok(()));
                }
                // Says less than a failure.
                Err(error @ ConnectError::CircuitOpen(_)) => drop(self.error.get_or_insert(error)),
                Err(error) => self.error = Some(error),
            }
        };
        self.ways = Some(ways);
        outcome
    }

    /// All ways, the first one last.
    fn all_ways(&self, context: &mut ConnectContext<'_>) -> Vec<Way> {
        let upstreams = &context.outbound.upstreams;
        if self.route != Route::Upstreams || upstreams.is_empty() {
            let others = self.other_ports_of.map(Way::OtherPorts);
            return others.into_iter().chain([Way::Direct]).collect();
        }
        let order = upstreams.ordered(context.drbg, context.now).into_iter().rev();
        order.map(|(id, proxy)| proxy.map_or(Way::Direct, |proxy| Way::Proxy(id, proxy))).collect()
    }

    fn candidates_of<N: Net<Wire = W>>(
        &self,
        way: &Way,
        until: Tick,
        token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Poll<Result<Vec<Candidate>, ConnectError>> {
        let now = context.now;
        let Outbound { upstreams, dns, bad_addresses, own_listeners, .. } = &mut *context.outbound;
        let ours = RefusalContext { settings: context.settings, own_listeners };
        let mut look_up = |server: &HostPort| {
            let addr = |ip: &IpAddr| SocketAddr::new(*ip, server.port);
            if let Some(ip) = server.ip() {
                return Poll::Ready(Ok(vec![addr(&ip)]));
            }
            match dns.lookup(&server.host, token, now) {
                CachedAddrs::Found(ips) => Poll::Ready(Ok(ips.iter().map(addr).collect())),
                CachedAddrs::Pending if now < until => Poll::Pending,
                CachedAddrs::Pending => Poll::Ready(Err(LookupFault::unanswered())),
                CachedAddrs::Failed(fault) => Poll::Ready(Err(fault.clone())),
            }
        };
        let addrs = match (way, &self.target) {
            (Way::OtherPorts(dc), _) => addresses::other_ports(context.settings, *dc),
            (Way::Direct, target) => {
                let mut list = match target {
                    HostOrAddrs::Addrs(addrs) => addrs.clone(),
                    HostOrAddrs::Host(server, _) => match ready!(look_up(server)) {
                        Ok(list) => list,
                        Err(fault) => {
                            let host = server.host.clone();
                            return Poll::Ready(Err(ConnectError::NameNotFound(host, fault)));
                        }
                    },
                };
                let mut refusal = None;
                list.retain(|addr| {
                    let refused = refusal_of(*addr, target, self.route, &ours, net);
                    let is_allowed = refused.is_none();
                    refusal = refusal.take().or(refused);
                    is_allowed
                });
                if let (true, Some(refusal)) = (list.is_empty(), refusal) {
                    return Poll::Ready(Err(refusal));
                }
                bad_addresses.sort(&mut list, now);
                list.truncate(ADDRESSES_MAX);
                list
            }
            (Way::Proxy(id, proxy), target) => {
                let id = *id;
                if let HostOrAddrs::Host(server, _) = target
                    && let Some(ip) = server.ip()
                    && let addr = SocketAddr::new(ip, server.port)
                    && let Some(refusal) = refusal_of(addr, target, self.route, &ours, net)
                {
                    return Poll::Ready(Err(refusal));
                }
                let found = ready!(look_up(proxy));
                let first =
                    found.and_then(|list| list.first().copied().ok_or(LookupFault::NoAddress));
                let addr = match first {
                    Ok(addr) => addr,
                    Err(fault) => {
                        let why = format!("its name cannot be found: {fault}");
                        upstreams.record_failure(id, &why, now);
                        return Poll::Ready(Err(ConnectError::Upstream(id, why)));
                    }
                };
                if !upstreams.admit(id, now) {
                    return Poll::Ready(Err(ConnectError::CircuitOpen(id)));
                }
                let via = |to| Candidate { addr, via: Some((id, to)) };
                return Poll::Ready(Ok(target.destinations().into_iter().map(via).collect()));
            }
        };
        let direct = |addr| Candidate { addr, via: None };
        Poll::Ready(Ok(addrs.into_iter().map(direct).collect()))
    }

    /// Tells the operator about a front that is configured wrongly.
    fn log_front(&self, error: &ConnectError, context: &mut ConnectContext<'_>) {
        let (now, log) = (context.now, &mut *context.log);
        match error {
            ConnectError::NameNotFound(host, fault) if self.route == Route::Front => {
                log.warn(now, fields!("front-unresolved", host = ?host, error = ?fault));
                context.outbound.unresolved_front = Some((host.clone(), fault.clone()));
            }
            ConnectError::NotPublic(host, ip) if self.route == Route::Front => {
                log.warn(now, fields!(
                    "front-not-public", host = ?host, addr = %ip,
                    hint = ?"the name server leads visitors of the front to this machine or into a \
                        private network, which is refused; if your web server is there, set \
                        [domain-fronting] host, otherwise check network.dns"
                ));
            }
            ConnectError::Loop => log.warn(now, fields!("front-loop", hint = ?LOOP_HINT)),
            _ => {}
        }
    }
}

/// Why an address of the target must not be dialled.
pub fn refusal_of<N: Net>(
    addr: SocketAddr,
    target: &HostOrAddrs,
    route: Route,
    context: &RefusalContext<'_>,
    net: &mut N,
) -> Option<ConnectError> {
    let is_front = route == Route::Front;
    // Otherwise each connection would open another one, without end.
    if is_front && sockets::is_own_listener(addr, context.own_listeners, net) {
        return Some(ConnectError::Loop);
    }
    let HostOrAddrs::Host(server, reach) = target else { return None };
    let ip = addr.ip();
    let not_public = || Some(ConnectError::NotPublic(server.host.clone(), ip));
    match reach {
        Reach::Any => None,
        _ if !addresses::is_public(ip) => not_public(),
        Reach::Elsewhere if sockets::is_own_address(ip, context.settings, net) => {
            if is_front {
                Some(ConnectError::Loop)
            } else {
                not_public()
            }
        }
        _ => None,
    }
}

/// What is ours, for [`refusal_of`].
pub struct RefusalContext<'a> {
    /// The public addresses of the config.
    pub settings: &'a Settings,
    /// The addresses of our listeners.
    pub own_listeners: &'a [SocketAddr],
}

fn connected<W: Wire>(
    attempt: Attempt<W>,
    offset: usize,
    route: Route,
    context: &mut ConnectContext<'_>,
) -> Connected<W> {
    let upstream = attempt.upstream();
    let Attempt { wire, addr, begun_us, socks, .. } = attempt;
    // An address of Telegram may take connections and serve none: its first byte shows more.
    if upstream.is_none() && route != Route::Upstreams {
        context.outbound.bad_addresses.remove(addr);
    }
    let destination = match socks.as_ref().map(|socks| socks.negotiation.destination()) {
        Some(Destination::Addr(destination)) => *destination,
        Some(Destination::Name(..)) | None => addr,
    };
    Connected { wire, offset, addr, destination, begun_us, upstream }
}

/// Whether an error is a shortage of this machine, not a fault of the address. `EADDRNOTAVAIL`
/// means no free port, or no address of the family; a datagram socket needs only the address.
fn is_shortage<N: Net>(error: &io::Error, to: SocketAddr, net: &mut N) -> bool {
    let may_lack_address = error.kind() == io::ErrorKind::AddrNotAvailable;
    egress::is_shortage(error) && (!may_lack_address || net.datagram_sender(to).is_ok())
}

/// What to do about a front that is this proxy itself, or leads back to it.
pub const LOOP_HINT: &str = "the front is this proxy itself, or leads back to it, as a router in \
    front of us or a name with our address does; set [domain-fronting] host and port to the web \
    server, and reload";

/// Sockets that a connection uses at once, and so its tokens.
pub const SOCKETS: usize = 2;

/// Bytes of a negotiation: addresses, user name and password, and what is not sent yet.
const PROXY_HANDSHAKE: usize = 2 << 10;
/// RFC 8305 "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);
/// After a shortage, unauthenticated clients wait: a search for a free port may take milliseconds.
const FRONT_PAUSE: Duration = Duration::from_secs(1);
/// After a shortage, other connections try again.
const RETRY: Duration = Duration::from_millis(200);
const PAUSED: &str = "a moment ago no local port, descriptor or memory was free";
/// How long a connection waits for one lookup.
const LOOKUP: Duration = Duration::from_secs(10);
/// Addresses of a server that are tried directly.
const ADDRESSES_MAX: usize = 8;
