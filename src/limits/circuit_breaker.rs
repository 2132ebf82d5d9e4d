//! A circuit breaker for an upstream proxy: stops dialling a proxy that keeps failing, and tries
//! it again after a while (COMPATIBILITY 5.5.3). Time is a parameter, in milliseconds since start.

/// A circuit breaker.
pub struct CircuitBreaker {
    threshold: u32,
    half_open_ms: u64,
    reset_ms: u64,
    failures: u32,
    /// Time of the first failure in `failures`.
    first_failure_ms: u64,
    /// When the circuit opened; `None` = closed.
    opened_ms: Option<u64>,
    /// When the trial attempt of the half-open state began, if one is in progress.
    trial_ms: Option<u64>,
}

/// State of the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Every attempt is admitted.
    Closed,
    /// No attempt is admitted.
    Open,
    /// One trial attempt is admitted.
    HalfOpen,
}

impl CircuitState {
    /// The name in `/stats`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Whether a result opened or closed the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitChange {
    /// The circuit stays open or closed.
    None,
    /// A failure opened the circuit.
    Opened,
    /// A success closed the circuit.
    Closed,
}

impl CircuitBreaker {
    /// A closed circuit. It opens after `threshold` failures (at least 1) within `reset_ms`, and
    /// admits a trial attempt `half_open_ms` later.
    pub fn new(threshold: u32, half_open_ms: u64, reset_ms: u64) -> Self {
        Self {
            threshold: threshold.max(1),
            half_open_ms,
            reset_ms,
            failures: 0,
            first_failure_ms: 0,
            opened_ms: None,
            trial_ms: None,
        }
    }

    /// The state at `now_ms`.
    pub fn state(&self, now_ms: u64) -> CircuitState {
        match self.opened_ms {
            None => CircuitState::Closed,
            Some(at) if now_ms < at.saturating_add(self.half_open_ms) => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
        }
    }

    /// Whether an attempt may start now. The half-open state admits one trial attempt at a time;
    /// a trial without a result for `half_open_ms` is given up, so that a lost one cannot block
    /// the proxy for ever.
    pub fn admit(&mut self, now_ms: u64) -> bool {
        match self.state(now_ms) {
            CircuitState::Closed => true,
            CircuitState::Open => false,
            CircuitState::HalfOpen => {
                let is_lost = |at: u64| now_ms >= at.saturating_add(self.half_open_ms);
                let is_free = self.trial_ms.is_none_or(is_lost);
                if is_free {
                    self.trial_ms = Some(now_ms);
                }
                is_free
            }
        }
    }

    /// Records that an attempt succeeded; closes the circuit.
    pub fn record_success(&mut self) -> CircuitChange {
        self.failures = 0;
        self.trial_ms = None;
        match self.opened_ms.take() {
            Some(_) => CircuitChange::Closed,
            None => CircuitChange::None,
        }
    }

    /// Records that an attempt ended without a result; another trial attempt may start.
    pub fn record_abandoned(&mut self) {
        self.trial_ms = None;
    }

    /// Records that an attempt failed. A failed trial starts the waiting time again.
    pub fn record_failure(&mut self, now_ms: u64) -> CircuitChange {
        if self.opened_ms.is_some() {
            if self.state(now_ms) == CircuitState::HalfOpen {
                (self.opened_ms, self.trial_ms) = (Some(now_ms), None);
            }
            return CircuitChange::None;
        }
        if self.failures == 0 || now_ms >= self.first_failure_ms.saturating_add(self.reset_ms) {
            (self.failures, self.first_failure_ms) = (0, now_ms);
        }
        self.failures += 1;
        if self.failures < self.threshold {
            return CircuitChange::None;
        }
        self.opened_ms = Some(now_ms);
        CircuitChange::Opened
    }
}

#[cfg(test)]
mod tests {
    use super::CircuitChange::{Closed, None, Opened};
    use super::*;

    #[test]
    fn it_opens_tries_once_and_closes() {
        let mut breaker = CircuitBreaker::new(3, 60_000, 10_000);
        assert_eq!([0, 1].map(|at| breaker.record_failure(at)), [None; 2]);
        assert!(breaker.admit(1));
        assert_eq!(breaker.record_failure(2), Opened, "the third failure");
        assert_eq!(breaker.state(2), CircuitState::Open);
        assert!(!breaker.admit(60_001));
        assert_eq!(breaker.state(60_002), CircuitState::HalfOpen);
        assert!(breaker.admit(60_002) && !breaker.admit(60_003), "one trial");
        assert_eq!(breaker.record_failure(60_004), None);
        assert_eq!(breaker.state(60_005), CircuitState::Open);
        assert!(breaker.admit(120_004));
        assert_eq!(breaker.record_success(), Closed);
        assert_eq!(breaker.state(120_004), CircuitState::Closed);
        assert!(breaker.admit(120_005));
        assert_eq!(breaker.record_success(), None);
    }

    #[test]
    fn old_failures_and_those_before_a_success_do_not_count() {
        let mut breaker = CircuitBreaker::new(2, 60_000, 10_000);
        assert_eq!([0, 10_000, 20_000].map(|at| breaker.record_failure(at)), [None; 3]);
        breaker.record_success();
        assert_eq!([20_001, 20_002].map(|at| breaker.record_failure(at)), [None, Opened]);
    }

    #[test]
    fn a_trial_without_a_result_does_not_block_the_proxy_for_ever() {
        let mut breaker = CircuitBreaker::new(1, 1_000, 1_000);
        breaker.record_failure(0);
        assert!(breaker.admit(1_000) && !breaker.admit(1_999) && breaker.admit(2_000));
        breaker.record_abandoned();
        assert!(breaker.admit(2_001) && !breaker.admit(2_002));
    }
}
