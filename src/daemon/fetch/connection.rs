//! One outgoing connection: a lookup, an attempt at each address in turn, a SOCKS handshake if
//! upstreams are used, and TLS if the target needs it. Never blocks: the owner steps it after an
//! event, a wake-up or its deadline.

use std::io;
use std::net::SocketAddr;
use std::task::{Poll, ready};

use crate::daemon::fetch::socket::{PeerState, StepSocket, WireObserver};
use crate::daemon::fetch::task::{FetchError, FetchRoute, FetchTarget, HostOrAddrs, WireEvent};
#[cfg(feature = "tls")]
use crate::daemon::fetch::tls_client::TlsClient;
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::upstream::outbound::ConnectContext;
use crate::daemon::upstream::proxies::{UpstreamAddr, UpstreamId};
use crate::daemon::upstream::sockets;
use crate::daemon::upstream::socks_handshake::{ProxyFailure, SocksHandshake};
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::{Net, Wire};
use crate::proto::socks5::Destination;

/// The state of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Looking up, connecting, or in a handshake.
    Opening,
    /// Bytes may be sent and received.
    Open,
    /// The peer has sent its FIN.
    Closed,
    /// It could not be established, or it failed.
    Failed(FetchError),
}

/// One connection, from the lookup to the last byte.
pub struct Connection<N: Net> {
    target: FetchTarget,
    token: usize,
    /// Addresses that have not been tried yet; `None` = not known yet.
    addrs: Option<std::vec::IntoIter<SocketAddr>>,
    wire: Option<N::Wire>,
    /// TCP is connected to the current address.
    tcp_connected: bool,
    /// The destination is connected: TCP, and the SOCKS handshake if there is one, are done.
    connected: bool,
    ready: Readiness,
    channel: Channel,
    /// Bytes that are sent before everything else, without TLS.
    preface: Vec<u8>,
    /// Plain bytes that wait to be sent.
    outbox: Vec<u8>,
    /// Upstreams that have not been tried yet, in reverse order; `None` = not chosen yet.
    candidates: Option<Vec<UpstreamId>>,
    /// The handshake with the current upstream.
    handshake: Option<SocksHandshake>,
    /// When the current attempt began, by [`Net::micros`].
    begun_us: u64,
    /// The TLS hello offers `http/1.1`.
    #[cfg(feature = "tls")]
    is_http: bool,
    /// Deadline of the lookup, the current attempt, or the TLS handshake.
    until: Option<Tick>,
    /// Why the latest attempt failed.
    last_error: Option<String>,
}

/// What the socket carries.
enum Channel {
    Plain,
    #[cfg(feature = "tls")]
    TlsClient(Box<TlsClient>),
}

impl<N: Net> Connection<N> {
    /// A connection that has not begun; `token` is the poll token of its socket.
    pub fn new(target: FetchTarget, token: usize) -> Self {
        Self {
            target,
            token,
            addrs: None,
            wire: None,
            tcp_connected: false,
            connected: false,
            ready: Readiness::default(),
            channel: Channel::Plain,
            preface: Vec::new(),
            outbox: Vec::new(),
            candidates: None,
            handshake: None,
            begun_us: 0,
            #[cfg(feature = "tls")]
            is_http: true,
            until: None,
            last_error: None,
        }
    }

    /// Omits ALPN from the TLS hello, for servers of other protocols: they close connections that
    /// offer only protocols they do not support (RFC 7301 3.2).
    #[cfg(feature = "tls")]
    pub fn without_alpn(mut self) -> Self {
        self.is_http = false;
        self
    }

    /// Sends `bytes` before everything else, TLS included.
    pub fn with_preface(mut self, bytes: Vec<u8>) -> Self {
        self.preface = bytes;
        self
    }

    /// Records an event of the poller.
    pub fn on_ready(&mut self, ready: Readiness) {
        self.ready.readable |= ready.readable || ready.hup;
        self.ready.writable |= ready.writable;
    }

