//! One direction of a simulated connection: bytes in flight, bytes that arrived, one window for
//! both, and the FIN behind them.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::network::Defect;

/// The bytes from a sender to a receiver.
#[derive(Default)]
pub struct Channel {
    in_flight: VecDeque<u8>,
    arrived: VecDeque<u8>,
    window: usize,
    /// Room for the first bytes, if more than the window.
    first_window: usize,
    /// The first bytes for the destination follow after the handshake with a proxy.
    pub is_in_handshake: bool,
    /// The sender has sent FIN.
    pub fin: bool,
    /// The FIN has arrived at the receiver's system.
    pub fin_arrived: bool,
    /// Nothing arrives before this virtual millisecond.
    pub moves_at: u64,
    /// Total of bytes written by the sender.
    pub written: u64,
    /// Total of bytes read by the receiver.
    pub read: u64,
}

impl Channel {
    /// An empty channel that holds at most `window` bytes. The first bytes find at least
    /// `first_window` bytes of room.
    pub fn new(window: usize, first_window: usize) -> Self {
        Self { window, first_window, ..Self::default() }
    }

    /// How many more bytes can be written.
    pub fn room(&self) -> usize {
        let is_first = self.written == 0 || self.is_in_handshake;
        let most = if is_first { self.window.max(self.first_window) } else { self.window };
        most.saturating_sub(self.in_flight.len() + self.arrived.len())
    }

    /// A third of the window is free: Linux then reports a socket writable.
    pub fn is_writable(&self) -> bool {
        self.room() * 3 >= self.window
    }

    /// Bytes that can be read now.
    pub fn ready(&self) -> usize {
        self.arrived.len()
    }

    /// Everything written has been read or was dropped.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.arrived.is_empty()
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let len = self.room().min(bytes.len());
        self.in_flight.extend(&bytes[..len]);
        self.written += len as u64;
        len
    }

    /// Reads at most `most` of the bytes that arrived.
    pub fn read(&mut self, most: usize) -> Vec<u8> {
        let len = most.min(self.arrived.len());
        self.read += len as u64;
        self.arrived.drain(..len).collect()
    }

    /// Bytes that have been written and have not arrived.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Drops the bytes in flight.
    pub fn drop_in_flight(&mut self) {
        self.in_flight.clear();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.in_flight.clear();
        self.arrived.clear();
    }

    /// Loses or repeats a byte in flight, once.
    pub fn corrupt(&mut self, defect: &mut Option<Defect>) {
        let Some(last) = self.in_flight.back().copied() else { return };
        match defect.take() {
            Some(Defect::LoseByte) => self.in_flight.truncate(self.in_flight.len() - 1),
            Some(Defect::RepeatByte) => self.in_flight.push_back(last),
            other => *defect = other,
        }
    }

    /// Something can arrive at `now`.
    pub fn is_due(&self, now: u64) -> bool {
        self.moves_at <= now && (!self.in_flight.is_empty() || self.fin != self.fin_arrived)
    }

    /// When something in flight will arrive.
    pub fn due(&self) -> Option<u64> {
        let any = !self.in_flight.is_empty() || self.fin != self.fin_arrived;
        any.then_some(self.moves_at)
    }

    /// Lets bytes arrive: all of them, or with a probability of `partial_arrival` percent a part,
    /// which makes the next read a short one.
    pub fn arrive(&mut self, rng: &mut Rng, partial_arrival: u32) -> usize {
        let all = self.in_flight.len();
        let part = all > 1 && rng.u32(0..100) < partial_arrival;
        let len = if part { rng.usize(1..all) } else { all };
        self.arrived.extend(self.in_flight.drain(..len));
        // A FIN arrives with the last bytes or later.
        if self.in_flight.is_empty() && self.fin && rng.u32(0..100) >= partial_arrival {
            self.fin_arrived = true;
        }
        len
    }
}
