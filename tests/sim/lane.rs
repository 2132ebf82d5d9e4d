//! One direction of a simulated connection: bytes on the way, bytes that arrived, a bounded
//! window for both, and the FIN behind them.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::hub::Sabotage;

/// From a sender to a receiver.
#[derive(Default)]
pub struct Lane {
    flight: VecDeque<u8>,
    arrived: VecDeque<u8>,
    window: usize,
    /// The first bytes find this much room.
    fresh: usize,
    /// The sender has said its last.
    pub fin: bool,
    /// And the receiver's system knows.
    pub fin_arrived: bool,
    /// Nothing moves before this millisecond.
    pub resumes: u64,
    /// Bytes ever put in.
    pub put: u64,
    /// Bytes ever taken out.
    pub taken: u64,
}

impl Lane {
    /// An empty lane that holds at most `window` bytes, but `fresh` as long as nothing was put in.
    pub fn new(window: usize, fresh: usize) -> Self {
        Self { window, fresh, ..Self::default() }
    }

    /// How much more may be put in.
    pub fn room(&self) -> usize {
        let most = if self.put == 0 { self.window.max(self.fresh) } else { self.window };
        most.saturating_sub(self.flight.len() + self.arrived.len())
    }

    /// A third of the window is free: what a kernel calls writable.
    pub fn is_writable(&self) -> bool {
        self.room() * 3 >= self.window
    }

    /// Bytes that can be taken now.
    pub fn ready(&self) -> usize {
        self.arrived.len()
    }

    /// Everything put in has been taken, or will never come.
    pub fn is_empty(&self) -> bool {
        self.flight.is_empty() && self.arrived.is_empty()
    }

    /// Puts in what fits.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let len = self.room().min(bytes.len());
        self.flight.extend(&bytes[..len]);
        self.put += len as u64;
        len
    }

    /// Takes at most `most` of the bytes that arrived.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        let len = most.min(self.arrived.len());
        self.taken += len as u64;
        self.arrived.drain(..len).collect()
    }

    /// Drops what is on the way.
    pub fn cut(&mut self) {
        self.flight.clear();
    }

    /// Drops everything.
    pub fn wipe(&mut self) {
        self.flight.clear();
        self.arrived.clear();
    }

    /// Does to a byte on the way what no network may do, once.
    pub fn spoil(&mut self, sabotage: &mut Option<Sabotage>) {
        let Some(last) = self.flight.back().copied() else { return };
        match sabotage.take() {
            Some(Sabotage::LoseByte) => self.flight.truncate(self.flight.len() - 1),
            Some(Sabotage::RepeatByte) => self.flight.push_back(last),
            other => *sabotage = other,
        }
    }

    /// Something could arrive at `now`.
    pub fn is_moving(&self, now: u64) -> bool {
        self.resumes <= now && (!self.flight.is_empty() || self.fin != self.fin_arrived)
    }

    /// When something will arrive that is on its way.
    pub fn due(&self) -> Option<u64> {
        let any = !self.flight.is_empty() || self.fin != self.fin_arrived;
        any.then_some(self.resumes)
    }

    /// Lets bytes arrive: all of them, or a part when `dribble` percent say so, which makes the
    /// next read a short one.
    pub fn arrive(&mut self, rng: &mut Rng, dribble: u32) -> usize {
        let all = self.flight.len();
        let part = all > 1 && rng.u32(0..100) < dribble;
        let len = if part { rng.usize(1..all) } else { all };
        self.arrived.extend(self.flight.drain(..len));
        // A FIN may come with the last bytes or a moment later.
        if self.flight.is_empty() && self.fin && rng.u32(0..100) >= dribble {
            self.fin_arrived = true;
        }
        len
    }
}