    /// Queues bytes; the next steps send them.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Whether another step may read more without a new event.
    pub fn has_more(&self) -> bool {
        self.connected && self.ready.readable
    }

    /// The next deadline; `None` once the connection is open.
    pub fn due(&self) -> Option<Tick> {
        self.until
    }

    /// Continues as far as possible without blocking, and reads a bounded number of bytes. Received
    /// plain bytes are appended to `inbox`.
    pub fn step(
        &mut self,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        inbox: &mut Vec<u8>,
        observer: WireObserver<'_>,
    ) -> ConnectionState {
        if !self.connected {
            match self.poll_connect(context, net, observer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return ConnectionState::Failed(error),
                Poll::Pending => return ConnectionState::Opening,
            }
        }
        match self.exchange(net, inbox, observer) {
            Err(e) => ConnectionState::Failed(FetchError::Connection(e.to_string())),
            Ok(PeerState::Closed) => ConnectionState::Closed,
            Ok(PeerState::Open) if !self.is_in_tls_handshake() => {
                self.until = None;
                ConnectionState::Open
            }
            Ok(PeerState::Open) if self.until.is_some_and(|until| context.now < until) => {
                ConnectionState::Opening
            }
            Ok(PeerState::Open) => {
                let why = "the TLS handshake timed out".to_owned();
                ConnectionState::Failed(FetchError::Connection(why))
            }
        }
    }

    /// Connects to the target. Three steps, each of which may have to wait: choose an upstream
    /// (only for [`FetchRoute::Upstreams`]), find the addresses, connect to one of them. When an
    /// upstream fails, the steps begin again with the next one.
    fn poll_connect(
        &mut self,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        observer: WireObserver<'_>,
    ) -> Poll<Result<(), FetchError>> {
        // Decided once: a reload may add or remove upstreams during the attempts.
        let is_fresh = self.wire.is_none() && self.addrs.is_none() && self.handshake.is_none();
        let uses_upstreams = self.target.route == FetchRoute::Upstreams
            && (self.candidates.is_some() || is_fresh && !context.outbound.upstreams.is_empty());
        loop {
            if uses_upstreams && self.handshake.is_none() {
                ready!(self.poll_upstream(context))?;
            }
            ready!(self.poll_addresses(context))?;
            let Err(failure) = ready!(self.poll_attempts(context, net, observer)) else {
                return Poll::Ready(Ok(()));
            };
            self.leave_upstream(failure, context)?;
        }
    }

    /// Step 1: chooses the next upstream whose circuit admits a connection. Waits for the lookup
    /// of its proxy.
    fn poll_upstream(&mut self, context: &mut ConnectContext<'_>) -> Poll<Result<(), FetchError>> {
        let (now, outbound) = (context.now, &mut *context.outbound);
        let candidates =
            self.candidates.get_or_insert_with(|| outbound.upstreams.shuffled(context.drbg));
        while let Some(upstream) = candidates.last().copied() {
            let until = *self.until.get_or_insert(now + sockets::LOOKUP);
            let proxy = outbound.upstreams.addr_of(upstream, &mut outbound.dns, self.token, now);
            let proxy = match proxy {
                UpstreamAddr::Pending if now < until => return Poll::Pending,
                UpstreamAddr::Direct => None,
                UpstreamAddr::Proxy(addr) => Some(vec![addr].into_iter()),
                UpstreamAddr::Pending | UpstreamAddr::Unknown => {
                    let why = "no address for its host name";
                    outbound.upstreams.record_failure(upstream, why, now);
                    candidates.pop();
                    continue;
                }
            };
            candidates.pop();
            self.until = None;
            if outbound.upstreams.admit(upstream, now) {
                outbound.upstreams.record_dial(upstream);
                let Some(destination) = destination(&self.target.server) else {
                    return Poll::Ready(Err(FetchError::NoUpstream));
                };
                self.handshake =
                    Some(SocksHandshake::new(upstream, destination, &outbound.upstreams));
                // A direct upstream leaves the addresses to the next step.
                self.addrs = proxy;
                return Poll::Ready(Ok(()));
            }
        }
        let last_error = self.last_error.take();
        Poll::Ready(Err(last_error.map_or(FetchError::NoUpstream, FetchError::Connection)))
    }

