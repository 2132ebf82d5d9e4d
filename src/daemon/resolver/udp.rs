//! Questions in datagrams, and who may answer them: the asked server on its port, with the id,
//! the name, the kind and the capitals of the question (RFC 1035, RFC 5452).

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use crate::io::wire::MioNet;
use crate::proto::dns::{self, AddressAnswer, DnsFault, RecordType};
use crate::util::drbg::Drbg;

/// A socket on a port of its own, and what was asked through it.
pub struct Udp {
    socket: UdpSocket,
    /// With the capitals that were sent.
    name: String,
    asked: Vec<(u16, RecordType)>,
    strays: usize,
}

/// What came.
pub enum UdpEvent {
    /// Nothing for now.
    Nothing,
    /// An answer, or why there is none.
    Answer(RecordType, Result<AddressAnswer, DnsFault>),
    /// Too much that nobody asked for: somebody is guessing, or the server is mad.
    Flooded,
    /// The way is closed; these questions get no answer on it.
    Broken(Vec<RecordType>),
}

impl Udp {
    /// Asks a server for these kinds.
    ///
    /// # Errors
    /// What the system says at once, such as an unreachable network.
    pub fn ask(
        server: SocketAddr,
        name: String,
        kinds: &[RecordType],
        net: &mut MioNet,
        token: usize,
        drbg: &mut Drbg,
    ) -> io::Result<Self> {
        let socket = net.udp_socket(server, token)?;
        let mut asked: Vec<(u16, RecordType)> = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let id = fresh_id(drbg, &asked);
            let mut packet = Vec::with_capacity(PACKET_ROOM + name.len());
            dns::write_query(&mut packet, id, &name, *kind)
                .map_err(|_| io::ErrorKind::InvalidInput)?;
            socket.send(&packet)?;
            asked.push((id, *kind));
        }
        Ok(Self { socket, name, asked, strays: 0 })
    }

    /// The next answer. Call again until there is nothing, as the poller speaks only once.
    pub fn hear(&mut self) -> UdpEvent {
        let mut packet = [0; PACKET_MAX];
        while self.strays < STRAYS_MAX {
            let len = match self.socket.recv(&mut packet) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return UdpEvent::Nothing,
                Err(_) => {
                    return UdpEvent::Broken(self.asked.drain(..).map(|(_, kind)| kind).collect());
                }
            };
            let packet = packet.get(..len).unwrap_or_default();
            match judge(&mut self.asked, &self.name, packet) {
                Some((kind, outcome)) => return UdpEvent::Answer(kind, outcome),
                None => self.strays += 1,
            }
        }
        UdpEvent::Flooded
    }
}

/// Finds the question that a packet answers, and strikes it off.
pub fn judge(
    asked: &mut Vec<(u16, RecordType)>,
    name: &str,
    packet: &[u8],
) -> Option<(RecordType, Result<AddressAnswer, DnsFault>)> {
    let outcomes = asked.iter().map(|(id, kind)| dns::parse_answer(packet, *id, name, *kind));
    let (at, outcome) =
        outcomes.enumerate().find(|(_, outcome)| *outcome != Err(DnsFault::Unrelated))?;
    let (_, kind) = asked.swap_remove(at);
    Some((kind, outcome))
}

/// An id that no open question has.
pub fn fresh_id(drbg: &mut Drbg, asked: &[(u16, RecordType)]) -> u16 {
    loop {
        let id = drbg.u32_below(0x1_0000) as u16;
        if asked.iter().all(|(other, _)| *other != id) {
            return id;
        }
    }
}

/// Header, kind and class of a question, and the lengths around its name.
const PACKET_ROOM: usize = 18;
/// Without EDNS an answer has 512 bytes at most (RFC 1035 4.2.1); some servers do not know that.
const PACKET_MAX: usize = 4_096;
/// Wrong packets that one socket stands before it is given up.
pub const STRAYS_MAX: usize = 32;
