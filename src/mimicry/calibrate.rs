//! Learns a pace: fits a Weibull distribution to the times between a web site's records by
//! maximum likelihood (spec: protocol 12.4), a bounded piece per call, so that no processor is
//! too slow for it.

use crate::mimicry::shaper::Pace;

/// The last durations and the fit that is under way.
#[derive(Debug, Default)]
pub struct Fit {
    /// Natural logarithms of durations in milliseconds: all that the fit needs. A ring once full.
    logs: Vec<f64>,
    /// Where the next one goes.
    at: usize,
    search: Option<NewtonSearch>,
}

/// Newton's method for the shape `k`, kept between two bounds, and the sums of its current look
/// at all durations.
#[derive(Debug)]
struct NewtonSearch {
    /// The longest duration's logarithm: powers are taken relative to it, so none overflows.
    longest: f64,
    mean: f64,
    low: f64,
    high: f64,
    k: f64,
    looks: u32,
    seen: usize,
    /// Sums of w, w ln x and w (ln x)^2 over the durations seen, with w = (x / longest)^k.
    sums: [f64; 3],
}

impl Fit {
    /// Adds the durations of one visit, in microseconds; the oldest make room. A fit begins, anew
    /// if one was under way, when there are enough. A duration of zero counts as one microsecond:
    /// its logarithm would be infinite.
    pub fn learn(&mut self, durations_us: impl IntoIterator<Item = u64>) {
        let mut any = false;
        for us in durations_us {
            let log = (us.clamp(1, DURATION_MAX_US) as f64 / 1_000.0).ln();
            match self.logs.get_mut(self.at) {
                Some(oldest) => *oldest = log,
                None => self.logs.push(log),
            }
            self.at = (self.at + 1) % KEPT;
            any = true;
        }
        if any && self.logs.len() >= ENOUGH {
            self.search = Some(NewtonSearch::new(&self.logs));
        }
    }

    /// How many durations are kept: at most 4,096.
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// Nothing has been learned yet.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// A fit is under way: call [`Fit::step`] when there is time.
    pub fn is_running(&self) -> bool {
        self.search.is_some()
    }

    /// Looks at no more than 256 durations; the pace once it is found, then nothing until more is
    /// learned.
    pub fn step(&mut self) -> Option<Pace> {
        let search = self.search.as_mut()?;
        let rest = self.logs.get(search.seen..).unwrap_or_default();
        search.look(rest.get(..SLICE).unwrap_or(rest));
        if search.seen < self.logs.len() {
            return None;
        }
        let found = search.conclude();
        if found.is_some() {
            self.search = None;
        }
        found.and_then(|(k, lambda_ms)| Pace::new(k, lambda_ms))
    }
}

impl NewtonSearch {
    fn new(logs: &[f64]) -> Self {
        let longest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let (low, high) = (K_MIN, K_MAX);
        Self { longest, mean, low, high, k: 1.0, looks: 0, seen: 0, sums: [0.0; 3] }
    }

    fn look(&mut self, logs: &[f64]) {
        for log in logs {
            let weight = (self.k * (log - self.longest)).exp();
            let weighted = weight * log;
            self.sums =
                [self.sums[0] + weight, self.sums[1] + weighted, self.sums[2] + weighted * log];
        }
        self.seen += logs.len();
    }

    /// All durations were looked at with this `k`: the fit, or a better `k` for the next look.
    fn conclude(&mut self) -> Option<(f64, f64)> {
        let [weight, weighted, squares] = self.sums;
        let centre = weighted / weight;
        // The derivative of the likelihood, which falls as k grows, and its own derivative.
        let slope = 1.0 / self.k + self.mean - centre;
        let bend = -1.0 / (self.k * self.k) - (squares / weight - centre * centre).max(0.0);
        if slope > 0.0 {
            self.low = self.k;
        } else {
            self.high = self.k;
        }
        let newton = self.k - slope / bend;
        let inside = newton > self.low && newton < self.high;
        let better = if inside { newton } else { f64::midpoint(self.low, self.high) };
        self.looks += 1;
        let change = (better - self.k).abs();
        if change <= PRECISION * self.k || self.looks == LOOKS_MAX {
            let mean_power = weight / self.seen as f64;
            let lambda = (self.longest + mean_power.ln() / self.k).exp();
            return Some((self.k, lambda));
        }
        (self.k, self.seen, self.sums) = (better, 0, [0.0; 3]);
        None
    }
}

/// Durations kept. 32 KB, once a site has been visited.
const KEPT: usize = 4_096;
/// Durations that a fit needs.
const ENOUGH: usize = 100;
/// Durations looked at in one step.
const SLICE: usize = 256;
/// A longer silence says nothing about a pace.
const DURATION_MAX_US: u64 = 3_600_000_000;
const K_MIN: f64 = 0.01;
const K_MAX: f64 = 10.0;
const PRECISION: f64 = 1e-9;
/// Newton needs about eight; halving the bounds, its fallback, at most 40.
const LOOKS_MAX: u32 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps to the end; the pace and how many steps it took.
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

    /// Durations as this pace draws them.
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
    fn fewer_than_a_hundred_durations_say_nothing() {
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
    fn whatever_was_measured_there_is_an_end_and_a_pace() {
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
            assert!(steps <= 16 * LOOKS_MAX, "{steps} steps from {first}");
        }
    }

    #[test]
    fn the_oldest_durations_make_room() {
        let mut fit = Fit::default();
        fit.learn(vec![3_600_000_000; 5_000]);
        fit.learn(drawn(Pace::default(), KEPT));
        assert_eq!(fit.len(), KEPT);
        let pace = std::iter::repeat_with(|| fit.step()).flatten().next().unwrap();
        assert!((pace.k() / 0.378 - 1.0).abs() < 0.05, "{pace:?}");
    }

    #[test]
    fn a_visit_in_the_middle_of_a_fit_begins_it_anew() {
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
