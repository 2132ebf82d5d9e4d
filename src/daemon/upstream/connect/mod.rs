//! One outgoing TCP connection, up to the moment at which bytes for the destination may be sent:
//! lookup, order of the addresses, two attempts at a time (RFC 8305), SOCKS5 upstreams one after
//! the other. The owner polls it after an event, a wake-up or its deadline.

mod attempt;
pub mod error;
mod proxy_handshake;
pub mod target;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::connect::attempt::Attempt;
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::proxy_handshake::ProxyHandshake;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::daemon::upstream::proxies::{UpstreamAddr, UpstreamId, Upstreams};
use crate::daemon::upstream::sockets;
use crate::io::clock::Tick;
use crate::io::egress;
use crate::io::wire::{Net, Wire};
use crate::proto::socks5::Destination;

/// A connection that is being established. Dropping it closes its sockets.
pub struct Connect<W> {
    target: HostOrAddrs,
    route: Route,
    /// The number of the session in the log.
    id: u64,
    /// The ways that have not been tried yet, the next one last; `None` in the list = directly.
    /// Decided at the first poll, since a reload may change the upstreams meanwhile.
    ways: Option<Vec<Option<UpstreamId>>>,
    /// The way that is being tried.
    way: Way,
    /// The next candidate of the way.
    next: usize,
    attempts: [Option<Attempt<W>>; SOCKETS],
    /// When the next attempt may start beside the running one.
    stagger: Tick,
    /// The deadline of the lookup in progress.
    lookup_until: Option<Tick>,
    /// The data centre whose other ports are tried when all addresses have failed.
    other_ports_of: Option<u16>,
    /// The last failure.
    error: Option<ConnectError>,
}

enum Way {
    /// Not known yet.
    None,
    /// To these addresses, two at a time.
    Direct(Vec<SocketAddr>),
    /// To these destinations through the proxy at this address, one at a time.
    Proxy(UpstreamId, SocketAddr, Vec<Destination>),
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

impl<W> Connect<W> {
    /// A connection that has not begun. `id` = the number of the session in the log, or 0.
    pub fn new(target: HostOrAddrs, route: Route, id: u64) -> Self {
        Self {
            target,
            route,
            id,
            ways: None,
            way: Way::None,
            next: 0,
            attempts: [None, None],
            stagger: Tick(0),
            lookup_until: None,
            other_ports_of: None,
            error: None,
        }
    }

    /// Tries this data centre's other ports when all addresses have failed directly.
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
        let attempts = self.attempts.iter().flatten().map(|attempt| attempt.until);
        let has_more = matches!(&self.way, Way::Direct(list) if self.next < list.len());
        let has_room = self.attempts.iter().any(Option::is_none);
        let stagger = (has_more && has_room).then_some(self.stagger);
        attempts.chain(stagger).chain(self.lookup_until).min().unwrap_or(Tick(0))
    }

    /// Why the connection is not established yet: no answer, or the last failure.
    pub fn current_error(&mut self) -> Option<ConnectError> {
        let silent = self.attempts.iter().flatten().next().map(|attempt| attempt.error(None));
        silent.or_else(|| self.error.take()).or_else(|| match &self.target {
            HostOrAddrs::Host(server) => Some(ConnectError::NameNotFound(server.host.clone())),
            HostOrAddrs::Addrs(_) => None,
        })
    }

    /// Takes note that the owner has no more use for the connection.
    pub fn abandon(&self, upstreams: &mut Upstreams) {
        if let Way::Proxy(upstream, ..) = &self.way {
            upstreams.record_abandoned(*upstream);
        }
    }

    fn is_connecting(&self) -> bool {
        self.attempts.iter().any(Option::is_some)
    }
}

