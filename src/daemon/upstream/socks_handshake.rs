//! The SOCKS5 handshake over a connected socket, for sessions and fetch tasks (RFC 1928).

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::task::Poll;

use crate::daemon::upstream::proxies::{UpstreamId, Upstreams};
use crate::io::wire::Wire;
use crate::proto::socks5::{Destination, Negotiation, SocksFault};

/// The SOCKS5 handshake in progress on a connected socket.
pub struct SocksHandshake {
    /// The upstream of the connection.
    pub upstream: UpstreamId,
    /// `None` = the connection is direct.
    negotiation: Option<Negotiation>,
    outbox: Vec<u8>,
}

/// Why a connection through an upstream failed.
#[derive(Debug, PartialEq, Eq)]
pub enum ProxyFailure {
    /// The upstream itself failed.
    Upstream(String),
    /// The upstream works, but cannot connect to the destination.
    Destination(Unreachable),
}

/// Why a destination is unreachable, by the source of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Reported by the proxy.
    Proxy(SocksFault),
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(why) => f.write_str(why),
            Self::Destination(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(fault) => f.write_str(fault.as_str()),
        }
    }
}

impl SocksHandshake {
    /// A handshake that has not begun. It has no messages if the upstream is a direct connection.
    pub fn new(upstream: UpstreamId, destination: Destination, upstreams: &Upstreams) -> Self {
        match upstreams.negotiate(upstream, destination) {
            Some((negotiation, outbox)) => {
                Self { upstream, negotiation: Some(negotiation), outbox }
            }
            None => Self { upstream, negotiation: None, outbox: Vec::new() },
        }
    }

    /// Continues until the socket would block. Ready when the destination is connected; no byte
    /// from the destination has been read by then.
    pub fn poll<W: Wire>(&mut self, wire: &mut W) -> Poll<Result<(), ProxyFailure>> {
        let Some(negotiation) = &mut self.negotiation else { return Poll::Ready(Ok(())) };
        loop {
            while !self.outbox.is_empty() {
                match wire.write(&[IoSlice::new(&self.outbox)]) {
                    Ok(count) => drop(self.outbox.drain(..count.min(self.outbox.len()))),
                    Err(e) => return pending_or_failed(&e),
                }
            }
            let mut piece = [0; MESSAGE_MAX];
            let want = negotiation.bytes_needed().min(MESSAGE_MAX);
            if want == 0 {
                return Poll::Ready(Ok(()));
            }
            match wire.read(&mut [IoSliceMut::new(&mut piece[..want])]) {
                Ok(0) => {
                    let why = "the proxy closed the connection".to_owned();
                    return Poll::Ready(Err(ProxyFailure::Upstream(why)));
                }
                Ok(count) => negotiation.push(&piece[..count], &mut self.outbox).map_err(blame)?,
                Err(e) => return pending_or_failed(&e),
            }
        }
    }
}

fn pending_or_failed(error: &io::Error) -> Poll<Result<(), ProxyFailure>> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Poll::Pending,
        _ => Poll::Ready(Err(ProxyFailure::Upstream(error.to_string()))),
    }
}

fn blame(fault: SocksFault) -> ProxyFailure {
    match fault.is_about_destination() {
        true => ProxyFailure::Destination(Unreachable::Proxy(fault)),
        false => ProxyFailure::Upstream(fault.as_str().to_owned()),
    }
}

/// The longest message of a negotiation, in bytes.
const MESSAGE_MAX: usize = 262;
