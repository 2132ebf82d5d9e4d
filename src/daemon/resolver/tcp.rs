//! The same questions over TCP, for answers that do not fit into a datagram (RFC 7766). All
//! questions travel on one connection, which is closed with the search it belongs to.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::Poll;

use crate::daemon::resolver::udp::{self, UdpEvent};
use crate::io::sockopt::SocketOptions;
use crate::io::wire::{MioNet, MioWire, Net, Wire};
use crate::proto::dns::{self, RecordType};
use crate::util::drbg::Drbg;

/// A connection to a server.
pub struct Tcp {
    wire: MioWire,
    connected: bool,
    name: String,
    asked: Vec<(u16, RecordType)>,
    /// Questions that are not sent yet.
    outbox: Vec<u8>,
    /// Bytes of an answer that is not complete yet.
    inbox: Vec<u8>,
    /// How much may still come.
    left: usize,
    strays: usize,
}

impl Tcp {
    /// Starts to connect. Events come with `token`.
    ///
    /// # Errors
    /// What the system says at once, such as an unreachable network.
    pub fn open(
        server: SocketAddr,
        name: String,
        options: &SocketOptions,
        net: &mut MioNet,
        token: usize,
    ) -> io::Result<Self> {
        let wire = net.dial(server, options, token)?;
        let (outbox, inbox, asked) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { wire, connected: false, name, asked, outbox, inbox, left: HEARD_MAX, strays: 0 })
    }

    /// Asks for one more kind, as soon as the connection stands.
    pub fn ask(&mut self, kind: RecordType, drbg: &mut Drbg) {
        let id = udp::fresh_id(drbg, &self.asked);
        let mut packet = Vec::new();
        if dns::write_query(&mut packet, id, &self.name, kind).is_ok() {
            dns::write_frame(&mut self.outbox, &packet);
        }
        self.asked.push((id, kind));
    }

    /// Sends what is to be sent; then the next answer. Call again until there is nothing.
    pub fn hear(&mut self) -> UdpEvent {
        match self.exchange() {
            Ok(heard) => heard,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => UdpEvent::Nothing,
            Err(_) => UdpEvent::Broken(self.asked.drain(..).map(|(_, kind)| kind).collect()),
        }
    }

    fn exchange(&mut self) -> io::Result<UdpEvent> {
        if !self.connected {
            let Poll::Ready(outcome) = self.wire.poll_connect() else {
                return Ok(UdpEvent::Nothing);
            };
            outcome?;
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
                if let Some((kind, outcome)) = udp::judge(&mut self.asked, &self.name, &packet) {
                    return Ok(UdpEvent::Answer(kind, outcome));
                }
                self.strays += 1;
                if self.strays > udp::STRAYS_MAX {
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
const HEARD_MAX: usize = 2 * (2 + 65_535);
