//! The connection of a fetch task or of encrypted DNS: connects, then carries bytes, in TLS if the
//! target needs it. Never blocks: the owner steps it after an event, a wake-up or its deadline.

use std::io;
use std::task::Poll;

use crate::daemon::fetch::socket::{PeerState, StepSocket, WireObserver};
use crate::daemon::fetch::task::{FetchError, FetchTarget, WireEvent};
#[cfg(feature = "tls")]
use crate::daemon::fetch::tls_client::TlsClient;
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::{Connect, Connected};
use crate::daemon::upstream::outbound::ConnectContext;
use crate::daemon::upstream::proxies::{CLOSED_UNPROVEN, SILENT, UpstreamId};
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::Net;
use crate::util::memory::Charge;

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
    socket: Socket<N>,
    /// The first of the poll tokens of its sockets.
    first_token: usize,
    /// The name in the certificate; `None` = no TLS.
    tls: Option<String>,
    /// What the TLS hello offers by ALPN.
    #[cfg(feature = "tls")]
    alpn: Option<&'static str>,
    ready: Readiness,
    channel: Channel,
    /// Bytes that are sent before everything else, without TLS.
    preface: Vec<u8>,
    /// Plain bytes that wait to be sent.
    outbox: Vec<u8>,
    /// The proxy, until the first byte of the destination shows that it works.
    unproven: Option<UpstreamId>,
    /// Deadline of the TLS handshake.
    until: Option<Tick>,
    /// For the buffers of the connection and its owner's inbox.
    charge: Option<Charge>,
}

enum Socket<N: Net> {
    Connecting(Box<Connect<N::Wire>>),
    /// With the offset of its token, and when the connection attempt began, by [`Net::micros`].
    Connected(N::Wire, usize, u64),
}

/// What the socket carries.
enum Channel {
    Plain,
    #[cfg(feature = "tls")]
    TlsClient(Box<TlsClient>),
}

impl<N: Net> Connection<N> {
    /// A connection that has not begun. Its sockets use `first_token` and the next one.
    pub fn new(target: FetchTarget, first_token: usize) -> Self {
        Self {
            socket: Socket::Connecting(Box::new(Connect::new(target.server, target.route, 0))),
            first_token,
            tls: target.tls,
            #[cfg(feature = "tls")]
            alpn: Some("http/1.1"),
            ready: Readiness::default(),
            channel: Channel::Plain,
            preface: Vec::new(),
            outbox: Vec::new(),
            unproven: None,
            until: None,
            charge: None,
        }
    }

    /// Offers another protocol than `http/1.1` by ALPN, or none: servers of other protocols close
    /// connections that offer only protocols they do not support (RFC 7301 3.2).
    #[cfg(feature = "tls")]
    pub fn with_alpn(mut self, alpn: Option<&'static str>) -> Self {
        self.alpn = alpn;
        self
    }

    /// Whether the TLS handshake has succeeded.
    #[cfg(feature = "tls")]
    pub fn is_secure(&self) -> bool {
        matches!(&self.channel, Channel::TlsClient(tls) if !tls.is_handshaking())
    }

    /// Whether the server has accepted the protocol that was offered.
    #[cfg(feature = "tls")]
    pub fn has_alpn(&self) -> bool {
        matches!(&self.channel, Channel::TlsClient(tls) if tls.has_alpn())
    }

    /// Sends `bytes` before everything else, TLS included.
    pub fn with_preface(mut self, bytes: Vec<u8>) -> Self {
        self.preface = bytes;
        self
    }

    /// Records an event of the poller for the socket with this offset from the first token.
    pub fn on_ready(&mut self, offset: usize, ready: Readiness) {
        match &mut self.socket {
            Socket::Connecting(connect) => connect.wake(offset),
            Socket::Connected(_, own, _) if *own == offset => {
                self.ready.readable |= ready.readable || ready.hup;
                self.ready.writable |= ready.writable;
            }
            Socket::Connected(..) => {}
        }
    }

    /// Queues bytes; the next steps send them.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Whether another step may read more without a new event.
    pub fn has_more(&self) -> bool {
        matches!(self.socket, Socket::Connected(..)) && self.ready.readable
    }

    /// The next deadline; `None` once the connection is open.
    pub fn due(&self) -> Option<Tick> {
        match &self.socket {
            Socket::Connecting(connect) => Some(connect.due()),
            Socket::Connected(..) => self.until,
        }
    }

