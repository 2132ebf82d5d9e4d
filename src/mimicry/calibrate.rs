//! Fits a Weibull distribution to the times between a web site's TLS records by maximum likelihood
//! (PROTOCOL 12.4). Each call does a bounded amount of work, so that a slow processor is not
//! blocked.

use crate::mimicry::shaper::Pace;

/// The latest durations and the fit in progress.
#[derive(Debug, Default)]
pub struct Fit {
    /// Natural logarithms of the durations in milliseconds. A ring buffer once full.
    logs: Vec<f64>,
    /// Index of the next entry to write.
    next: usize,
    search: Option<NewtonSearch>,
}

/// Newton's method for the shape `k`, bracketed by two bounds. Each iteration needs one pass over
/// all durations, which is split over several calls.
#[derive(Debug)]
struct NewtonSearch {
    /// Logarithm of the longest duration: powers are taken relative to it, so that none overflows.
    longest: f64,
    /// Mean of the logarithms.
    mean: f64,
    low: f64,
    high: f64,
    k: f64,
    /// Finished passes.
    passes: u32,
    /// Durations that the current pass has summed up.
    summed: usize,
    /// Sums of w, w ln x and w (ln x)^2 in the current pass, with w = (x / longest)^k.
    sums: [f64; 3],
}

impl Fit {
    /// Adds the durations of one page visit, in microseconds; replaces the oldest ones when full.
    /// Starts a fit, or restarts it, if there are enough durations. A duration of zero counts as
    /// one microsecond, since its logarithm would be infinite.
    pub fn learn(&mut self, durations_us: impl IntoIterator<Item = u64>) {
        let mut any = false;
        for us in durations_us {
            let log = (us.clamp(1, DURATION_MAX_US) as f64 / 1_000.0).ln();
            match self.logs.get_mut(self.next) {
                Some(oldest) => *oldest = log,
                None => self.logs.push(log),
            }
            self.next = (self.next + 1) % KEPT;
            any = true;
        }
        if any && self.logs.len() >= FIT_MIN {
            self.search = Some(NewtonSearch::new(&self.logs));
        }
    }

    /// Number of durations kept, at most 4,096.
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// Whether there are no durations yet.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Whether a fit is in progress, so that [`Fit::step`] should be called.
    pub fn is_running(&self) -> bool {
        self.search.is_some()
    }

    /// Processes at most 256 durations. Returns the pace when the fit is finished; `None` while it
    /// is in progress, and afterwards until durations are added.
    pub fn step(&mut self) -> Option<Pace> {
        let search = self.search.as_mut()?;
        let rest = self.logs.get(search.summed..).unwrap_or_default();
        search.add(rest.get(..SLICE).unwrap_or(rest));
        if search.summed < self.logs.len() {
            return None;
        }
        let (k, lambda_ms) = search.finish_pass()?;
        self.search = None;
        Pace::new(k, lambda_ms)
    }
}

impl NewtonSearch {
    fn new(logs: &[f64]) -> Self {
        let longest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let (low, high) = (K_MIN, K_MAX);
        Self { longest, mean, low, high, k: 1.0, passes: 0, summed: 0, sums: [0.0; 3] }
    }

    fn add(&mut self, logs: &[f64]) {
        for log in logs {
            let weight = (self.k * (log - self.longest)).exp();
            let weighted = weight * log;
            self.sums =
                [self.sums[0] + weight, self.sums[1] + weighted, self.sums[2] + weighted * log];
        }
        self.summed += logs.len();
    }

    /// Ends a pass over all durations. Returns `k` and `lambda` in milliseconds if `k` is precise
    /// enough; otherwise sets a better `k` and starts the next pass.
    fn finish_pass(&mut self) -> Option<(f64, f64)> {
        let [weight, weighted, squares] = self.sums;
        let centre = weighted / weight;
        // The derivative of the log-likelihood per duration, which decreases in k, and its
        // derivative.
        let slope = 1.0 / self.k + self.mean - centre;
        let curvature = -1.0 / (self.k * self.k) - (squares / weight - centre * centre).max(0.0);
        if slope > 0.0 {
            self.low = self.k;
        } else {
            self.high = self.k;
        }
        let newton = self.k - slope / curvature;
        // Bisection where Newton's step leaves the bracket.
        let is_inside = newton > self.low && newton < self.high;
        let better = if is_inside { newton } else { f64::midpoint(self.low, self.high) };
        self.passes += 1;
        let change = (better - self.k).abs();
        if change <= PRECISION * self.k || self.passes == PASSES_MAX {
            let mean_power = weight / self.summed as f64;
            let lambda = (self.longest + mean_power.ln() / self.k).exp();
            return Some((self.k, lambda));
        }
        (self.k, self.summed, self.sums) = (better, 0, [0.0; 3]);
        None
    }
}

