//! A client: one that holds a valid secret and speaks FakeTLS, or a probe.

use std::net::SocketAddr;

use mtbox::io::listen::ListenAddr;

use crate::network::Network;
use crate::peer::{Behaviour, Peer};
use crate::protocol::{self, CCS, Frame, Stream, pattern};
use crate::sockets;

/// The behaviour of a client and of its server, drawn from the seed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When it connects, in virtual milliseconds.
    pub starts: u64,
    /// Its address.
    pub from: SocketAddr,
    /// A valid secret and a hello made with it; `None` = a probe.
    pub credentials: Option<Credentials>,
    /// The bytes that it sends before any answer.
    pub opening: Vec<u8>,
    /// The DC that it asks for; negative for media.
    pub dc: i16,
    /// Payload bytes to the server, after the opening or the frame.
    pub up: usize,
    /// Payload bytes from the server.
    pub down: usize,
    /// Largest payload of a record in bytes.
    pub record: usize,
    /// Sends a malformed record after this number of payload bytes.
    pub bad_record_at: Option<usize>,
    /// Sends FIN without waiting for a byte of the server.
    pub early_fin: bool,
    /// Behaviour of the client's end.
    pub client: Behaviour,
    /// Behaviour of the server's end.
    pub server: Behaviour,
    /// Calls of the daemon until the client's and the server's connection are reset.
    pub reset_after: (Option<u32>, Option<u32>),
    /// Every byte must arrive.
    pub must_complete: bool,
    /// The daemon must refuse the session with FIN, after all its bytes.
    pub must_be_refused: bool,
    /// Seed of the payload.
    pub seed: u64,
}

/// The secret of a user, and a hello made with it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The index of the user.
    pub user: usize,
    /// The key of the secret.
    pub key: [u8; 16],
    /// The hello in one record; it may be sent in several.
    pub hello: Vec<u8>,
}

/// The client's view of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not connected yet.
    NotConnected,
    /// Sent its opening and waits for the first bytes.
    AwaitAnswer,
    /// The answer was valid: bytes go to the DC.
    Relayed,
    /// Bytes go to the front.
    Fronted,
}

/// A client and the bytes it has verified so far.
pub struct Client {
    /// What it will do.
    pub plan: Plan,
    /// Its view of the session.
    pub phase: Phase,
    /// Its end of the link, once connected.
    pub peer: Option<Peer>,
    /// Every byte that it sent.
    pub sent: Vec<u8>,
    /// Payload bytes put into records.
    pub produced: usize,
    /// Payload bytes received and verified.
    pub verified: usize,
    input: Vec<u8>,
    streams: Option<(Stream, Stream)>,
    sent_bad_record: bool,
    number: usize,
}

impl Client {
    /// A client that has not connected.
    pub fn new(number: usize, plan: Plan) -> Self {
        let (sent, input) = (Vec::new(), Vec::new());
        let (phase, streams) = (Phase::NotConnected, None);
        let (produced, verified, sent_bad_record) = (0, 0, false);
        Self {
            plan,
            phase,
            peer: None,
            sent,
            produced,
            verified,
            input,
            streams,
            sent_bad_record,
            number,
        }
    }

