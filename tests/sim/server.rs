//! The other ends: data centres and front hosts.

use std::net::IpAddr;

use crate::client::{Client, DOWN, said_by_front};
use crate::hub::Hub;
use crate::peer::Peer;
use crate::protocol::{Header, Stream, pattern};

/// One accepted connection of a DC or of a front.
pub struct Server {
    /// Its end of the cable.
    pub peer: Peer,
    /// For which client it was made.
    pub client: usize,
    /// Payload bytes received and found right.
    pub seen: usize,
    /// A front rather than a DC.
    pub is_front: bool,
    dc: i16,
    header: Vec<u8>,
    streams: Option<(Stream, Stream)>,
    made: usize,
}

impl Server {
    /// The end of a dialled cable.
    pub fn new(hub: &mut Hub, cable: usize, client: &Client) -> Self {
        let octets = match hub.cables[cable].dialled.map(|addr| addr.ip()) {
            Some(IpAddr::V4(v4)) => v4.octets(),
            _ => [0; 4],
        };
        hub.cables[cable].doom = client.plan.doom.1;
        Self {
            peer: Peer::new(cable, client.plan.server.clone()),
            client: hub.cables[cable].client,
            seen: 0,
            is_front: octets[1] == FRONTS,
            dc: i16::from(octets[2]),
            header: Vec::new(),
            streams: None,
            made: 0,
        }
    }

    /// Acts once. `true` = something happened.
    ///
    /// # Errors
    /// When what it received is not what the client sent.
    pub fn act(&mut self, hub: &mut Hub, client: &Client) -> Result<bool, String> {
        let heard = self.peer.listen(hub);
        if self.is_front {
            self.hear_raw(&heard, client)?
        } else {
            self.hear(&heard, client)?
        }
        let down = client.plan.down;
        let speaks = if self.is_front { self.seen > 0 } else { self.streams.is_some() };
        if speaks && !self.peer.ended && self.peer.out.len() < AHEAD {
            let len = (down - self.made).min(hub.rng.usize(1..=AHEAD));
            let mut said = match &self.streams {
                Some(_) => pattern(client.plan.seed ^ DOWN, self.made, len),
                None => said_by_front(client.plan.seed, self.made, len),
            };
            if let Some((_, back)) = &mut self.streams {
                back.apply(&mut said);
            }
            self.made += len;
            self.peer.out.extend(said);
        }
        let spoken = self.peer.speak(hub);
        let left = self.peer.last.is_some();
        let ended = self.peer.end(hub, (speaks && self.made >= down) || (left && !speaks));
        Ok(ended || !heard.is_empty() || !spoken.is_empty())
    }

    fn hear(&mut self, mut heard: &[u8], client: &Client) -> Result<(), String> {
        if self.streams.is_none() {
            let (first, rest) = heard.split_at(heard.len().min(64 - self.header.len()));
            self.header.extend(first);
            heard = rest;
            let Ok(wire) = <&[u8; 64]>::try_from(&self.header[..]) else { return Ok(()) };
            let header = Header::read(wire);
            let asked = client.plan.dc.abs();
            if header.tag != [0xdd; 4] || header.dc != asked || self.dc != asked {
                return Err(format!("DC {asked} was wanted, not {}", self.dc));
            }
            self.streams = Some((header.forth, header.back));
        }
        let Some((forth, _)) = &mut self.streams else { return Ok(()) };
        let mut plain = heard.to_vec();
        forth.apply(&mut plain);
        self.judge(&plain, &pattern(client.plan.seed, self.seen, plain.len()))?;
        if self.seen > client.made {
            return Err("the DC got more than was sent".to_owned());
        }
        Ok(())
    }

    fn hear_raw(&mut self, heard: &[u8], client: &Client) -> Result<(), String> {
        let said = client.transcript.get(self.seen..).unwrap_or_default();
        let said = &said[..said.len().min(heard.len())];
        self.judge(heard, said)
    }

    fn judge(&mut self, got: &[u8], expected: &[u8]) -> Result<(), String> {
        if got != expected {
            let off = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(0);
            let at = self.seen + off;
            return Err(format!("wrong byte at {at} of the upload"));
        }
        self.seen += got.len();
        Ok(())
    }
}

/// The second octet of every front's address; DCs have another.
pub const FRONTS: u8 = 9;
/// Bytes kept ready to be sent.
const AHEAD: usize = 24_000;
