//! What clients and servers have in common: they write and read in chunks, pause, and end.

use std::collections::VecDeque;

use crate::network::Network;

/// Behaviour of one end of a connection.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Largest write in bytes.
    pub write_chunk: usize,
    /// Largest read in bytes.
    pub read_chunk: usize,
    /// Percent of the writes that a pause follows, and its longest length in milliseconds.
    pub write_pause: (u32, u64),
    /// Percent of the reads that a pause follows, and its longest length in milliseconds.
    pub read_pause: (u32, u64),
    /// How it ends its direction.
    pub ending: Ending,
    /// It ends after this number of bytes, even within a record.
    pub send_limit: Option<usize>,
}

/// How a peer ends its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// FIN after all bytes; reads on.
    Fin,
    /// FIN after all bytes and after the FIN of the other side.
    AwaitFin,
    /// RST.
    Reset,
    /// close(2): FIN, and RST for bytes that arrive later.
    Close,
    /// Writes nothing more and never closes, but reads.
    StopWriting,
    /// Neither writes nor reads any more.
    Stall,
}

/// How the daemon ended the connection, as the peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSeen {
    /// FIN, after everything that the daemon wrote.
    Fin,
    /// A reset.
    Reset,
}

/// A peer of the daemon: the other end of a link.
pub struct Peer {
    /// Its link.
    pub link: usize,
    /// Bytes to be sent.
    pub out: VecDeque<u8>,
    /// Number of bytes sent.
    pub sent: usize,
    /// It has sent FIN or ended otherwise.
    pub ended: bool,
    /// How the daemon ended the connection.
    pub end_seen: Option<EndSeen>,
    behaviour: Behaviour,
    is_stalled: bool,
    writes_at: u64,
    reads_at: u64,
}

impl Peer {
    /// The peer on a link.
    pub fn new(link: usize, behaviour: Behaviour) -> Self {
        let (out, end_seen) = (VecDeque::new(), None);
        let (writes_at, reads_at) = (0, 0);
        Self {
            link,
            out,
            sent: 0,
            ended: false,
            end_seen,
            behaviour,
            is_stalled: false,
            writes_at,
            reads_at,
        }
    }

    /// Reads what its behaviour allows now.
    pub fn receive(&mut self, network: &mut Network) -> Vec<u8> {
        let now = network.now;
        let mut received = Vec::new();
        if !self.is_stalled && now >= self.reads_at && self.end_seen.is_none() {
            let read_chunk = network.rng.usize(1..=self.behaviour.read_chunk);
            received = network.peer_read(self.link, read_chunk);
            let naps = !received.is_empty() && network.happens(self.behaviour.read_pause.0);
            if naps {
                self.reads_at = now + network.rng.u64(0..=self.behaviour.read_pause.1);
            }
        }
        network.links[self.link].reads_eagerly = !self.is_stalled && now >= self.reads_at;
        let link = &network.links[self.link];
        if link.is_reset && (self.is_stalled || !link.peer_can_read()) {
            self.end_seen = Some(EndSeen::Reset);
            self.ended = true;
        } else if link.is_finished() && self.end_seen.is_none() {
            self.end_seen = Some(EndSeen::Fin);
        }
        received
    }

    /// Sends a chunk and returns it.
    pub fn send(&mut self, network: &mut Network) -> Vec<u8> {
        if self.ended || network.now < self.writes_at || self.out.is_empty() {
            return Vec::new();
        }
        let mut len = network.rng.usize(1..=self.behaviour.write_chunk).min(self.out.len());
        if let Some(most) = self.behaviour.send_limit {
            len = len.min(most - self.sent);
        }
        self.out.make_contiguous();
        let len = network.peer_write(self.link, &self.out.as_slices().0[..len]);
        self.sent += len;
        if network.happens(self.behaviour.write_pause.0) {
            self.writes_at = network.now + network.rng.u64(0..=self.behaviour.write_pause.1);
        }
        self.out.drain(..len).collect()
    }

    /// Ends when it is time; `sent_all` = no bytes will be added to `out`.
    pub fn finish(&mut self, network: &mut Network, sent_all: bool) -> bool {
        let cut = self.behaviour.send_limit.is_some_and(|most| self.sent >= most);
        let is_done = sent_all && self.out.is_empty();
        if self.ended || !(cut || is_done) {
            return false;
        }
        match self.behaviour.ending {
            Ending::AwaitFin if self.end_seen != Some(EndSeen::Fin) => return false,
            Ending::Fin | Ending::AwaitFin => network.peer_fin(self.link),
            Ending::Reset => network.peer_reset(self.link),
            Ending::Close => {
                network.peer_fin(self.link);
                network.links[self.link].peer_closed = true;
                self.is_stalled = true;
            }
            Ending::StopWriting => {}
            Ending::Stall => self.is_stalled = true,
        }
        self.ended = true;
        true
    }

    /// When a pause ends, in virtual milliseconds.
    pub fn due(&self, now: u64) -> Option<u64> {
        let write = (!self.ended && !self.out.is_empty()).then_some(self.writes_at);
        let read = (!self.is_stalled && self.end_seen.is_none()).then_some(self.reads_at);
        [write, read].into_iter().flatten().filter(|at| *at > now).min()
    }
}