    /// Takes note that the owner gives the connection up, because it takes too long.
    /// Returns the error of a proxy through which nothing has come.
    pub fn time_out(&mut self, context: &mut ConnectContext<'_>) -> Option<FetchError> {
        match &mut self.socket {
            Socket::Connecting(connect) => {
                connect.abandon(&mut context.outbound.upstreams);
                None
            }
            Socket::Connected(..) => self.blame_upstream(SILENT, context),
        }
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
        if let Socket::Connecting(connect) = &mut self.socket {
            let outcome = match connect.poll(self.first_token, context, net) {
                Poll::Pending => return ConnectionState::Opening,
                Poll::Ready(Ok(connected)) => self.on_connected(connected, context, observer),
                Poll::Ready(Err(error)) => {
                    Err(FetchError::of_connect(error, &context.outbound.upstreams))
                }
            };
            if let Err(error) = outcome {
                return ConnectionState::Failed(error);
            }
        }
        let mut has_answered = false;
        let outcome = self.exchange(net, inbox, &mut |event, at_us| {
            has_answered |= matches!(event, WireEvent::Bytes([_, ..]));
            observer(event, at_us);
        });
        // Bounded by the number of connections, and by the owners of the inboxes.
        let held = self.preface.capacity() + self.outbox.capacity() + inbox.capacity();
        let tls = if self.tls.is_some() { TLS_BYTES } else { 0 };
        let charge = self.charge.get_or_insert_with(|| context.account.charge_held(0));
        charge.set_held(tls + held);
        if has_answered && let Some(upstream) = self.unproven.take() {
            context.outbound.upstreams.record_success(upstream);
        }
        match outcome {
            Ok(PeerState::Open) if !self.is_in_tls_handshake() => {
                self.until = None;
                ConnectionState::Open
            }
            Ok(PeerState::Open) if self.until.is_some_and(|until| context.now < until) => {
                ConnectionState::Opening
            }
            Ok(PeerState::Open) => {
                let fault = self.blame_upstream(SILENT, context);
                let why = || FetchError::Connection("the TLS handshake timed out".to_owned());
                ConnectionState::Failed(fault.unwrap_or_else(why))
            }
            Ok(PeerState::Closed) => match self.blame_upstream(CLOSED_UNPROVEN, context) {
                Some(fault) => ConnectionState::Failed(fault),
                None if self.is_in_tls_handshake() => {
                    let why = "closed in the TLS handshake: probably no TLS at this port";
                    ConnectionState::Failed(FetchError::Connection(why.to_owned()))
                }
                None => ConnectionState::Closed,
            },
            Err(e) => {
                let fault = self.blame_upstream(CLOSED_UNPROVEN, context);
                let why = || FetchError::Connection(e.to_string());
                ConnectionState::Failed(fault.unwrap_or_else(why))
            }
        }
    }

    /// Begins TLS if the target needs it.
    fn on_connected(
        &mut self,
        connected: Connected<N::Wire>,
        context: &mut ConnectContext<'_>,
        observer: WireObserver<'_>,
    ) -> Result<(), FetchError> {
        let Connected { wire, offset, begun_us, upstream, .. } = connected;
        observer(WireEvent::Start, 0);
        self.socket = Socket::Connected(wire, offset, begun_us);
        self.unproven = upstream;
        self.ready = Readiness { readable: true, writable: true, ..self.ready };
        self.until = Some(context.now + context.settings.timeouts.tcp);
        self.start_tls(context).map_err(|why| {
            // A fault of ours or of the settings shows nothing about the proxy.
            upstream.into_iter().for_each(|id| context.outbound.upstreams.record_abandoned(id));
            self.unproven = None;
            FetchError::Connection(why)
        })
    }

    /// Records the failure of a proxy through which nothing has come yet, and returns its error.
    fn blame_upstream(
        &mut self,
        why: &str,
        context: &mut ConnectContext<'_>,
    ) -> Option<FetchError> {
        let upstream = self.unproven.take()?;
        let upstreams = &mut context.outbound.upstreams;
        upstreams.record_failure(upstream, why, context.now);
        let error = ConnectError::Upstream(upstream, why.to_owned());
        Some(FetchError::of_connect(error, upstreams))
    }

    #[cfg(feature = "tls")]
    fn start_tls(&mut self, context: &mut ConnectContext<'_>) -> Result<(), String> {
        let Some(name) = &self.tls else { return Ok(()) };
        let config = context.outbound.tls_roots.config(context.settings.ca_file.as_deref())?;
        self.channel = Channel::TlsClient(Box::new(TlsClient::new(name, config, self.alpn)?));
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    fn start_tls(&mut self, _context: &mut ConnectContext<'_>) -> Result<(), String> {
        match &self.tls {
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
        let Socket::Connected(wire, _, begun_us) = &mut self.socket else {
            return Ok(PeerState::Open);
        };
        let mut socket = StepSocket::new(wire, net, &mut self.ready, observer, *begun_us);
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

/// Bytes of a TLS connection: keys, and buffers for a record in each direction.
const TLS_BYTES: usize = 48 << 10;
