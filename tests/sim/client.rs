//! A client: a member of ours who speaks FakeTLS, or a stranger who does not.

use crate::cable::Link;
use crate::hub::Hub;
use crate::peer::{Habits, Peer};
use crate::protocol::{self, CCS, Header, Stream, pattern};

/// What a client will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When it connects, in milliseconds.
    pub starts: u64,
    /// A member's key and host; `None` = a stranger.
    pub member: Option<Member>,
    /// What it says first, before any answer.
    pub opening: Vec<u8>,
    /// The data centre that it asks for.
    pub dc: i16,
    /// Payload bytes to the other end, behind the opening or the header.
    pub up: usize,
    /// Payload bytes that the other end sends.
    pub down: usize,
    /// Most payload bytes per record.
    pub record: usize,
    /// Sends a record that is none after so many payload bytes.
    pub garbles_at: Option<usize>,
    /// Sends its FIN although nothing was heard from the other end yet.
    pub hasty: bool,
    /// How it behaves.
    pub habits: Habits,
    /// How the other end behaves.
    pub server: Habits,
    /// Reads of the daemon until a reset strikes: at the client, at the server.
    pub doom: (Option<u32>, Option<u32>),
    /// Everything must arrive.
    pub guaranteed: bool,
    /// The daemon must refuse it, but decently: with a FIN behind all that it says.
    pub turned_away: bool,
    /// The same number gives the same bytes.
    pub seed: u64,
}

/// Whom a hello is from.
#[derive(Debug, Clone)]
pub struct Member {
    /// The index of the user.
    pub user: usize,
    /// The key of the secret.
    pub key: [u8; 16],
    /// The hello in one record, however it travels.
    pub hello: Vec<u8>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not connected yet.
    Away,
    /// Waiting for the first bytes.
    Asking,
    /// Admitted.
    Relayed,
    /// Talking to the front.
    Plain,
}

/// A client and what it has seen so far.
pub struct Client {
    /// What it does.
    pub plan: Plan,
    /// How far it has come.
    pub phase: Phase,
    /// Its end of the cable, once connected.
    pub peer: Option<Peer>,
    /// Every byte that it sent.
    pub transcript: Vec<u8>,
    /// Payload bytes put into records.
    pub made: usize,
    /// Payload bytes received and found right.
    pub seen: usize,
    input: Vec<u8>,
    streams: Option<(Stream, Stream)>,
    garbled: bool,
    number: usize,
}

impl Client {
    /// A client that has not connected.
    pub fn new(number: usize, plan: Plan) -> Self {
        let (transcript, input) = (Vec::new(), Vec::new());
        let (phase, streams) = (Phase::Away, None);
        let (made, seen, garbled) = (0, 0, false);
        Self { plan, phase, peer: None, transcript, made, seen, input, streams, garbled, number }
    }

    /// Acts once. `true` = something happened.
    ///
    /// # Errors
    /// When what it received is not what was sent to it.
    pub fn act(&mut self, hub: &mut Hub) -> Result<bool, String> {
        let Some(peer) = &mut self.peer else {
            if hub.now < self.plan.starts {
                return Ok(false);
            }
            let cable = hub.plug(self.number, None, Link::Up);
            hub.cables[cable].doom = self.plan.doom.0;
            let mut peer = Peer::new(cable, self.plan.habits.clone());
            peer.out.extend(&self.plan.opening);
            self.phase = if self.plan.member.is_some() { Phase::Asking } else { Phase::Plain };
            self.peer = Some(peer);
            return Ok(true);
        };
        let heard = peer.listen(hub);
        self.hear(hub, &heard)?;
        self.prepare(hub);
        let all_said = self.is_all_said();
        let Some(peer) = &mut self.peer else { return Ok(false) };
        let spoken = peer.speak(hub);
        let ended = peer.end(hub, all_said);
        self.transcript.extend(&spoken);
        Ok(ended || !heard.is_empty() || !spoken.is_empty())
    }

    /// When it wakes up by itself.
    pub fn due(&self, now: u64) -> Option<u64> {
        match &self.peer {
            None => Some(self.plan.starts),
            Some(peer) => peer.due(now),
        }
    }

