//! The SOCKS5 handshake over a connected socket (RFC 1928).

use std::io::{self, IoSlice, IoSliceMut};
use std::task::Poll;

use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::proxies::UpstreamId;
use crate::io::wire::Wire;
use crate::proto::socks5::{Negotiation, SocksFault};
use crate::util::memory::Charge;

/// The SOCKS5 handshake in progress on a connected socket.
pub(super) struct ProxyHandshake {
    /// The upstream of the connection.
    pub(super) upstream: UpstreamId,
    /// The state of the protocol.
    pub(super) negotiation: Negotiation,
    /// Bytes that the socket has not taken yet.
    pub(super) outbox: Vec<u8>,
    /// For all of this.
    pub(super) _charge: Charge,
}

impl ProxyHandshake {
    /// Continues until the socket would block. Ready when the destination is connected; no byte
    /// from the destination has been read by then.
    pub(super) fn poll<W: Wire>(&mut self, wire: &mut W) -> Poll<Result<(), ConnectError>> {
        loop {
            while !self.outbox.is_empty() {
                match wire.write(&[IoSlice::new(&self.outbox)]) {
                    Ok(count) => drop(self.outbox.drain(..count.min(self.outbox.len()))),
                    Err(e) => return self.pending_or_failed(&e),
                }
            }
            let mut piece = [0; MESSAGE_MAX];
            let want = self.negotiation.bytes_needed().min(MESSAGE_MAX);
            if want == 0 {
                return Poll::Ready(Ok(()));
            }
            match wire.read(&mut [IoSliceMut::new(&mut piece[..want])]) {
                Ok(0) => return self.failed("the proxy closed the connection without an answer"),
                Ok(count) => {
                    if let Err(fault) = self.negotiation.push(&piece[..count], &mut self.outbox) {
                        return self.refused(fault);
                    }
                }
                Err(e) => return self.pending_or_failed(&e),
            }
        }
    }

    fn pending_or_failed(&self, error: &io::Error) -> Poll<Result<(), ConnectError>> {
        match error.kind() {
            io::ErrorKind::WouldBlock => Poll::Pending,
            _ => self.failed(&error.to_string()),
        }
    }

    fn refused(&self, fault: SocksFault) -> Poll<Result<(), ConnectError>> {
        match fault.is_about_destination() {
            true => {
                let destination = self.negotiation.destination().clone();
                Poll::Ready(Err(ConnectError::Refused(self.upstream, destination, fault)))
            }
            false => self.failed(fault.as_str()),
        }
    }

    fn failed(&self, why: &str) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Err(ConnectError::Upstream(self.upstream, why.to_owned())))
    }
}

/// The longest message of a negotiation, in bytes.
const MESSAGE_MAX: usize = 262;