    /// Acts once; `true` = something happened.
    ///
    /// # Errors
    /// The received bytes are not the bytes that were sent to it.
    pub fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        let Some(peer) = &mut self.peer else {
            if network.now < self.plan.starts {
                return Ok(false);
            }
            let is_for_clients = |endpoint: &ListenAddr| !sockets::is_admin(endpoint);
            let link = network.connect(self.number, self.plan.from, is_for_clients);
            network.links[link].reset_in = self.plan.reset_after.0;
            let mut peer = Peer::new(link, self.plan.client.clone());
            peer.out.extend(&self.plan.opening);
            self.phase =
                if self.plan.credentials.is_some() { Phase::AwaitAnswer } else { Phase::Fronted };
            self.peer = Some(peer);
            return Ok(true);
        };
        let received = peer.receive(network);
        self.receive(network, &received)?;
        self.prepare(network);
        let sent_all = self.has_sent_all();
        let Some(peer) = &mut self.peer else { return Ok(false) };
        let written = peer.send(network);
        let ended = peer.finish(network, sent_all);
        self.sent.extend(&written);
        Ok(ended || !received.is_empty() || !written.is_empty())
    }

    /// When it acts next by itself, in virtual milliseconds.
    pub fn due(&self, now: u64) -> Option<u64> {
        match &self.peer {
            None => Some(self.plan.starts),
            Some(peer) => peer.due(now),
        }
    }

    fn receive(&mut self, network: &mut Network, received: &[u8]) -> Result<(), String> {
        self.input.extend(received);
        if self.phase == Phase::AwaitAnswer
            && self.input.first().is_some_and(|first| *first != 0x16)
        {
            self.phase = Phase::Fronted;
        }
        if let (Phase::AwaitAnswer, Some(credentials)) = (self.phase, &self.plan.credentials) {
            let Some(len) = protocol::answer(&self.input, &credentials.key, &credentials.hello)?
            else {
                return Ok(());
            };
            self.input.drain(..len);
            self.phase = Phase::Relayed;
            if let Some(peer) = &self.peer {
                network.links[peer.link].relayed_at = Some(network.now);
            }
            let key = credentials.key;
            self.queue_frame(network, &key);
        }
        if self.sent_bad_record {
            self.input.clear();
        }
        if self.phase == Phase::Relayed {
            while let Some(mut payload) = protocol::next_payload(&mut self.input)? {
                if let Some((_, down)) = &mut self.streams {
                    down.apply(&mut payload);
                }
                self.verify(
                    &payload,
                    pattern(self.plan.seed ^ DOWN, self.verified, payload.len()),
                )?;
            }
        } else if self.phase == Phase::Fronted {
            let input = std::mem::take(&mut self.input);
            self.verify(&input, front_bytes(self.plan.seed, self.verified, input.len()))?;
        }
        Ok(())
    }

    fn verify(&mut self, got: &[u8], expected: Vec<u8>) -> Result<(), String> {
        let at = self.verified;
        if got != expected {
            let off = got.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(0);
            return Err(format!("wrong byte at {} of the download", at + off));
        }
        self.verified += got.len();
        if self.verified > self.plan.down {
            return Err(format!("{} bytes of {}", self.verified, self.plan.down));
        }
        Ok(())
    }

    /// Queues CCS and the frame: whole or in two records, alone or with the first payload.
    fn queue_frame(&mut self, network: &mut Network, key: &[u8; 16]) {
        let mut frame = Frame::write(&mut network.rng, self.plan.dc, Some(key));
        let mut payload = frame.wire.to_vec();
        if network.happens(40) {
            self.produced = self.plan.up.min(network.rng.usize(1..=self.plan.record));
            let mut early = pattern(self.plan.seed, 0, self.produced);
            frame.to_receiver.apply(&mut early);
            payload.extend(early);
        }
        let cut = if network.happens(30) { network.rng.usize(64..=payload.len()) } else { 0 };
        let Some(peer) = &mut self.peer else { return };
        peer.out.extend(CCS);
        for part in [&payload[..cut], &payload[cut..]] {
            if !part.is_empty() {
                peer.out.extend(protocol::record(0x17, part));
            }
        }
        self.streams = Some((frame.to_receiver, frame.to_sender));
    }

    /// Queues the next bytes.
    fn prepare(&mut self, network: &mut Network) {
        let Some(peer) = &mut self.peer else { return };
        if peer.ended || peer.out.len() > AHEAD || self.sent_bad_record {
            return;
        }
        if let Some((up, _)) = &mut self.streams {
            if self.plan.bad_record_at.is_some_and(|at| self.produced >= at) {
                peer.out.extend([0x17, 3, 7, 0xff, 0]);
                self.sent_bad_record = true;
                return;
            }
            let len = (self.plan.up - self.produced).min(network.rng.usize(1..=self.plan.record));
            let mut payload = pattern(self.plan.seed, self.produced, len);
            up.apply(&mut payload);
            if len > 0 {
                peer.out.extend(protocol::record(0x17, &payload));
            }
            self.produced += len;
        } else if self.phase == Phase::Fronted && self.plan.credentials.is_none() {
            let len = (self.plan.up - self.produced).min(network.rng.usize(1..=self.plan.record));
            peer.out.extend(pattern(self.plan.seed, self.produced, len));
            self.produced += len;
        }
    }

    fn has_sent_all(&self) -> bool {
        match self.phase {
            Phase::NotConnected => false,
            // With an answer it has more to send, unless it ends early.
            Phase::AwaitAnswer => self.plan.early_fin,
            Phase::Relayed => {
                let sent_all = self.produced >= self.plan.up || self.sent_bad_record;
                sent_all && (self.verified > 0 || self.plan.early_fin || self.sent_bad_record)
            }
            Phase::Fronted => self.plan.credentials.is_some() || self.produced >= self.plan.up,
        }
    }
}

/// Bytes of a front for the client of this seed. They never begin like a TLS record.
pub fn front_bytes(seed: u64, from: usize, count: usize) -> Vec<u8> {
    let mut bytes = pattern(seed ^ FRONT, from, count);
    if let (0, Some(first)) = (from, bytes.first_mut()) {
        *first = b'F';
    }
    bytes
}

/// Makes the pattern of the download differ from that of the upload.
pub const DOWN: u64 = 0xd0;
const FRONT: u64 = 0xf0;
/// Bytes kept ready in the queue.
const AHEAD: usize = 24_000;
