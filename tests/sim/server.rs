//! The servers: data centres and fronts.

use std::net::{IpAddr, SocketAddr};

use crate::client::{Client, DOWN, front_bytes};
use crate::network::Network;
use crate::peer::Peer;
use crate::protocol::{Frame, Stream, pattern};

/// A connection accepted by a DC or a front.
pub struct Server {
    /// Its end of the link.
    pub peer: Peer,
    /// The client that it was dialled for.
    pub client: usize,
    /// Payload bytes received and verified.
    pub verified: usize,
    /// It belongs to a front, not to a DC.
    pub is_front: bool,
    dc: i16,
    frame: Vec<u8>,
    streams: Option<(Stream, Stream)>,
    produced: usize,
}

impl Server {
    /// The server's end of a link that leads to `addr`.
    pub fn new(network: &mut Network, link: usize, addr: SocketAddr, client: &Client) -> Self {
        let octets = match addr.ip() {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        network.links[link].reset_in = client.plan.reset_after.1;
        Self {
            peer: Peer::new(link, client.plan.server.clone()),
            client: network.links[link].client,
            verified: 0,
            is_front: octets[1] == FRONTS,
            dc: i16::from(octets[2]),
            frame: Vec::new(),
            streams: None,
            produced: 0,
        }
    }

    /// Acts once; `true` = something happened.
    ///
    /// # Errors
    /// The received bytes are not the bytes that the client sent.
    pub fn act(&mut self, network: &mut Network, client: &Client) -> Result<bool, String> {
        let received = self.peer.receive(network);
        if self.is_front {
            self.receive_raw(&received, client)?
        } else {
            self.receive(&received, client)?
        }
        let down = client.plan.down;
        let speaks = if self.is_front { self.verified > 0 } else { self.streams.is_some() };
        if speaks && !self.peer.ended && self.peer.out.len() < AHEAD {
            let len = (down - self.produced).min(network.rng.usize(1..=AHEAD));
            let mut bytes = match &self.streams {
                Some(_) => pattern(client.plan.seed ^ DOWN, self.produced, len),
                None => front_bytes(client.plan.seed, self.produced, len),
            };
            if let Some((_, to_sender)) = &mut self.streams {
                to_sender.apply(&mut bytes);
            }
            self.produced += len;
            self.peer.out.extend(bytes);
        }
        let written = self.peer.send(network);
        let left = self.peer.end_seen.is_some();
        let ended =
            self.peer.finish(network, (speaks && self.produced >= down) || (left && !speaks));
        Ok(ended || !received.is_empty() || !written.is_empty())
    }

    fn receive(&mut self, mut received: &[u8], client: &Client) -> Result<(), String> {
        if self.streams.is_none() {
            let (first, rest) = received.split_at(received.len().min(64 - self.frame.len()));
            self.frame.extend(first);
            received = rest;
            let Ok(wire) = <&[u8; 64]>::try_from(&self.frame[..]) else { return Ok(()) };
            let frame = Frame::read(wire);
            let asked = client.plan.dc.abs();
            if frame.tag != [0xdd; 4] || frame.dc != asked || self.dc != asked {
                return Err(format!("DC {asked} was wanted, not {}", self.dc));
            }
            self.streams = Some((frame.to_receiver, frame.to_sender));
        }
        let Some((to_receiver, _)) = &mut self.streams else { return Ok(()) };
        let mut plain = received.to_vec();
        to_receiver.apply(&mut plain);
        self.verify(&plain, &pattern(client.plan.seed, self.verified, plain.len()))?;
        if self.verified > client.produced {
            return Err("the DC got more than was sent".to_owned());
        }
        Ok(())
    }

    fn receive_raw(&mut self, received: &[u8], client: &Client) -> Result<(), String> {
        let bytes = client.sent.get(self.verified..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(received.len())];
        self.verify(received, bytes)
    }

    fn verify(&mut self, got: &[u8], expected: &[u8]) -> Result<(), String> {
        if got != expected {
            let off = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(0);
            let at = self.verified + off;
            return Err(format!("wrong byte at {at} of the upload"));
        }
        self.verified += got.len();
        Ok(())
    }
}

/// The second octet of the addresses of fronts.
pub const FRONTS: u8 = 9;
/// Bytes kept ready in the queue.
const AHEAD: usize = 24_000;
