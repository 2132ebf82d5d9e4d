//! One attempt of a connection: a socket that is being connected, and the SOCKS5 handshake over it.

use std::io;
use std::net::SocketAddr;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::proxy_handshake::ProxyHandshake;
use crate::daemon::upstream::proxies::UpstreamId;
use crate::io::clock::Tick;
use crate::io::wire::Wire;

/// One socket that is being connected.
pub(super) struct Attempt<W> {
    pub(super) wire: W,
    /// The address that is dialled: the destination's or the proxy's.
    pub(super) addr: SocketAddr,
    /// When it began, by [`Net::micros`](crate::io::wire::Net::micros).
    pub(super) begun_us: u64,
    /// The deadline of the TCP connect, then of the SOCKS5 handshake.
    pub(super) until: Tick,
    /// The poller has reported an event since the last poll.
    pub(super) woken: bool,
    /// TCP is connected.
    pub(super) is_connected: bool,
    /// The handshake with the proxy; `None` = the attempt is direct.
    pub(super) socks: Option<Box<ProxyHandshake>>,
}

impl<W: Wire> Attempt<W> {
    /// Continues after an event. An attempt after its deadline has failed. The handshake gets
    /// `limit` again once TCP is connected.
    pub(super) fn poll(&mut self, now: Tick, limit: Duration) -> Poll<Result<(), ConnectError>> {
        let outcome = match std::mem::take(&mut self.woken) {
            true => self.advance(now + limit),
            false => Poll::Pending,
        };
        match outcome {
            Poll::Pending if now >= self.until => Poll::Ready(Err(self.timeout())),
            outcome => outcome,
        }
    }

    fn advance(&mut self, handshake_until: Tick) -> Poll<Result<(), ConnectError>> {
        if !self.is_connected {
            ready!(self.wire.poll_connect()).map_err(|e| self.error(Some(e)))?;
            (self.is_connected, self.until) = (true, handshake_until);
        }
        match &mut self.socks {
            Some(socks) => socks.poll(&mut self.wire),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<W> Attempt<W> {
    /// The proxy; `None` = the attempt is direct.
    pub(super) fn upstream(&self) -> Option<UpstreamId> {
        self.socks.as_ref().map(|socks| socks.upstream)
    }

    /// The failure of this attempt after its deadline.
    fn timeout(&self) -> ConnectError {
        match (self.upstream(), self.is_connected) {
            (Some(upstream), true) => ConnectError::Upstream(upstream, SILENT.to_owned()),
            _ => self.error(None),
        }
    }

    /// The failure of this attempt with an error of its socket; `None` = no answer in time.
    pub(super) fn error(&self, error: Option<io::Error>) -> ConnectError {
        self::error(self.addr, self.upstream(), error)
    }
}

/// The failure of an attempt at `addr` with an error of its socket; `None` = no answer in time.
pub(super) fn error(
    addr: SocketAddr,
    upstream: Option<UpstreamId>,
    error: Option<io::Error>,
) -> ConnectError {
    match upstream {
        None => ConnectError::Address(addr, error),
        Some(upstream) => {
            let why = error.map_or_else(|| "timeout".to_owned(), |error| error.to_string());
            ConnectError::Upstream(upstream, why)
        }
    }
}

/// The error of a proxy that took the connection and did not go on with the handshake.
const SILENT: &str =
    "timeout of the SOCKS5 handshake: the proxy took the connection, but is silent";
