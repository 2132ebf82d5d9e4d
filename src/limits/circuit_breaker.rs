//! When to stop asking somebody who does not answer, and when to try again (spec: network 5.3).
//! Time is an argument.

/// A circuit breaker.
pub struct CircuitBreaker {
    threshold: u32,
    half_open_ms: u64,
    reset_ms: u64,
    failures: u32,
    /// When the failures began to be counted.
    since_ms: u64,
    /// Open since then.
    open_ms: Option<u64>,
    /// One try is under way, since then.
    trying_ms: Option<u64>,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// All tries go through.
    Closed,
    /// None do.
    Open,
    /// One does.
    HalfOpen,
}

impl CircuitState {
    /// For `/stats`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl CircuitBreaker {
    /// Opens after `threshold` failures of which the first is at most `reset_ms` old, and lets
    /// one try through after `half_open_ms`.
    pub fn new(threshold: u32, half_open_ms: u64, reset_ms: u64) -> Self {
        let (failures, since_ms) = (0, 0);
        let threshold = threshold.max(1);
        let (open_ms, trying_ms) = (None, None);
        Self { threshold, half_open_ms, reset_ms, failures, since_ms, open_ms, trying_ms }
    }

    /// Where it stands.
    pub fn state(&self, now_ms: u64) -> CircuitState {
        match self.open_ms {
            None => CircuitState::Closed,
            Some(at) if now_ms < at.saturating_add(self.half_open_ms) => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
        }
    }

    /// Whether a try may begin. In the half-open state only the first may; one of which nothing
    /// was heard for as long as the circuit was open counts no more.
    pub fn admit(&mut self, now_ms: u64) -> bool {
        match self.state(now_ms) {
            CircuitState::Closed => true,
            CircuitState::Open => false,
            CircuitState::HalfOpen => {
                let lost = |at: u64| now_ms >= at.saturating_add(self.half_open_ms);
                let free = self.trying_ms.is_none_or(lost);
                if free {
                    self.trying_ms = Some(now_ms);
                }
                free
            }
        }
    }

    /// A try went well. `true` = the circuit was open and is closed now.
    pub fn record_success(&mut self) -> bool {
        self.failures = 0;
        self.trying_ms = None;
        self.open_ms.take().is_some()
    }

    /// A try failed. `true` = the circuit was closed and is open now.
    pub fn record_failure(&mut self, now_ms: u64) -> bool {
        if self.open_ms.is_some() {
            if self.state(now_ms) == CircuitState::HalfOpen {
                (self.open_ms, self.trying_ms) = (Some(now_ms), None);
            }
            return false;
        }
        if self.failures == 0 || now_ms >= self.since_ms.saturating_add(self.reset_ms) {
            (self.failures, self.since_ms) = (0, now_ms);
        }
        self.failures += 1;
        let opens = self.failures >= self.threshold;
        if opens {
            self.open_ms = Some(now_ms);
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_tries_once_and_closes() {
        let mut breaker = CircuitBreaker::new(3, 60_000, 10_000);
        assert!(!breaker.record_failure(0) && !breaker.record_failure(1));
        assert!(breaker.admit(1));
        assert!(breaker.record_failure(2), "the third");
        assert_eq!(breaker.state(2), CircuitState::Open);
        assert!(!breaker.admit(60_001));
        assert_eq!(breaker.state(60_002), CircuitState::HalfOpen);
        assert!(breaker.admit(60_002) && !breaker.admit(60_003), "one try");
        assert!(!breaker.record_failure(60_004));
        assert_eq!(breaker.state(60_005), CircuitState::Open);
        assert!(breaker.admit(120_004) && breaker.record_success());
        assert_eq!(breaker.state(120_004), CircuitState::Closed);
        assert!(breaker.admit(120_005) && !breaker.record_success());
    }

    #[test]
    fn old_failures_and_those_before_a_success_do_not_count() {
        let mut breaker = CircuitBreaker::new(2, 60_000, 10_000);
        assert!(
            !breaker.record_failure(0)
                && !breaker.record_failure(10_000)
                && !breaker.record_failure(20_000)
        );
        breaker.record_success();
        assert!(!breaker.record_failure(20_001) && breaker.record_failure(20_002));
    }

    #[test]
    fn a_try_that_was_never_heard_of_again_blocks_nobody_for_ever() {
        let mut breaker = CircuitBreaker::new(1, 1_000, 1_000);
        breaker.record_failure(0);
        assert!(breaker.admit(1_000) && !breaker.admit(1_999) && breaker.admit(2_000));
    }
}
