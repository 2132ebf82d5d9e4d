//! A DNS server: over datagrams and over TCP, truthful or not (RFC 1035).

use std::net::{Ipv4Addr, SocketAddr};

use mtbox::daemon::Daemon;

use crate::net::SimNet;
use crate::network::Network;
use crate::part::Part;
use crate::peer::{Behaviour, Ending, Peer};
use crate::script::Script;
use crate::server::FRONTS;

/// How the server treats queries; probabilities in percent.
#[derive(Debug, Clone, Copy, Default)]
pub struct DnsFaults {
    /// Answers take up to this many milliseconds.
    pub delay_ms: u64,
    /// Names have no address.
    pub no_address: u32,
    /// Queries are answered wrongly, or not at all.
    pub lies: u32,
}

/// The server.
pub struct DnsServer {
    faults: DnsFaults,
    /// Queries that were received over TCP connections.
    streams: Vec<Stream>,
}

struct Stream {
    peer: Peer,
    inbox: Vec<u8>,
    answers_at: u64,
}

/// A wrong treatment of a query.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// No answer.
    Silence,
    /// An answer with another id.
    WrongId,
    /// An answer for another name.
    WrongName,
    /// The name in lower case: this server does not keep the case.
    FlatCase,
    /// Truncated: the query has to be repeated over TCP.
    Truncated,
    /// SERVFAIL.
    Failure,
    /// REFUSED.
    Refused,
    /// Not a DNS message.
    Garbage,
    /// More wrong answers than a socket accepts.
    Flood,
    /// The right answer, later than the daemon waits.
    Late,
}

const LIES: [Lie; 10] = [
    Lie::Silence,
    Lie::WrongId,
    Lie::WrongName,
    Lie::FlatCase,
    Lie::Truncated,
    Lie::Failure,
    Lie::Refused,
    Lie::Garbage,
    Lie::Flood,
    Lie::Late,
];

impl DnsServer {
    /// Always takes part: hosts of fronts are looked up in every mix.
    pub fn part(script: &Script) -> Option<Box<dyn Part>> {
        Some(Box::new(Self { faults: script.dns, streams: Vec::new() }))
    }

    /// The packets that answer a query over a datagram socket, and when they arrive.
    fn answers(&self, network: &mut Network, query: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let at = network.now + network.rng.u64(0..=self.faults.delay_ms);
        let mut good = answer(query, None);
        if network.happens(self.faults.no_address) {
            good = empty(query);
        }
        if !network.happens(self.faults.lies) {
            return vec![(at, good)];
        }
        let forged = || answer(query, Some(FORGED));
        match LIES[network.rng.usize(0..LIES.len())] {
            Lie::Silence => Vec::new(),
            Lie::WrongId => {
                let mut packet = forged();
                packet[0] ^= 0x5a;
                let more = network.rng.bool().then_some((at, good));
                [(at, packet)].into_iter().chain(more).collect()
            }
            Lie::WrongName => {
                let mut packet = forged();
                packet[13] = if packet[13] == b'q' { b'z' } else { b'q' };
                vec![(at, packet)]
            }
            Lie::FlatCase => {
                good[12..].make_ascii_lowercase();
                vec![(at, good)]
            }
            Lie::Truncated => {
                let mut packet = empty(query);
                packet[2] |= 0x02;
                vec![(at, packet)]
            }
            Lie::Failure => vec![(at, with_code(query, 2))],
            Lie::Refused => vec![(at, with_code(query, 5))],
            Lie::Garbage => {
                let mut packet = vec![0; network.rng.usize(0..60)];
                network.rng.fill(&mut packet);
                vec![(at, packet)]
            }
            Lie::Flood => {
                let wrong = |at: u64| {
                    let mut packet = answer(query, Some(FORGED));
                    packet[0] = !packet[0];
                    (at, packet)
                };
                (0..40).map(|_| wrong(at)).collect()
            }
            Lie::Late => vec![(at + network.rng.u64(1_900..9_000), good)],
        }
    }
}

impl Part for DnsServer {
    fn serves(&self, addr: SocketAddr, _is_session: bool) -> bool {
        addr == server_addr() || addr == second_server_addr()
    }

    fn attach(&mut self, network: &mut Network, link: usize) {
        let silent = network.happens(self.faults.lies / 2);
        let behaviour = Behaviour {
            write_chunk: 40,
            read_chunk: 600,
            write_pause: (10, 50),
            read_pause: (0, 0),
            ending: if silent { Ending::Stall } else { Ending::StopWriting },
            send_limit: silent.then(|| network.rng.usize(0..30)),
        };
        let peer = Peer::new(link, behaviour);
        self.streams.push(Stream { peer, inbox: Vec::new(), answers_at: 0 });
    }

    fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        let mut acted = false;
        for at in 0..network.datagrams.len() {
            if !self.serves(network.datagrams[at].to, false) {
                continue;
            }
            while let Some(query) = network.datagrams[at].sent.pop_front() {
                acted = true;
                let answers = self.answers(network, &query);
                network.datagrams[at].in_flight.extend(answers);
            }
        }
        for stream in &mut self.streams {
            let received = stream.peer.receive(network);
            acted |= !received.is_empty();
            stream.inbox.extend(received);
            if stream.answers_at > network.now || network.links[stream.peer.link].closed {
                continue;
            }
            while let Some(query) = pop_frame(&mut stream.inbox) {
                let packet = answer(&query, None);
                stream.peer.out.extend((packet.len() as u16).to_be_bytes());
                stream.peer.out.extend(packet);
                stream.answers_at = network.now + network.rng.u64(0..=self.faults.delay_ms);
                acted = true;
            }
            acted |= !stream.peer.send(network).is_empty();
            acted |= stream.peer.finish(network, false);
        }
        Ok(acted)
    }

    fn due(&self, now: u64) -> Option<u64> {
        let streams = self.streams.iter().flat_map(|stream| {
            let answers =
                Some(stream.answers_at).filter(|at| *at > now && !stream.inbox.is_empty());
            [stream.peer.due(now), answers]
        });
        streams.flatten().min()
    }

    fn check(&self, _: &Daemon<SimNet>, network: &Network, until: u64) -> Result<(), String> {
        let ports = network.datagrams.iter().filter(|port| !port.closed && port.token.is_some());
        let streams = self.streams.iter().map(|stream| &network.links[stream.peer.link]);
        let streams = streams.filter(|link| !link.closed).map(|link| link.opened_at);
        match ports.map(|port| port.opened_at).chain(streams).min() {
            Some(at) if until > at + LOOKUP_MS => {
                Err(format!("a lookup of {at} ms outlives its deadline"))
            }
            _ => Ok(()),
        }
    }
}

/// One attempt over datagrams and one over TCP.
const LOOKUP_MS: u64 = 2_000 + 3_000 + 1_000;

/// The server of the settings.
pub fn server_addr() -> SocketAddr {
    SocketAddr::from(([10, 53, 0, 1], 53))
}

/// The server after some reloads.
pub fn second_server_addr() -> SocketAddr {
    SocketAddr::from(([10, 53, 0, 2], 53))
}

/// A forged answer leads to this address, which the daemon must never dial.
pub const FORGED: Ipv4Addr = Ipv4Addr::new(10, 66, 66, 1);

/// The answer of a truthful server, or one that leads to another address.
fn answer(query: &[u8], forged: Option<Ipv4Addr>) -> Vec<u8> {
    let kind = query.get(question_end(query) - 4..).unwrap_or_default();
    if kind.get(..2) != Some(&[0, 1]) {
        return empty(query);
    }
    let front = |last| Ipv4Addr::new(203, FRONTS, 0, last);
    let addrs = forged.map_or_else(|| vec![front(2), front(1)], |forged| vec![forged]);
    let mut packet = empty(query);
    packet[7] = addrs.len() as u8;
    for addr in addrs {
        packet.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        packet.extend(addr.octets());
    }
    packet
}

/// An answer without records.
fn empty(query: &[u8]) -> Vec<u8> {
    with_code(query, 0)
}

fn with_code(query: &[u8], code: u8) -> Vec<u8> {
    let mut packet = query[..question_end(query)].to_vec();
    (packet[2], packet[3]) = (0x81, 0x80 | code);
    packet[6..12].fill(0);
    packet
}

/// The offset behind the only question.
fn question_end(query: &[u8]) -> usize {
    let mut at = 12;
    while let Some(len) = query.get(at).filter(|len| **len > 0) {
        at += 1 + usize::from(*len);
    }
    at + 5
}

/// Removes a message with its length from the front of a stream.
fn pop_frame(inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = usize::from(u16::from_be_bytes([*inbox.first()?, *inbox.get(1)?]));
    let frame = inbox.get(2..2 + len)?.to_vec();
    inbox.drain(..2 + len);
    Some(frame)
}
