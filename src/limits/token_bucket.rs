//! Token bucket: a rate with a burst. Tokens are bytes, dials or whatever the owner counts. Time is
//! a parameter, in milliseconds.

/// Fills at a rate up to its burst. A taker may leave it in debt; then it is empty until the rate
/// has paid the debt.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    /// Tokens per second, which are thousandths of a token per millisecond.
    per_s: u64,
    /// Most tokens, in thousandths.
    burst: i64,
    /// Tokens in thousandths at `at_ms`; negative while in debt.
    level: i64,
    at_ms: u64,
}

impl TokenBucket {
    /// A full bucket. Both numbers are at least 1.
    pub fn new(per_s: u32, burst: u32, now_ms: u64) -> Self {
        let burst = thousandths(burst.max(1).into());
        Self { per_s: per_s.max(1).into(), burst, level: burst, at_ms: now_ms }
    }

    /// The rate, in tokens per second.
    pub fn per_s(&self) -> u64 {
        self.per_s
    }

    /// Changes the rate and the burst. Tokens above the new burst are lost; a debt stays.
    pub fn set(&mut self, per_s: u32, burst: u32, now_ms: u64) {
        self.level = self.level_at(now_ms);
        let full = Self::new(per_s, burst, now_ms);
        *self = Self { level: self.level.min(full.burst), ..full };
    }

    /// The whole tokens of this moment; 0 while in debt.
    pub fn available(&self, now_ms: u64) -> u64 {
        (self.level_at(now_ms).max(0) / 1_000).unsigned_abs()
    }

    /// Takes `n` tokens, also those that are not there.
    pub fn take(&mut self, n: u64, now_ms: u64) {
        self.level = self.level_at(now_ms).saturating_sub(thousandths(n));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Returns `n` tokens that were taken.
    pub fn give_back(&mut self, n: u64, now_ms: u64) {
        self.level = self.level_at(now_ms).saturating_add(thousandths(n)).min(self.burst);
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Whether less than three quarters of the burst are left.
    pub fn is_low(&self, now_ms: u64) -> bool {
        self.level_at(now_ms) < self.burst / 4 * 3
    }

    /// Takes `n` tokens if all of them are there. Returns whether it did.
    pub fn try_take(&mut self, n: u64, now_ms: u64) -> bool {
        let has_room = self.available(now_ms) >= n;
        if has_room {
            self.take(n, now_ms);
        }
        has_room
    }

    /// The first millisecond at which `n` tokens are there, not before `now_ms`. More than the
    /// burst counts as the burst.
    pub fn due(&self, n: u64, now_ms: u64) -> u64 {
        let missing = thousandths(n).min(self.burst).saturating_sub(self.level_at(now_ms));
        now_ms.saturating_add(missing.max(0).unsigned_abs().div_ceil(self.per_s))
    }

    fn level_at(&self, now_ms: u64) -> i64 {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_s);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.level.saturating_add(gained).min(self.burst)
    }
}

fn thousandths(tokens: u64) -> i64 {
    i64::try_from(tokens.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3, 5);
        assert!((0..3).all(|_| bucket.try_take(1, 5)) && !bucket.try_take(1, 5));
        assert_eq!(bucket.due(1, 5), 105);
        assert!(!bucket.try_take(1, 104) && bucket.try_take(1, 105));
        assert_eq!(bucket.available(60_000), 3);
    }

    #[test]
    fn a_debt_is_paid_before_there_are_tokens_again() {
        let mut bucket = TokenBucket::new(1_000, 10, 0);
        bucket.take(30, 0);
        assert_eq!((bucket.available(20), bucket.due(1, 0)), (0, 21));
        assert_eq!((bucket.available(21), bucket.due(1, 30)), (1, 30));
        assert_eq!(bucket.due(999, 0), 30, "more than the burst is never there");
    }

    #[test]
    fn tokens_that_are_given_back_were_never_taken() {
        let mut bucket = TokenBucket::new(10, 4, 0);
        bucket.take(3, 0);
        assert!(bucket.is_low(199) && !bucket.is_low(200));
        bucket.give_back(2, 0);
        assert_eq!((bucket.available(0), bucket.is_low(0)), (3, false));
        bucket.give_back(2, 0);
        assert_eq!(bucket.available(0), 4, "never more than the burst");
    }

    #[test]
    fn a_new_rate_keeps_the_debt_and_caps_the_rest() {
        let mut bucket = TokenBucket::new(1_000, 100, 0);
        bucket.set(10, 5, 0);
        assert_eq!((bucket.available(0), bucket.per_s()), (5, 10));
        bucket.take(6, 0);
        bucket.set(1_000, 100, 0);
        assert_eq!((bucket.available(1), bucket.available(2)), (0, 1));
    }

    proptest! {
        #[test]
        fn no_interval_gives_more_than_its_burst_and_its_rate(
            (per_s, burst) in (1..5_000u32, 1..5_000u32),
            wishes in proptest::collection::vec((0..300u64, 0..200u64), 1..200),
        ) {
            let mut bucket = TokenBucket::new(per_s, burst, 0);
            let (mut now, mut taken) = (0, 0);
            for (pause, n) in wishes {
                now += pause;
                taken += if bucket.try_take(n, now) { n } else { 0 };
                prop_assert!(taken * 1_000 <= u64::from(burst) * 1_000 + now * u64::from(per_s));
                let due = bucket.due(n, now);
                prop_assert!(n > u64::from(burst) || bucket.available(due) >= n);
                prop_assert!(due == now || bucket.available(due - 1) < n);
            }
        }
    }
}