/// Durations kept: 32 KB.
const KEPT: usize = 4_096;
/// Fewest durations for a fit.
const FIT_MIN: usize = 100;
/// Durations processed per step.
const SLICE: usize = 256;
/// Longer durations are cut to one hour.
const DURATION_MAX_US: u64 = 3_600_000_000;
const K_MIN: f64 = 0.01;
const K_MAX: f64 = 10.0;
const PRECISION: f64 = 1e-9;
/// Most passes. Newton's method needs about eight; bisection, its fallback, at most 40.
const PASSES_MAX: u32 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a fit to its end: the pace and the number of steps.
    fn fit(durations: impl IntoIterator<Item = u64>) -> Option<(Pace, u32)> {
        let mut fit = Fit::default();
        fit.learn(durations);
        let mut steps = 0;
        while fit.is_running() {
            steps += 1;
            if let Some(pace) = fit.step() {
                assert!(!fit.is_running() && fit.step().is_none());
                return Some((pace, steps));
            }
        }
        None
    }

    /// Random durations of this pace.
    fn drawn(pace: Pace, count: usize) -> Vec<u64> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..count).map(|_| u64::from(pace.delay_us(1.0 - rng.f64()))).collect()
    }

    #[test]
    fn a_fit_finds_the_pace_that_made_the_durations() {
        for (k, lambda) in [(0.378, 1.73), (0.8, 20.0), (1.0, 1.0), (2.5, 30.0)] {
            let (pace, steps) = fit(drawn(Pace::new(k, lambda).unwrap(), 4_096)).unwrap();
            assert!((pace.k() / k - 1.0).abs() < 0.05, "{pace:?} for {k}");
            assert!((pace.lambda_ms() / lambda - 1.0).abs() < 0.1, "{pace:?} for {lambda}");
            assert!(steps < 16 * 20, "{steps} steps");
        }
    }

    #[test]
    fn fewer_than_a_hundred_durations_give_no_fit() {
        assert_eq!(fit(drawn(Pace::default(), 99)), None);
        assert!(fit(drawn(Pace::default(), 100)).is_some());
    }

    #[test]
    fn zeros_do_not_make_delays_astronomical() {
        let mut durations = drawn(Pace::new(0.8, 20.0).unwrap(), 1_000);
        durations[10] = 0;
        let (pace, _) = fit(durations).unwrap();
        assert!((0.5..1.0).contains(&pace.k()), "{pace:?}");
        let (pace, _) = fit([0; 200]).unwrap();
        assert!(pace.delay_us(1e-9) <= 2, "{pace:?}");
    }

    #[test]
    fn every_fit_ends_with_a_pace() {
        let mut rng = fastrand::Rng::with_seed(3);
        let cases: [Vec<u64>; 5] = [
            vec![u64::MAX; 300],
            vec![1_000; 4_096],
            (0..300).map(|i| if i % 2 == 0 { 0 } else { u64::MAX }).collect(),
            (0..5_000).map(|_| rng.u64(..) >> rng.u32(0..64)).collect(),
            (0..100).map(|i| 1 << (i % 40)).collect(),
        ];
        for durations in cases {
            let first = durations[0];
            let (pace, steps) = fit(durations).unwrap();
            assert!((K_MIN..=K_MAX).contains(&pace.k()), "{pace:?} from {first}");
            assert!(steps <= 16 * PASSES_MAX, "{steps} steps from {first}");
        }
    }

    #[test]
    fn the_oldest_durations_are_replaced() {
        let mut fit = Fit::default();
        fit.learn(vec![3_600_000_000; 5_000]);
        fit.learn(drawn(Pace::default(), KEPT));
        assert_eq!(fit.len(), KEPT);
        let pace = std::iter::repeat_with(|| fit.step()).flatten().next().unwrap();
        assert!((pace.k() / 0.378 - 1.0).abs() < 0.05, "{pace:?}");
    }

    #[test]
    fn a_visit_during_a_fit_restarts_it() {
        let mut fit = Fit::default();
        fit.learn(vec![1_000; 4_096]);
        for _ in 0..5 {
            assert_eq!(fit.step(), None);
        }
        fit.learn(drawn(Pace::default(), KEPT));
        let pace = std::iter::repeat_with(|| fit.step()).flatten().next().unwrap();
        assert!((pace.k() / 0.378 - 1.0).abs() < 0.05, "{pace:?}");
    }
}
