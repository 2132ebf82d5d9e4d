//! The traffic shape of a download: the sizes of the records of a burst, and the delays between
//! them (PROTOCOL 12.1, 12.2). Decides only when and how much to read; time and randomness
//! are parameters.

use crate::proto::tls;

/// Delays between records: a Weibull distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    k: f64,
    lambda_ms: f64,
}

impl Pace {
    /// `k` is the shape, `lambda_ms` the scale in milliseconds; `None` unless both are positive and
    /// finite.
    pub fn new(k: f64, lambda_ms: f64) -> Option<Self> {
        let is_valid = |number: f64| number.is_finite() && number > 0.0;
        (is_valid(k) && is_valid(lambda_ms)).then_some(Self { k, lambda_ms })
    }

    /// The shape of the distribution.
    pub fn k(&self) -> f64 {
        self.k
    }

    /// The scale of the distribution in milliseconds.
    pub fn lambda_ms(&self) -> f64 {
        self.lambda_ms
    }

    /// Inverse transform sampling: maps a uniform `u` in (0, 1] to `lambda * (-ln u)^(1/k)`, in
    /// microseconds, at most [`DELAY_MAX_US`].
    pub fn delay_us(&self, u: f64) -> u32 {
        // exp and ln instead of powf: pow(3) would add its tables to the binary.
        let power = ((-u.ln()).ln() / self.k).exp();
        let delay = self.lambda_ms * 1_000.0 * power;
        // The conversion would turn a NaN into 0, but no u in (0, 1] gives one.
        delay.round().min(f64::from(DELAY_MAX_US)) as u32
    }
}

impl Default for Pace {
    /// The values of mtg-multi, fitted to a large web site.
    fn default() -> Self {
        Self { k: 0.378_463_738_957_853_35, lambda_ms: 1.731_770_860_154_85 }
    }
}

/// What may be read now for the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Nothing before this time, in milliseconds since start.
    Later(u64),
    /// One record with at most this many payload bytes.
    One(usize),
    /// Any number of full records.
    Any,
}

/// State of the traffic shape of one download.
#[derive(Debug, Clone)]
pub struct Shaper {
    pace: Pace,
    /// When the next record is due, in microseconds since start: finer than the clock, so that the
    /// mean delay is right although each delay is rounded to milliseconds.
    next_us: u64,
    /// When the last record was sent.
    last_ms: u64,
    /// What the delays of this burst may still add up to, in microseconds.
    left_us: u32,
    /// Records sent in this burst, at most [`BURST`].
    sent: u8,
    always: bool,
    drs: bool,
}

impl Shaper {
    /// A download that has not started. `always`: pace every record, not only the first ones of a
    /// burst. `drs` (dynamic record sizing): start a burst with small records.
    pub fn new(pace: Pace, always: bool, drs: bool) -> Self {
        Self { pace, next_us: 0, last_ms: 0, left_us: 0, sent: 0, always, drs }
    }

    /// When the next record may be read, in milliseconds since start; `None` = now.
    pub fn wait_until(&self, now_ms: u64) -> Option<u64> {
        // Rounds to the nearest millisecond.
        let due_ms = self.next_us.saturating_sub(HALF_MS_US).div_ceil(MS_US);
        (self.is_paced(now_ms) && now_ms < due_ms).then_some(due_ms)
    }

    /// What may be read at `now_ms`. `random` returns a uniform random number.
    pub fn grant(&self, now_ms: u64, random: impl FnOnce() -> u32) -> Grant {
        match self.wait_until(now_ms) {
            Some(due_ms) => Grant::Later(due_ms),
            None if self.is_paced(now_ms) => Grant::One(self.size(now_ms, random)),
            None => Grant::Any,
        }
    }

    /// Records that `records` records were sent at `now_ms`, and draws the next delay. `random`
    /// returns a uniform random number.
    pub fn record_sent(&mut self, records: usize, now_ms: u64, random: impl FnOnce() -> u32) {
        if self.is_paced(now_ms) {
            // The next delay counts from the time when this record was due, so that a late event
            // loop does not slow the download down. After a silence nothing is caught up.
            let from = self.next_us.max((now_ms * MS_US).saturating_sub(CATCH_UP_MAX_US));
            let u = (f64::from(random()) + 1.0) / TWO_TO_32;
            let mut delay_us = self.pace.delay_us(u);
            if !self.always {
                if self.burst_records(now_ms) == 0 {
                    let is_first = self.last_ms == 0;
                    self.left_us = if is_first { FIRST_DELAY_US } else { NEXT_DELAY_US };
                }
                delay_us = delay_us.min(self.left_us);
                self.left_us -= delay_us;
            }
            self.next_us = from + u64::from(delay_us);
        }
        let records = u8::try_from(records).unwrap_or(u8::MAX);
        self.sent = self.burst_records(now_ms).saturating_add(records).min(BURST);
        self.last_ms = now_ms;
    }

