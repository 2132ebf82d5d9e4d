//! What clients and servers have in common: they talk in pieces, take naps, and end somehow.

use std::collections::VecDeque;

use crate::hub::Hub;

/// How a peer behaves.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Most bytes of one send.
    pub mouthful: usize,
    /// Most bytes of one read.
    pub bite: usize,
    /// In so many percent of the sends, up to so many milliseconds of silence follow.
    pub think: (u32, u64),
    /// In so many percent of the reads, up to so many milliseconds without reading follow.
    pub nap: (u32, u64),
    /// How it ends.
    pub ending: Ending,
    /// It ends after so many bytes sent, even in the middle of something.
    pub cut_off: Option<usize>,
}

/// How a peer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// FIN when all is said; reads on.
    Fin,
    /// FIN when all is said and the other side's FIN has come.
    AwaitFin,
    /// RST.
    Reset,
    /// close(2): FIN, and a reset for whatever still comes.
    Close,
    /// Says nothing more and never closes, but reads.
    Mute,
    /// Neither says nor reads anything more.
    Deaf,
}

/// What a peer heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The daemon's FIN, behind everything it wrote.
    Fin,
    /// A reset.
    Reset,
}

/// One end of a cable that is not the daemon's.
pub struct Peer {
    /// Its cable.
    pub cable: usize,
    /// What is to be sent.
    pub out: VecDeque<u8>,
    /// How many bytes have been sent.
    pub sent: usize,
    /// Its FIN is out, or it has ended otherwise.
    pub ended: bool,
    /// What it heard last.
    pub last: Option<Last>,
    habits: Habits,
    deaf: bool,
    talks_at: u64,
    reads_at: u64,
}

impl Peer {
    /// The peer of a cable.
    pub fn new(cable: usize, habits: Habits) -> Self {
        let (out, last) = (VecDeque::new(), None);
        let (talks_at, reads_at) = (0, 0);
        Self { cable, out, sent: 0, ended: false, last, habits, deaf: false, talks_at, reads_at }
    }

    /// What can be read now, within its habits.
    pub fn listen(&mut self, hub: &mut Hub) -> Vec<u8> {
        let now = hub.now;
        let mut heard = Vec::new();
        if !self.deaf && now >= self.reads_at && self.last.is_none() {
            let bite = hub.rng.usize(1..=self.habits.bite);
            heard = hub.peer_read(self.cable, bite);
            let naps = !heard.is_empty() && hub.odds(self.habits.nap.0);
            if naps {
                self.reads_at = now + hub.rng.u64(0..=self.habits.nap.1);
            }
        }
        hub.cables[self.cable].eager = !self.deaf && now >= self.reads_at;
        let cable = &hub.cables[self.cable];
        if cable.broken && (self.deaf || !cable.has_mail()) {
            self.last = Some(Last::Reset);
            self.ended = true;
        } else if cable.is_finished() && self.last.is_none() {
            self.last = Some(Last::Fin);
        }
        heard
    }

    /// Sends a piece of what is to be sent; returns it.
    pub fn speak(&mut self, hub: &mut Hub) -> Vec<u8> {
        if self.ended || hub.now < self.talks_at || self.out.is_empty() {
            return Vec::new();
        }
        let mut len = hub.rng.usize(1..=self.habits.mouthful).min(self.out.len());
        if let Some(most) = self.habits.cut_off {
            len = len.min(most - self.sent);
        }
        self.out.make_contiguous();
        let len = hub.peer_write(self.cable, &self.out.as_slices().0[..len]);
        self.sent += len;
        if hub.odds(self.habits.think.0) {
            self.talks_at = hub.now + hub.rng.u64(0..=self.habits.think.1);
        }
        self.out.drain(..len).collect()
    }

    /// Ends when it is time; `all_said` = nothing will be added to what is to be sent.
    pub fn end(&mut self, hub: &mut Hub, all_said: bool) -> bool {
        let cut = self.habits.cut_off.is_some_and(|most| self.sent >= most);
        let said = all_said && self.out.is_empty();
        if self.ended || !(cut || said) {
            return false;
        }
        match self.habits.ending {
            Ending::AwaitFin if self.last != Some(Last::Fin) => return false,
            Ending::Fin | Ending::AwaitFin => hub.peer_fin(self.cable),
            Ending::Reset => hub.peer_reset(self.cable),
            Ending::Close => {
                hub.peer_fin(self.cable);
                hub.cables[self.cable].peer_closed = true;
                self.deaf = true;
            }
            Ending::Mute => {}
            Ending::Deaf => self.deaf = true,
        }
        self.ended = true;
        true
    }

    /// When it wakes up by itself, if it sleeps.
    pub fn due(&self, now: u64) -> Option<u64> {
        let talk = (!self.ended && !self.out.is_empty()).then_some(self.talks_at);
        let read = (!self.deaf && self.last.is_none()).then_some(self.reads_at);
        [talk, read].into_iter().flatten().filter(|at| *at > now).min()
    }
}