    /// Step 2: finds the addresses to connect to, unless they are those of a proxy.
    fn poll_addresses(&mut self, context: &mut ConnectContext<'_>) -> Poll<Result<(), FetchError>> {
        if self.addrs.is_some() {
            return Poll::Ready(Ok(()));
        }
        let addrs = match &self.target.server {
            HostOrAddrs::Addrs(addrs) => addrs.clone(),
            HostOrAddrs::Host(server) => match server.ip() {
                Some(ip) => vec![SocketAddr::new(ip, server.port)],
                None => {
                    let until = *self.until.get_or_insert(context.now + sockets::LOOKUP);
                    match context.outbound.dns.lookup(&server.host, self.token, context.now) {
                        CachedAddrs::Found(ips) => {
                            ips.iter().map(|ip| SocketAddr::new(*ip, server.port)).collect()
                        }
                        CachedAddrs::Pending if context.now < until => return Poll::Pending,
                        CachedAddrs::Pending | CachedAddrs::Failed => {
                            let host = server.host.clone();
                            return Poll::Ready(Err(FetchError::HostNotFound(host)));
                        }
                    }
                }
            },
        };
        self.until = None;
        self.addrs = Some(addrs.into_iter());
        Poll::Ready(Ok(()))
    }

    /// Step 3: continues the running attempt, and starts the next one if it has failed.
    fn poll_attempts(
        &mut self,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        observer: WireObserver<'_>,
    ) -> Poll<Result<(), ProxyFailure>> {
        loop {
            // Before the attempt, which moves the deadline when TCP is connected.
            let is_late = self.until.is_none_or(|until| context.now >= until);
            match self.poll_attempt(context) {
                None => {}
                Some(Poll::Ready(Ok(()))) => return Poll::Ready(self.on_connected(context)),
                Some(Poll::Pending) if !is_late => return Poll::Pending,
                Some(Poll::Pending) => self.last_error = Some("timeout".to_owned()),
                // Another address of the proxy would not help.
                Some(Poll::Ready(Err(failure @ ProxyFailure::Destination(_)))) => {
                    return Poll::Ready(Err(failure));
                }
                Some(Poll::Ready(Err(ProxyFailure::Upstream(why)))) => self.last_error = Some(why),
            }
            (self.wire, self.tcp_connected) = (None, false);
            let Some(addr) = self.addrs.as_mut().and_then(Iterator::next) else {
                let why = self.last_error.take().unwrap_or_else(|| "no address".to_owned());
                return Poll::Ready(Err(ProxyFailure::Upstream(why)));
            };
            self.start_attempt(addr, context, net, observer);
            if self.wire.is_some() {
                return Poll::Pending;
            }
        }
    }