impl<W: Wire> Connect<W> {
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
            if self.poll_attempt(offset, context).is_ready()
                && let Some(attempt) = self.attempts[offset].take()
            {
                return Poll::Ready(Ok(self.connected(attempt, offset, context)));
            }
        }
        loop {
            if matches!(self.way, Way::None) {
                ready!(self.next_way(first_token, context, net))?;
            }
            self.start_attempts(first_token, context, net);
            if self.is_connecting() {
                return Poll::Pending;
            }
            // Some networks block port 443 of Telegram only.
            self.way = match (&self.way, self.other_ports_of) {
                (Way::Direct(_), Some(dc)) => {
                    (self.other_ports_of, self.next) = (None, 0);
                    Way::Direct(addresses::other_ports(context.settings, dc))
                }
                _ => Way::None,
            };
        }
    }

    /// Checks one attempt. Ready = connected; a failed or late attempt is dropped.
    fn poll_attempt(&mut self, offset: usize, context: &mut ConnectContext<'_>) -> Poll<()> {
        let Some(attempt) = &mut self.attempts[offset] else { return Poll::Pending };
        let addr = attempt.addr;
        if let Err(error) = ready!(attempt.poll(context.now, context.settings.timeouts.tcp)) {
            self.attempts[offset] = None;
            // The next attempt need not wait for the stagger of the failed one.
            self.stagger = context.now;
            self.fail(addr, error, context);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn connected(
        &self,
        attempt: Attempt<W>,
        offset: usize,
        context: &mut ConnectContext<'_>,
    ) -> Connected<W> {
        let Attempt { wire, addr, begun_us, socks, .. } = attempt;
        if socks.is_none() {
            context.outbound.bad_addresses.remove(addr);
        }
        let destination = match socks.as_ref().map(|socks| socks.negotiation.destination()) {
            Some(Destination::Addr(destination)) => *destination,
            Some(Destination::Name(..)) | None => addr,
        };
        let upstream = socks.map(|socks| socks.upstream);
        Connected { wire, offset, addr, destination, begun_us, upstream }
    }

    /// Chooses the next way. Pending = a name is being looked up.
    fn next_way<N: Net<Wire = W>>(
        &mut self,
        token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Poll<Result<(), ConnectError>> {
        let mut ways = self.ways.take().unwrap_or_else(|| match self.route {
            Route::Upstreams if !context.outbound.upstreams.is_empty() => {
                let order = context.outbound.upstreams.shuffled(context.drbg);
                order.into_iter().map(Some).collect()
            }
            _ => vec![None],
        });
        let found = loop {
            let Some(upstream) = ways.last().copied() else {
                break Poll::Ready(Err(self.error.take().unwrap_or(ConnectError::NoAddress)));
            };
            let until = *self.lookup_until.get_or_insert(context.now + LOOKUP);
            let way = match upstream {
                Some(id) => self.way_of_upstream(id, until, token, context, net),
                None => self.direct_way(until, token, context, net),
            };
            let Poll::Ready(way) = way else { break Poll::Pending };
            (self.lookup_until, self.next) = (None, 0);
            ways.pop();
            match way {
                Ok(way) => {
                    self.way = way;
                    break Poll::Ready(Ok(()));
                }
                // Says less than a failure.
                Err(error @ ConnectError::CircuitOpen(_)) => drop(self.error.get_or_insert(error)),
                Err(error) => self.error = Some(error),
            }
        };
        self.ways = Some(ways);
        found
    }

    fn way_of_upstream<N: Net<Wire = W>>(
        &self,
        id: UpstreamId,
        until: Tick,
        token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Poll<Result<Way, ConnectError>> {
        let (now, Outbound { upstreams, dns, .. }) = (context.now, &mut *context.outbound);
        Poll::Ready(match upstreams.addr_of(id, dns, token, now) {
            UpstreamAddr::Direct => return self.direct_way(until, token, context, net),
            UpstreamAddr::Proxy(addr) if upstreams.admit(id, now) => {
                Ok(Way::Proxy(id, addr, self.target.destinations()))
            }
            UpstreamAddr::Proxy(_) => Err(ConnectError::CircuitOpen(id)),
            UpstreamAddr::Pending if now < until => return Poll::Pending,
            UpstreamAddr::Pending | UpstreamAddr::Unknown => {
                let why = "its name cannot be found";
                upstreams.record_failure(id, why, now);
                Err(ConnectError::Upstream(id, why.to_owned()))
            }
        })
    }

    /// The addresses of the target in the order to try. A front must not be one of our own
    /// listeners: otherwise each connection would open another one, without end.
    fn direct_way<N: Net<Wire = W>>(
        &self,
        until: Tick,
        token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> Poll<Result<Way, ConnectError>> {
        let (now, Outbound { dns, bad_addresses, own_listeners, .. }) =
            (context.now, &mut *context.outbound);
        let mut list = match &self.target {
            HostOrAddrs::Addrs(addrs) => addrs.clone(),
            HostOrAddrs::Host(server) => match server.ip() {
                Some(ip) => vec![SocketAddr::new(ip, server.port)],
                None => match dns.lookup(&server.host, token, now) {
                    CachedAddrs::Found(ips) => {
                        ips.iter().map(|ip| SocketAddr::new(*ip, server.port)).collect()
                    }
                    CachedAddrs::Pending if now < until => return Poll::Pending,
                    CachedAddrs::Pending | CachedAddrs::Failed => {
                        let host = server.host.clone();
                        if self.route == Route::Front {
                            context
                                .log
                                .warn(now, format_args!("event=front-unresolved host={host:?}"));
                        }
                        return Poll::Ready(Err(ConnectError::NameNotFound(host)));
                    }
                },
            },
        };
        bad_addresses.sort(&mut list, now);
        list.truncate(ADDRESSES_MAX);
        if self.route == Route::Front && !list.is_empty() {
            list.retain(|addr| !sockets::is_own_listener(*addr, own_listeners, net));
            if list.is_empty() {
                context.log.warn(now, format_args!("{LOOP_WARNING}"));
                return Poll::Ready(Err(ConnectError::Loop));
            }
        }
        Poll::Ready(Ok(Way::Direct(list)))
    }

    /// Starts the next attempt: at once if none is running, otherwise after the stagger.
    fn start_attempts<N: Net<Wire = W>>(
        &mut self,
        first_token: usize,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) {
        let now = context.now;
        loop {
            let may_race = matches!(self.way, Way::Direct(_)) && now >= self.stagger;
            let is_due = !self.is_connecting() || may_race;
            let free = self.attempts.iter().position(Option::is_none).filter(|_| is_due);
            let Some(offset) = free else { break };
            let Some((addr, socks)) = self.next_candidate(context) else { break };
            self.next += 1;
            let options = sockets::relay_socket_options(context.settings);
            let begun_us = net.micros();
            match net.dial(addr, &options, first_token + offset) {
                Ok(wire) => {
                    let until = now + context.settings.timeouts.tcp;
                    self.attempts[offset] = Some(Attempt {
                        wire,
                        addr,
                        begun_us,
                        until,
                        woken: false,
                        is_connected: false,
                        socks,
                    });
                    self.stagger = now + STAGGER;
                }
                Err(e) => {
                    if egress::is_refused(&e) {
                        let why = e.to_string();
                        context.log.warn(now, format_args!("event=egress-refused error={why:?}"));
                    }
                    let error = attempt::error(addr, socks.as_deref(), Some(e));
                    self.fail(addr, error, context);
                }
            }
        }
    }

    /// The next address to dial, and the SOCKS5 handshake that follows.
    fn next_candidate(&self, context: &mut ConnectContext<'_>) -> Option<Candidate> {
        match &self.way {
            Way::None => None,
            Way::Direct(list) => {
                let addr = *list.get(self.next)?;
                log::debug!("event=dial-attempt id={} addr={addr}", self.id);
                Some((addr, None))
            }
            Way::Proxy(upstream, addr, destinations) => {
                let (upstream, addr, destination) =
                    (*upstream, *addr, destinations.get(self.next)?);
                log::debug!("event=dial-attempt id={} addr={addr} goal={destination}", self.id);
                let upstreams = &mut context.outbound.upstreams;
                upstreams.record_dial(upstream);
                let (negotiation, outbox) = upstreams.negotiate(upstream, destination.clone())?;
                Some((addr, Some(Box::new(ProxyHandshake { upstream, negotiation, outbox }))))
            }
        }
    }

    /// Logs and records the failure of an attempt. No other function does.
    fn fail(&mut self, addr: SocketAddr, error: ConnectError, context: &mut ConnectContext<'_>) {
        let (now, Outbound { upstreams, bad_addresses, .. }) =
            (context.now, &mut *context.outbound);
        let by = match (&error, &self.way) {
            // Not a fault of the address.
            (ConnectError::Address(_, Some(e)), _) if egress::is_refused(e) => {
                self.error = Some(error);
                return;
            }
            (ConnectError::Upstream(upstream, why), _) => {
                upstreams.record_failure(*upstream, why, now);
                self.way = Way::None;
                " by=proxy"
            }
            // The proxy works, so its other destinations are tried.
            (_, Way::Proxy(upstream, ..)) => {
                upstreams.record_success(*upstream);
                " by=proxy"
            }
            _ => {
                bad_addresses.add(addr, now);
                ""
            }
        };
        let why = error.to_string();
        context.log.info(now, format_args!("event=dial-failed addr={addr}{by} error={why:?}"));
        self.error = Some(error);
    }
}

/// The address to dial, and the SOCKS5 handshake that follows.
type Candidate = (SocketAddr, Option<Box<ProxyHandshake>>);

/// Sockets that a connection uses at once, and so its tokens.
pub const SOCKETS: usize = 2;

/// RFC 8305 "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);
/// How long a connection waits for one lookup.
const LOOKUP: Duration = Duration::from_secs(10);
/// Addresses of a server that are tried directly.
const ADDRESSES_MAX: usize = 8;

const LOOP_WARNING: &str = "event=front-loop hint=\"the front is this proxy itself; set \
     [domain-fronting] host and port to the web server\"";
