//! Queries over TCP, for answers that do not fit into a datagram (RFC 7766). All queries of a
//! lookup share one connection, which ends with the lookup.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::Poll;

use crate::daemon::resolver::udp::{self, DnsEvent};
use crate::io::sockopt::SocketOptions;
use crate::io::wire::{Net, Wire};
use crate::proto::dns::{self, RecordType};
use crate::util::drbg::Drbg;

/// A connection to a server.
pub struct Tcp<W> {
    wire: W,
    connected: bool,
    name: String,
    /// Queries without an answer.
    pending: Vec<(u16, RecordType)>,
    /// Queries that have not been sent yet.
    outbox: Vec<u8>,
    /// Bytes of an answer that is not complete yet.
    inbox: Vec<u8>,
    /// Bytes that may still be received.
    left: usize,
    unrelated: usize,
}

impl<W: Wire> Tcp<W> {
    /// Starts to connect. `token` is the poll token of the socket.
    ///
    /// # Errors
    /// Those that the system reports at once, such as an unreachable network.
    pub fn open(
        server: SocketAddr,
        name: String,
        options: &SocketOptions,
        net: &mut impl Net<Wire = W>,
        token: usize,
    ) -> io::Result<Self> {
        let wire = net.dial(server, options, token)?;
        let (outbox, inbox, pending) = (Vec::new(), Vec::new(), Vec::new());
        let (connected, left, unrelated) = (false, RECEIVED_MAX, 0);
        Ok(Self { wire, connected, name, pending, outbox, inbox, left, unrelated })
    }

    /// Queues a query; it is sent once the connection is open.
    pub fn queue(&mut self, kind: RecordType, drbg: &mut Drbg) {
        let id = udp::unused_id(drbg, &self.pending);
        let mut packet = Vec::new();
        if dns::write_query(&mut packet, id, &self.name, kind).is_ok() {
            dns::write_frame(&mut self.outbox, &packet);
        }
        self.pending.push((id, kind));
    }

    /// Sends what is queued and returns the next event. Call again until it is `Pending`.
    pub fn next_event(&mut self) -> DnsEvent {
        match self.exchange() {
            Ok(event) => event,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => DnsEvent::Pending,
            Err(e) => DnsEvent::Broken(self.pending.drain(..).map(|(_, kind)| kind).collect(), e),
        }
    }

    fn exchange(&mut self) -> io::Result<DnsEvent> {
        if !self.connected {
            match self.wire.poll_connect() {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => return Ok(DnsEvent::Pending),
            }
            self.connected = true;
        }
        while !self.outbox.is_empty() {
            match self.wire.write(&[IoSlice::new(&self.outbox)]) {
                Ok(len) => drop(self.outbox.drain(..len.min(self.outbox.len()))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        let mut chunk = [0; CHUNK];
        loop {
            while let Some(packet) = dns::pop_frame(&mut self.inbox) {
                if let Some((kind, outcome)) =
                    udp::match_answer(&mut self.pending, &self.name, &packet)
                {
                    return Ok(DnsEvent::Answer(kind, outcome));
                }
                self.unrelated += 1;
                if self.unrelated > udp::UNRELATED_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            let len = self.wire.read(&mut [IoSliceMut::new(&mut chunk)])?;
            self.left = self.left.checked_sub(len.max(1)).ok_or(io::ErrorKind::InvalidData)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.inbox.extend_from_slice(chunk.get(..len).unwrap_or_default());
        }
    }
}

const CHUNK: usize = 4_096;
/// Most bytes that a server may send on one connection: two answers of the longest kind.
const RECEIVED_MAX: usize = 2 * (2 + 65_535);