    fn is_paced(&self, now_ms: u64) -> bool {
        self.always || self.burst_records(now_ms) < BURST
    }

    /// Records sent in the burst that a record at `now_ms` belongs to.
    fn burst_records(&self, now_ms: u64) -> u8 {
        if now_ms.saturating_sub(self.last_ms) > PAUSE_MS { 0 } else { self.sent }
    }

    fn size(&self, now_ms: u64, random: impl FnOnce() -> u32) -> usize {
        let most = match self.burst_records(now_ms) {
            0..SMALL if self.drs => SMALL_BYTES,
            SMALL..BURST if self.drs => MEDIUM_BYTES,
            _ => return tls::PAYLOAD_MAX,
        };
        most - (random() % SPREAD) as usize
    }
}

/// Longest delay between two records in microseconds: a pace fitted to a stalled site must not
/// stall downloads.
pub const DELAY_MAX_US: u32 = 1_000_000;
/// A silence longer than this ends a burst, in milliseconds.
pub const PAUSE_MS: u64 = 1_000;
/// Number of records at the start of a burst whose sizes and delays are shaped.
const BURST: u8 = 60;
/// What the delays of the first burst may add up to, in microseconds: the records of the first
/// round trips have the pace, which costs nothing while the congestion window opens (DECISIONS
/// D210).
const FIRST_DELAY_US: u32 = 120_000;
/// The same of a later burst, whose window is open.
const NEXT_DELAY_US: u32 = 40_000;
/// Number of small records at the start of a burst.
const SMALL: u8 = 40;
const SMALL_BYTES: usize = 1_450;
const MEDIUM_BYTES: usize = 4_096;
/// Sizes are reduced by 0 to 99 random bytes.
const SPREAD: u32 = 100;
const MS_US: u64 = 1_000;
const HALF_MS_US: u64 = 500;
/// Longest lateness that the next records catch up with, in microseconds.
const CATCH_UP_MAX_US: u64 = 2_000;
const TWO_TO_32: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// A reproducible sequence of random numbers.
    fn random_numbers() -> impl Iterator<Item = u32> {
        let mut rng = fastrand::Rng::with_seed(12);
        std::iter::repeat_with(move || rng.u32(..))
    }

    /// Runs a download with endless data for `ms` milliseconds, or until the shape ends: the time
    /// and the size of each record.
    fn run(shaper: &mut Shaper, from_ms: u64, ms: u64) -> Vec<(u64, usize)> {
        let mut numbers = random_numbers();
        let mut records = Vec::new();
        for now in from_ms..from_ms + ms {
            loop {
                match shaper.grant(now, || numbers.next().unwrap()) {
                    Grant::Any => return records,
                    Grant::Later(at) => {
                        assert!(at > now && at <= now + 1_000, "{at} at {now}");
                        break;
                    }
                    Grant::One(size) => records.push((now, size)),
                }
                shaper.record_sent(1, now, || numbers.next().unwrap());
            }
        }
        records
    }

    #[test]
    fn a_shaper_is_small() {
        assert!(size_of::<Shaper>() <= 40);
    }

    #[test]
    fn no_delay_is_longer_than_a_second() {
        for (k, lambda) in [(0.01, 1.0), (0.3, 5_000.0), (10.0, 1e300)] {
            let pace = Pace::new(k, lambda).unwrap();
            for u in [1.0, 0.5, 1e-6, 1.0 / TWO_TO_32] {
                assert!(pace.delay_us(u) <= DELAY_MAX_US, "{k} {lambda} {u}");
            }
        }
        assert_eq!(Pace::new(0.3, 5_000.0).unwrap().delay_us(1.0), 0);
    }

    #[test]
    fn a_pace_is_positive_and_finite() {
        for (k, lambda) in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (f64::NAN, 1.0)] {
            assert_eq!(Pace::new(k, lambda), None);
        }
        assert_eq!(Pace::new(1.0, f64::INFINITY), None);
    }

    #[test]
    fn the_mean_holds_although_the_clock_has_only_milliseconds() {
        let delays: f64 = random_numbers()
            .take(20_000)
            .map(|c| f64::from(Pace::default().delay_us((f64::from(c) + 1.0) / TWO_TO_32)))
            .sum();
        let mean_ms = delays / 20_000.0 / 1_000.0;
        assert!((6.0..7.5).contains(&mean_ms), "{mean_ms}");
        let records = run(&mut Shaper::new(Pace::default(), true, false), 0, 130_000);
        let seen_ms = 130_000.0 / records.len() as f64;
        assert!((seen_ms / mean_ms - 1.0).abs() < 0.1, "{seen_ms} instead of {mean_ms}");
    }

    #[test]
    fn a_late_loop_catches_up_a_little_and_an_idle_connection_does_not() {
        // Every delay is 1 ms.
        let pace = Pace::new(1e9, 1.0).unwrap();
        let mut shaper = Shaper::new(pace, true, false);
        let after = |shaper: &mut Shaper, ms| run(shaper, ms, 1).len();
        assert_eq!(after(&mut shaper, 10_000), 3, "at once, and two that are late");
        assert_eq!(after(&mut shaper, 10_001), 1);
        assert_eq!(after(&mut shaper, 10_003), 2);
        assert_eq!(after(&mut shaper, 60_000), 3);
    }

    #[test]
    fn a_burst_is_unshaped_after_sixty_records_and_shaped_again_after_a_pause() {
        let mut shaper = Shaper::new(Pace::default(), false, false);
        let records = run(&mut shaper, 5_000, 20_000);
        assert_eq!(records.len(), 60);
        let last = records[59].0;
        assert_eq!(shaper.grant(last, || 0), Grant::Any);
        shaper.record_sent(7, last + 900, || 0);
        assert_eq!(shaper.grant(last + 1_900, || 0), Grant::Any, "the pause is not over");
        assert_eq!(shaper.grant(last + 1_901, || 0), Grant::One(16_401));
    }

    #[test]
    fn the_delays_of_a_burst_are_bounded_in_sum_and_those_of_always_are_not() {
        for start in [5_000, 40_000] {
            // Every delay is 7 ms.
            let pace = Pace::new(1e9, 7.0).unwrap();
            let mut shaper = Shaper::new(pace, false, false);
            let records = run(&mut shaper, start, 20_000);
            let times: Vec<u64> = records.iter().map(|(at, _)| at - start).collect();
            assert_eq!((times.len(), times[59]), (60, 118), "{times:?}");
            assert_eq!(times[..3], [0, 5, 12]);
            let records = run(&mut Shaper::new(pace, true, false), start, 1_000);
            assert!(records[59].0 - start > 400);
        }
    }

    #[test]
    fn the_delays_of_a_later_burst_add_up_to_less() {
        let mut shaper = Shaper::new(Pace::new(1e9, 7.0).unwrap(), false, false);
        let records = run(&mut shaper, 5_000, 1_000);
        let later = records.iter().map(|(at, _)| *at).max().unwrap() + PAUSE_MS + 1;
        let records = run(&mut shaper, later, 500);
        assert_eq!(records[59].0 - later, u64::from(NEXT_DELAY_US / 1_000) - 2);
    }

    #[test]
    fn always_shapes_every_record() {
        let mut shaper = Shaper::new(Pace::default(), true, false);
        let records = run(&mut shaper, 0, 5_000);
        assert!(records.len() > 300);
        assert!(!matches!(shaper.grant(5_000, || 0), Grant::Any));
    }

    #[test]
    fn with_drs_a_burst_starts_with_small_records() {
        let mut shaper = Shaper::new(Pace::default(), true, true);
        for start in [5_000, 40_000] {
            let records = run(&mut shaper, start, 3_000);
            assert!(records.len() > 100, "{} records", records.len());
            for (at, (_, size)) in records.iter().enumerate() {
                let fits = match at {
                    0..40 => (1_351..=1_450).contains(size),
                    40..60 => (3_997..=4_096).contains(size),
                    _ => *size == 16_401,
                };
                assert!(fits, "record {at} of {size} bytes");
            }
        }
    }
}
