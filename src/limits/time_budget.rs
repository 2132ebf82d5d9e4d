//! A share of the loop's time for work that must not delay users, such as the pages of the
//! operator.

/// The time that the work may take: `SHARE_US` in each millisecond. Unused time is kept, up to
/// `KEPT_US`.
#[derive(Debug, Clone, Copy)]
pub struct TimeBudget {
    /// Microseconds that are left; negative = a debt.
    left_us: i64,
    /// When `left_us` was computed, in milliseconds since start.
    at_ms: u64,
}

impl Default for TimeBudget {
    fn default() -> Self {
        Self { left_us: KEPT_US, at_ms: 0 }
    }
}

impl TimeBudget {
    /// Adds the share of the time that has passed. Returns whether work may be done now.
    pub fn refill(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.at_ms).min((2 * KEPT_US / SHARE_US) as u64);
        self.at_ms = now_ms;
        self.left_us = (self.left_us + SHARE_US * passed_ms as i64).min(KEPT_US);
        self.left_us > 0
    }

    /// Subtracts the time that work has taken. One call costs at most `COST_MAX_US`: more passes
    /// only if the machine runs something else meanwhile.
    pub fn spend(&mut self, us: u64) {
        self.left_us = (self.left_us - us.min(COST_MAX_US) as i64).max(-KEPT_US);
    }

    /// When work may be done again, in milliseconds since start.
    pub fn due_ms(&self) -> u64 {
        let missing_us = (1 - self.left_us).max(0);
        self.at_ms.saturating_add((missing_us as u64).div_ceil(SHARE_US as u64))
    }
}

/// 2.5 % of the time. What a turn costs the loop besides doubles it at most.
const SHARE_US: i64 = 25;
/// Together with the share of a second, this is 40 ms.
const KEPT_US: i64 = 15_000;
const COST_MAX_US: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_its_share_and_no_more() {
        let (mut budget, mut spent_us) = (TimeBudget::default(), 0);
        for now_ms in 0..10_000 {
            while budget.refill(now_ms) {
                budget.spend(700);
                spent_us += 700;
            }
            assert!(budget.due_ms() > now_ms);
        }
        let most = KEPT_US + 10_000 * SHARE_US + 700;
        assert!((most - 1_400..=most).contains(&spent_us), "{spent_us}");
    }

    #[test]
    fn a_machine_that_stops_costs_no_more_than_a_second() {
        let mut budget = TimeBudget::default();
        for _ in 0..20 {
            budget.spend(u64::MAX);
        }
        assert!(budget.due_ms() <= 1_000, "{}", budget.due_ms());
        assert!(!budget.refill(budget.due_ms() - 1) && budget.refill(budget.due_ms()));
        assert!(budget.refill(u64::MAX) && budget.due_ms() == u64::MAX);
    }
}
