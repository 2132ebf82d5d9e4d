//! Queries in datagrams. An answer must come from the server's address and port, with the id,
//! name, type and case of the query (RFC 1035, RFC 5452).

use std::io;
use std::net::SocketAddr;

use crate::io::wire::{DatagramSocket, Net};
use crate::proto::dns::{self, AddressAnswer, DnsFault, RecordType};
use crate::util::drbg::Drbg;

/// A socket on its own port, and the queries that were sent.
pub struct Udp<D> {
    socket: D,
    /// The queried name, with the case that was sent.
    name: String,
    /// Queries without an answer.
    pending: Vec<(u16, RecordType)>,
    unrelated: usize,
}

/// An event of a lookup's socket.
pub enum DnsEvent {
    /// Nothing for now.
    Pending,
    /// An answer, or why it is not usable.
    Answer(RecordType, Result<AddressAnswer, DnsFault>),
    /// Too many unrelated packets: an attacker guesses ids, or the server is faulty.
    Flooded,
    /// The socket has failed; these queries get no answer.
    Broken(Vec<RecordType>, io::Error),
}

impl<D: DatagramSocket> Udp<D> {
    /// Sends a query for each of these record types.
    ///
    /// # Errors
    /// Those that the system reports at once, such as an unreachable network.
    pub fn send(
        server: SocketAddr,
        name: String,
        kinds: &[RecordType],
        net: &mut impl Net<Datagram = D>,
        token: usize,
        drbg: &mut Drbg,
    ) -> io::Result<Self> {
        let mut socket = net.datagram(server, token)?;
        let mut pending: Vec<(u16, RecordType)> = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let id = unused_id(drbg, &pending);
            let mut packet = Vec::with_capacity(PACKET_ROOM + name.len());
            dns::write_query(&mut packet, id, &name, *kind)
                .map_err(|_| io::ErrorKind::InvalidInput)?;
            socket.send(&packet)?;
            pending.push((id, *kind));
        }
        Ok(Self { socket, name, pending, unrelated: 0 })
    }

    /// The next event. Call again until it is `Pending`: the poller is edge-triggered.
    pub fn next_event(&mut self) -> DnsEvent {
        let mut packet = [0; PACKET_MAX];
        while self.unrelated < UNRELATED_MAX {
            let len = match self.socket.recv(&mut packet) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return DnsEvent::Pending,
                Err(e) => {
                    let unanswered = self.pending.drain(..).map(|(_, kind)| kind).collect();
                    return DnsEvent::Broken(unanswered, e);
                }
            };
            let packet = packet.get(..len).unwrap_or_default();
            match match_answer(&mut self.pending, &self.name, packet) {
                Some((kind, outcome)) => return DnsEvent::Answer(kind, outcome),
                None => self.unrelated += 1,
            }
        }
        DnsEvent::Flooded
    }
}

/// Finds the pending query that a packet answers, and removes it.
pub fn match_answer(
    pending: &mut Vec<(u16, RecordType)>,
    name: &str,
    packet: &[u8],
) -> Option<(RecordType, Result<AddressAnswer, DnsFault>)> {
    let outcomes = pending.iter().map(|(id, kind)| dns::parse_answer(packet, *id, name, *kind));
    let (at, outcome) =
        outcomes.enumerate().find(|(_, outcome)| *outcome != Err(DnsFault::Unrelated))?;
    let (_, kind) = pending.swap_remove(at);
    Some((kind, outcome))
}

/// A random id that no pending query has.
pub fn unused_id(drbg: &mut Drbg, pending: &[(u16, RecordType)]) -> u16 {
    loop {
        let id = drbg.u32_below(0x1_0000) as u16;
        if pending.iter().all(|(other, _)| *other != id) {
            return id;
        }
    }
}

/// Header, type and class of a query, and the lengths around its name.
const PACKET_ROOM: usize = 18;
/// Without EDNS an answer has at most 512 bytes (RFC 1035 4.2.1), but some servers send more.
const PACKET_MAX: usize = 4_096;
/// Unrelated packets that one socket accepts before it is closed.
pub const UNRELATED_MAX: usize = 32;
