//! What a shaped download keeps between two turns: where its burst stands, and for a moment the
//! last few bytes, since no TLS 1.3 record is as short as they would be (spec: protocol 15.6).

use crate::mimicry::shaper::Shaper;
use crate::proto::tls;

/// A protected record holds at least a type byte and a 16-byte tag. The next longer one is the
/// shortest that carries data.
pub const PAYLOAD_MIN: usize = 18;

/// The shape of one download.
pub struct Shape {
    shaper: Shaper,
    held: [u8; PAYLOAD_MIN - 1],
    len: u8,
    /// How long the held bytes wait for company.
    until_ms: u64,
}

impl Shape {
    /// A download that has not begun.
    pub fn new(shaper: Shaper) -> Self {
        Self { shaper, held: [0; PAYLOAD_MIN - 1], len: 0, until_ms: 0 }
    }

    /// How long records are and when they leave.
    pub fn shaper(&self) -> &Shaper {
        &self.shaper
    }

    /// Bytes that were read and have not left, at most 17, as they came.
    pub fn held(&self) -> &[u8] {
        self.held.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Bytes are held, and nothing has come to join them in time.
    pub fn is_late(&self, now_ms: u64) -> bool {
        self.len > 0 && now_ms >= self.until_ms
    }

    /// When to look again although nothing comes: later than `now_ms`. `more` = there is
    /// something to read.
    pub fn due(&self, now_ms: u64, more: bool) -> Option<u64> {
        let company = (self.len > 0 && self.until_ms > now_ms).then_some(self.until_ms);
        let next = self.shaper.wait_until(now_ms).filter(|_| more || self.len > 0);
        company.into_iter().chain(next).min()
    }

    /// Puts the held bytes where the first payload begins; returns how many they are.
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

    /// So many records leave; `company` is held from now on. The wait begins with the first byte
    /// that waits.
    pub(super) fn record_sent(
        &mut self,
        records: usize,
        company: &[u8],
        now_ms: u64,
        chance: impl FnOnce() -> u32,
    ) {
        if records > 0 {
            self.shaper.record_sent(records, now_ms, chance);
        }
        if records > 0 || self.len == 0 {
            self.until_ms = now_ms + WAIT_MS;
        }
        self.len = 0;
        for (slot, byte) in self.held.iter_mut().zip(company) {
            *slot = *byte;
            self.len += 1;
        }
    }
}

/// How long a few bytes wait for company.
const WAIT_MS: u64 = 2;
