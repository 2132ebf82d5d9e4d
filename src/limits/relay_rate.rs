//! The limit of `[throttle] rate`: how many bytes the next step may read. Large transfers wait
//! while the bucket is nearly empty; what is left then is reserved for sparse flows. Time is a
//! parameter, in milliseconds.

use crate::limits::token_bucket::TokenBucket;

/// The rate of the whole relay, both directions together.
pub struct RelayRate {
    bucket: TokenBucket,
    /// Bytes per step of a flow that takes its turn.
    step: u32,
    /// Bytes that only sparse flows may use.
    reserve: u32,
}

impl RelayRate {
    /// A rate in bytes per second.
    pub fn new(bytes_per_s: u32, now_ms: u64) -> Self {
        let step = (bytes_per_s / STEPS_PER_S).clamp(STEP_MIN, STEP_MAX);
        let reserve = (bytes_per_s / RESERVES_PER_S).max(RESERVE_MIN);
        let burst = reserve + (bytes_per_s / BURSTS_PER_S).max(step);
        Self { bucket: TokenBucket::new(bytes_per_s, burst, now_ms), step, reserve }
    }

    /// The rate in bits per second.
    pub fn bits_per_s(&self) -> u64 {
        self.bucket.per_s() * 8
    }

    /// How many bytes the next step may read; `None` = it has to wait.
    pub fn allowance(&self, is_sparse: bool, now_ms: u64) -> Option<u32> {
        let step = self.step_of(is_sparse);
        (self.bucket.available(now_ms) >= self.needed(is_sparse)).then_some(step)
    }

    /// When the next step may run, in milliseconds.
    pub fn due(&self, is_sparse: bool, now_ms: u64) -> u64 {
        self.bucket.due(self.needed(is_sparse), now_ms)
    }

    /// Takes the bytes that a step has read.
    pub fn take(&mut self, bytes: u64, now_ms: u64) {
        self.bucket.take(bytes, now_ms);
    }

    fn step_of(&self, is_sparse: bool) -> u32 {
        if is_sparse { self.step.min(SPARSE_STEP) } else { self.step }
    }

    fn needed(&self, is_sparse: bool) -> u64 {
        let reserve = if is_sparse { 0 } else { self.reserve };
        u64::from(self.step_of(is_sparse) + reserve)
    }
}

/// A step takes 4 ms of the rate.
const STEPS_PER_S: u32 = 250;
const STEP_MIN: u32 = 1 << 10;
const STEP_MAX: u32 = 64 << 10;
/// Bytes per step of a sparse flow while only those may run.
const SPARSE_STEP: u32 = 2 << 10;
/// The reserve for sparse flows is 10 ms of the rate.
const RESERVES_PER_S: u32 = 100;
const RESERVE_MIN: u32 = 8 << 10;
/// After a pause, 20 ms of the rate may pass at once: the loop sleeps for whole milliseconds.
const BURSTS_PER_S: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as much as allowed for `ms` milliseconds.
    fn read(rate: &mut RelayRate, is_sparse: bool, from: u64, ms: u64) -> u64 {
        let mut total = 0;
        for now in from..from + ms {
            while let Some(bytes) = rate.allowance(is_sparse, now) {
                rate.take(bytes.into(), now);
                total += u64::from(bytes);
            }
            assert!(rate.due(is_sparse, now) > now, "the loop would spin");
        }
        total
    }

    #[test]
    fn large_transfers_get_the_rate_and_leave_the_reserve_to_sparse_flows() {
        for per_s in [32_000, 1_000_000, 125_000_000] {
            let mut rate = RelayRate::new(per_s, 0);
            let total = read(&mut rate, false, 0, 2_000);
            let wanted = u64::from(per_s) * 2;
            assert!((wanted * 97 / 100..wanted * 103 / 100 + 2_000).contains(&total), "{total}");
            assert_eq!(rate.allowance(false, 1_999), None);
            assert!(read(&mut rate, true, 1_999, 1) > 4_000, "sparse flows still pass");
        }
    }

    #[test]
    fn a_debt_delays_the_next_step() {
        let mut rate = RelayRate::new(1_000_000, 0);
        assert_eq!((rate.allowance(false, 0), rate.bits_per_s()), (Some(4_000), 8_000_000));
        rate.take(130_000, 0);
        assert_eq!((rate.allowance(true, 101), rate.due(true, 0)), (None, 102));
        assert_eq!((rate.allowance(true, 102), rate.due(false, 0)), (Some(2_048), 114));
    }
}
