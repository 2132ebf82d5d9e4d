//! The shape of a download: how long the records of a burst are, and how long one waits for the
//! next (spec: protocol 12.1, 12.2). Time and chance are arguments; bytes are not its business.

use crate::proto::tls;

/// How long to wait between two records: a Weibull distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    k: f64,
    lambda_ms: f64,
}

impl Pace {
    /// `k` is the shape, `lambda_ms` the scale; `None` unless both are positive and finite.
    pub fn new(k: f64, lambda_ms: f64) -> Option<Self> {
        let good = |number: f64| number.is_finite() && number > 0.0;
        (good(k) && good(lambda_ms)).then_some(Self { k, lambda_ms })
    }

    /// The shape of the distribution.
    pub fn k(&self) -> f64 {
        self.k
    }

    /// Its scale in milliseconds.
    pub fn lambda_ms(&self) -> f64 {
        self.lambda_ms
    }

    /// The delay in microseconds that `u` in (0, 1] stands for: `lambda * (-ln u)^(1/k)`, at most
    /// [`DELAY_MAX_US`].
    pub fn delay_us(&self, u: f64) -> u32 {
        // A power in two steps, since pow(3) brings tables of its own.
        let power = ((-u.ln()).ln() / self.k).exp();
        let delay = self.lambda_ms * 1_000.0 * power;
        // A NaN, which no u in (0, 1] gives, becomes 0 in the conversion.
        delay.round().min(f64::from(DELAY_MAX_US)) as u32
    }
}

impl Default for Pace {
    /// As the reference has it, fitted to a large web site.
    fn default() -> Self {
        Self { k: 0.378_463_738_957_853_35, lambda_ms: 1.731_770_860_154_85 }
    }
}

/// What may be read for the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Nothing before this millisecond.
    Later(u64),
    /// One record of at most so many payload bytes.
    One(usize),
    /// As many full records as one likes.
    Any,
}

/// The shape of one download.
#[derive(Debug, Clone)]
pub struct Shaper {
    pace: Pace,
    /// When the next record is due, in microseconds; what the clock of milliseconds cannot
    /// express is kept here, so that the mean holds.
    next_us: u64,
    /// When the last record left.
    last_ms: u64,
    /// Records of this burst, as far as they matter.
    sent: u8,
    always: bool,
    drs: bool,
}

impl Shaper {
    /// A download that has not begun. `always` = pace every record, not only the first ones of a
    /// burst; `drs` = begin a burst with small records.
    pub fn new(pace: Pace, always: bool, drs: bool) -> Self {
        Self { pace, next_us: 0, last_ms: 0, sent: 0, always, drs }
    }

    /// When the next record may be read, if not at `now_ms`.
    pub fn wait_until(&self, now_ms: u64) -> Option<u64> {
        // Half a millisecond early or late is all that the clock can do.
        let due_ms = self.next_us.saturating_sub(HALF_MS_US).div_ceil(MS_US);
        (self.is_paced(now_ms) && now_ms < due_ms).then_some(due_ms)
    }

    /// What may be read at `now_ms`; `chance` draws any random number. Asking changes nothing.
    pub fn grant(&self, now_ms: u64, chance: impl FnOnce() -> u32) -> Grant {
        match self.wait_until(now_ms) {
            Some(due_ms) => Grant::Later(due_ms),
            None if self.is_paced(now_ms) => Grant::One(self.size(now_ms, chance)),
            None => Grant::Any,
        }
    }

    /// `records` leave at `now_ms`; `chance` draws any random number.
    pub fn record_sent(&mut self, records: usize, now_ms: u64, chance: impl FnOnce() -> u32) {
        if self.is_paced(now_ms) {
            // Late by the loop's doing is made up for; after a silence there is nothing to make
            // up for.
            let from = self.next_us.max((now_ms * MS_US).saturating_sub(DEBT_MAX_US));
            let u = (f64::from(chance()) + 1.0) / TWO_TO_32;
            self.next_us = from + u64::from(self.pace.delay_us(u));
        }
        let records = u8::try_from(records).unwrap_or(u8::MAX);
        self.sent = self.before(now_ms).saturating_add(records).min(BURST);
        self.last_ms = now_ms;
    }

    fn is_paced(&self, now_ms: u64) -> bool {
        self.always || self.before(now_ms) < BURST
    }

    /// Records of the burst that a record at `now_ms` belongs to, before it.
    fn before(&self, now_ms: u64) -> u8 {
        if now_ms.saturating_sub(self.last_ms) > PAUSE_MS { 0 } else { self.sent }
    }

    fn size(&self, now_ms: u64, chance: impl FnOnce() -> u32) -> usize {
        let most = match self.before(now_ms) {
            0..SMALL if self.drs => SMALL_BYTES,
            SMALL..BURST if self.drs => MEDIUM_BYTES,
            _ => return tls::PAYLOAD_MAX,
        };
        most - (chance() % SPREAD) as usize
    }
}

/// Longest delay between two records in microseconds: a pace learned from a site that stands
/// still must not stand still too.
pub const DELAY_MAX_US: u32 = 1_000_000;
/// A silence longer than this ends a burst, in milliseconds.
pub const PAUSE_MS: u64 = 1_000;
/// Records of a burst whose size and time are shaped.
pub const BURST: u8 = 60;
/// Records of a burst that are small ones.
const SMALL: u8 = 40;
const SMALL_BYTES: usize = 1_450;
const MEDIUM_BYTES: usize = 4_096;
/// Sizes are lowered by 0 to 99 bytes.
const SPREAD: u32 = 100;
const MS_US: u64 = 1_000;
const HALF_MS_US: u64 = 500;
/// Most lateness that the next records make up for.
const DEBT_MAX_US: u64 = 2_000;
const TWO_TO_32: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Random numbers that repeat.
    fn chances() -> impl Iterator<Item = u32> {
        let mut rng = fastrand::Rng::with_seed(12);
        std::iter::repeat_with(move || rng.u32(..))
    }

    /// Runs a download without end of data for `ms` milliseconds, or until it flows freely; the
    /// time and the size of each record.
    fn run(shaper: &mut Shaper, from_ms: u64, ms: u64) -> Vec<(u64, usize)> {
        let mut chances = chances();
        let mut records = Vec::new();
        for now in from_ms..from_ms + ms {
            loop {
                match shaper.grant(now, || chances.next().unwrap()) {
                    Grant::Any => return records,
                    Grant::Later(at) => {
                        assert!(at > now && at <= now + 1_000, "{at} at {now}");
                        break;
                    }
                    Grant::One(size) => records.push((now, size)),
                }
                shaper.record_sent(1, now, || chances.next().unwrap());
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
        let delays: f64 = chances()
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
    fn a_late_loop_makes_up_for_a_little_and_an_idle_connection_for_nothing() {
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
    fn a_burst_flows_freely_after_sixty_records_and_again_after_a_pause() {
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
    fn always_never_flows_freely() {
        let mut shaper = Shaper::new(Pace::default(), true, false);
        let records = run(&mut shaper, 0, 5_000);
        assert!(records.len() > 300);
        assert!(!matches!(shaper.grant(5_000, || 0), Grant::Any));
    }

    #[test]
    fn a_burst_begins_with_small_records_when_that_is_wanted() {
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