    fn hear(&mut self, hub: &mut Hub, heard: &[u8]) -> Result<(), String> {
        self.input.extend(heard);
        if self.phase == Phase::Asking && self.input.first().is_some_and(|first| *first != 0x16) {
            self.phase = Phase::Plain;
        }
        if let (Phase::Asking, Some(member)) = (self.phase, &self.plan.member) {
            let Some(len) = protocol::answer(&self.input, &member.key, &member.hello)? else {
                return Ok(());
            };
            self.input.drain(..len);
            self.phase = Phase::Relayed;
            let key = member.key;
            self.introduce(hub, &key);
        }
        if self.garbled {
            self.input.clear();
        }
        if self.phase == Phase::Relayed {
            while let Some(mut payload) = protocol::next_payload(&mut self.input)? {
                if let Some((_, down)) = &mut self.streams {
                    down.apply(&mut payload);
                }
                self.judge(&payload, pattern(self.plan.seed ^ DOWN, self.seen, payload.len()))?;
            }
        } else if self.phase == Phase::Plain {
            let input = std::mem::take(&mut self.input);
            self.judge(&input, said_by_front(self.plan.seed, self.seen, input.len()))?;
        }
        Ok(())
    }

    fn judge(&mut self, got: &[u8], expected: Vec<u8>) -> Result<(), String> {
        let at = self.seen;
        if got != expected {
            let off = got.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(0);
            return Err(format!("wrong byte at {} of the download", at + off));
        }
        self.seen += got.len();
        if self.seen > self.plan.down {
            return Err(format!("{} bytes of {}", self.seen, self.plan.down));
        }
        Ok(())
    }

    /// CCS and the header, whole or in two records, alone or with the first payload.
    fn introduce(&mut self, hub: &mut Hub, key: &[u8; 16]) {
        let mut header = Header::write(&mut hub.rng, self.plan.dc, Some(key));
        let mut payload = header.wire.to_vec();
        if hub.odds(40) {
            self.made = self.plan.up.min(hub.rng.usize(1..=self.plan.record));
            let mut early = pattern(self.plan.seed, 0, self.made);
            header.forth.apply(&mut early);
            payload.extend(early);
        }
        let cut = if hub.odds(30) { hub.rng.usize(1..64) } else { 0 };
        let Some(peer) = &mut self.peer else { return };
        peer.out.extend(CCS);
        for part in [&payload[..cut], &payload[cut..]] {
            if !part.is_empty() {
                peer.out.extend(protocol::record(0x17, part));
            }
        }
        self.streams = Some((header.forth, header.back));
    }

    /// Makes the next bytes to be sent.
    fn prepare(&mut self, hub: &mut Hub) {
        let Some(peer) = &mut self.peer else { return };
        if peer.ended || peer.out.len() > AHEAD || self.garbled {
            return;
        }
        if let Some((up, _)) = &mut self.streams {
            if self.plan.garbles_at.is_some_and(|at| self.made >= at) {
                peer.out.extend([0x17, 3, 7, 0xff]);
                self.garbled = true;
                return;
            }
            let len = (self.plan.up - self.made).min(hub.rng.usize(1..=self.plan.record));
            let mut payload = pattern(self.plan.seed, self.made, len);
            up.apply(&mut payload);
            if len > 0 {
                peer.out.extend(protocol::record(0x17, &payload));
            }
            self.made += len;
        } else if self.phase == Phase::Plain && self.plan.member.is_none() {
            let len = (self.plan.up - self.made).min(hub.rng.usize(1..=self.plan.record));
            peer.out.extend(pattern(self.plan.seed, self.made, len));
            self.made += len;
        }
    }

    fn is_all_said(&self) -> bool {
        match self.phase {
            Phase::Away => false,
            // Whoever is answered has more to say, unless it gives up before.
            Phase::Asking => self.plan.hasty,
            Phase::Relayed => {
                let said = self.made >= self.plan.up || self.garbled;
                said && (self.seen > 0 || self.plan.hasty || self.garbled)
            }
            Phase::Plain => self.plan.member.is_some() || self.made >= self.plan.up,
        }
    }
}

/// What a front says to the client of this seed. Never begins like a TLS record.
pub fn said_by_front(seed: u64, from: usize, count: usize) -> Vec<u8> {
    let mut said = pattern(seed ^ FRONT, from, count);
    if let (0, Some(first)) = (from, said.first_mut()) {
        *first = b'F';
    }
    said
}

/// Tells the download's pattern from the upload's.
pub const DOWN: u64 = 0xd0;
const FRONT: u64 = 0xf0;
/// Bytes kept ready to be sent.
const AHEAD: usize = 24_000;