    /// Continues the TCP connect, then the SOCKS handshake. `None` = no attempt is running.
    fn poll_attempt(
        &mut self,
        context: &ConnectContext<'_>,
    ) -> Option<Poll<Result<(), ProxyFailure>>> {
        let wire = self.wire.as_mut()?;
        if !self.tcp_connected {
            match wire.poll_connect() {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Err(e)) => {
                    return Some(Poll::Ready(Err(ProxyFailure::Upstream(e.to_string()))));
                }
            }
            self.tcp_connected = true;
            self.until = Some(context.now + context.settings.timeouts.tcp);
        }
        Some(match &mut self.handshake {
            Some(handshake) => handshake.poll(wire),
            None => Poll::Ready(Ok(())),
        })
    }

    /// Starts to connect to an address. Sets `last_error` if that fails at once.
    fn start_attempt(
        &mut self,
        addr: SocketAddr,
        context: &ConnectContext<'_>,
        net: &mut N,
        observer: WireObserver<'_>,
    ) {
        if self.target.route == FetchRoute::Front
            && sockets::is_own_listener(addr, &context.outbound.own_listeners, net)
        {
            self.last_error = Some("the front is this proxy itself".to_owned());
            return;
        }
        self.begun_us = net.micros();
        observer(WireEvent::Start, 0);
        match net.dial(addr, &sockets::relay_socket_options(context.settings), self.token) {
            Ok(wire) => {
                self.wire = Some(wire);
                self.until = Some(context.now + context.settings.timeouts.tcp);
            }
            Err(e) => self.last_error = Some(e.to_string()),
        }
    }

    /// Begins TLS if the target needs it; the destination is connected.
    fn on_connected(&mut self, context: &mut ConnectContext<'_>) -> Result<(), ProxyFailure> {
        if let Some(handshake) = &self.handshake {
            context.outbound.upstreams.record_success(handshake.upstream);
        }
        self.connected = true;
        self.ready = Readiness { readable: true, writable: true, ..self.ready };
        self.until = Some(context.now + context.settings.timeouts.tcp);
        self.start_tls(context).map_err(ProxyFailure::Upstream)
    }

    /// Records why the current upstream has failed, and drops its attempt.
    ///
    /// # Errors
    /// No upstream was used, so the connection has failed.
    fn leave_upstream(
        &mut self,
        failure: ProxyFailure,
        context: &mut ConnectContext<'_>,
    ) -> Result<(), FetchError> {
        let Some(handshake) = self.handshake.take() else {
            return Err(FetchError::Connection(failure.to_string()));
        };
        let upstreams = &mut context.outbound.upstreams;
        match &failure {
            ProxyFailure::Upstream(why) => {
                upstreams.record_failure(handshake.upstream, why, context.now);
            }
            ProxyFailure::Destination(_) => upstreams.record_success(handshake.upstream),
        }
        self.last_error = Some(failure.to_string());
        (self.wire, self.addrs, self.tcp_connected, self.until) = (None, None, false, None);
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn start_tls(&mut self, context: &mut ConnectContext<'_>) -> Result<(), String> {
        let Some(name) = &self.target.tls else { return Ok(()) };
        let config = context.outbound.tls_roots.config(context.settings.ca_file.as_deref())?;
        self.channel = Channel::TlsClient(Box::new(TlsClient::new(name, config, self.is_http)?));
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    fn start_tls(&mut self, _context: &mut ConnectContext<'_>) -> Result<(), String> {
        match &self.target.tls {
            Some(name) => Err(format!("this build has no TLS for {name}")),
            None => Ok(()),
        }
    }

    fn is_in_tls_handshake(&self) -> bool {
        match &self.channel {
            Channel::Plain => false,
            #[cfg(feature = "tls")]
            Channel::TlsClient(tls) => tls.is_handshaking(),
        }
    }

    /// Sends the queued bytes and reads the received ones.
    fn exchange(
        &mut self,
        net: &N,
        inbox: &mut Vec<u8>,
        observer: WireObserver<'_>,
    ) -> io::Result<PeerState> {
        let Some(wire) = &mut self.wire else { return Ok(PeerState::Closed) };
        let mut socket = StepSocket::new(wire, net, &mut self.ready, observer, self.begun_us);
        socket.send(&mut self.preface)?;
        if !self.preface.is_empty() {
            return Ok(PeerState::Open);
        }
        match &mut self.channel {
            Channel::Plain => {
                socket.send(&mut self.outbox)?;
                socket.receive(inbox)
            }
            #[cfg(feature = "tls")]
            Channel::TlsClient(tls) => tls.exchange(&mut socket, &mut self.outbox, inbox),
        }
    }
}

/// The destination for an upstream; `None` = there is no address.
fn destination(server: &HostOrAddrs) -> Option<Destination> {
    match server {
        HostOrAddrs::Host(server) => Some(match server.ip() {
            Some(ip) => Destination::Addr(SocketAddr::new(ip, server.port)),
            None => Destination::Name(server.host.clone(), server.port),
        }),
        HostOrAddrs::Addrs(addrs) => addrs.first().copied().map(Destination::Addr),
    }
}
