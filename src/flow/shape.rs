//! State of a shaped download: the position in its burst, and up to 17 bytes that are held back for
//! at most 2 ms, since no TLS 1.3 record is that short (PROTOCOL 15.6).

use crate::mimicry::shaper::Shaper;
use crate::proto::tls;

/// Shortest payload in bytes that a TLS 1.3 record with data has: one byte of data, a type byte and
/// a 16-byte tag (RFC 8446 5.2).
pub(super) const PAYLOAD_MIN: usize = 18;

/// Record sizes and timing of one download.
pub struct Shape {
    shaper: Shaper,
    held: [u8; PAYLOAD_MIN - 1],
    len: u8,
    /// When the held bytes must be sent, in milliseconds.
    until_ms: u64,
}

impl Shape {
    /// The state before the first byte.
    pub fn new(shaper: Shaper) -> Self {
        Self { shaper, held: [0; PAYLOAD_MIN - 1], len: 0, until_ms: 0 }
    }

    /// The plan for record sizes and times.
    pub fn shaper(&self) -> &Shaper {
        &self.shaper
    }

    /// Bytes that have been read but not sent, at most 17; not re-encrypted yet.
    pub fn held(&self) -> &[u8] {
        self.held.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether held bytes have waited long enough and must be sent now.
    pub fn is_late(&self, now_ms: u64) -> bool {
        self.len > 0 && now_ms >= self.until_ms
    }

    /// The next time, after `now_ms`, at which the relay must continue without new bytes from the
    /// DC; `None` = never. `more` = the DC's socket has unread bytes.
    pub fn due(&self, now_ms: u64, more: bool) -> Option<u64> {
        let held = (self.len > 0 && self.until_ms > now_ms).then_some(self.until_ms);
        let next = self.shaper.wait_until(now_ms).filter(|_| more || self.len > 0);
        held.into_iter().chain(next).min()
    }

    /// Copies the held bytes to the start of the first payload; returns their number.
    pub(super) fn restore_held(&self, scratch: &mut [u8]) -> usize {
        let held = self.held();
        match scratch.get_mut(tls::HEADER_LEN..tls::HEADER_LEN + held.len()) {
            Some(front) => {
                front.copy_from_slice(held);
                held.len()
            }
            None => 0,
        }
    }

    /// Records that `records` records are sent and that `held` is held back. The wait starts with
    /// the first held byte.
    pub(super) fn record_sent(
        &mut self,
        records: usize,
        held: &[u8],
        now_ms: u64,
        random: impl FnOnce() -> u32,
    ) {
        if records > 0 {
            self.shaper.record_sent(records, now_ms, random);
        }
        if records > 0 || self.len == 0 {
            self.until_ms = now_ms + WAIT_MS;
        }
        self.len = 0;
        for (slot, byte) in self.held.iter_mut().zip(held) {
            *slot = *byte;
            self.len += 1;
        }
    }
}

/// Longest time that held bytes wait for more, in milliseconds.
const WAIT_MS: u64 = 2;
