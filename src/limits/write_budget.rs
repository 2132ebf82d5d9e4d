//! A write budget that protects flash memory: a number of bytes per user and day, part of which
//! may be written in a row. A large write delays the next one.

/// The budget of one file. In any 24 hours at most [`DAILY_BYTES`] per user are written, as long as
/// no single write has more than an eighth of that per user.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteBudget {
    /// When the debt of all writes is paid off, in milliseconds since start.
    paid_ms: u64,
}

/// What the size of a budget depends on.
#[derive(Debug, Clone, Copy)]
pub struct BudgetInput {
    /// Number of users; each adds the same amount.
    pub users: usize,
    /// The least time between two writes. Below ten minutes the budget grows in proportion, since
    /// the operator chose more wear.
    pub interval_ms: u64,
}

impl WriteBudget {
    /// Records a write of `bytes` bytes.
    pub fn spend(&mut self, bytes: usize, input: BudgetInput, now_ms: u64) {
        let factor = (USUAL_MS / input.interval_ms.max(1)).max(1);
        let daily = (input.users.max(1) as u64).saturating_mul(STEADY_BYTES * factor);
        let cost_ms = (bytes as u64).saturating_mul(DAY_MS) / daily.max(1);
        self.paid_ms = self.paid_ms.max(now_ms).saturating_add(cost_ms);
    }

    /// The time of the next write, in milliseconds since start: `interval_ms` from now, or later
    /// if the debt is too large by then.
    pub fn next_ms(&self, input: BudgetInput, now_ms: u64) -> u64 {
        let affordable = self.paid_ms.saturating_sub(DEBT_MAX_MS);
        now_ms.saturating_add(input.interval_ms).max(affordable)
    }
}

/// Bytes per user and day, at the default interval of ten minutes or a longer one.
pub const DAILY_BYTES: u64 = 1024;

/// The part of [`DAILY_BYTES`] that pays off debt, evenly over the day. The rest is for writes in a
/// row and for the last write, whose size is known only afterwards.
const STEADY_BYTES: u64 = 640;
/// Most debt, as the time to pay it off: a quarter of [`DAILY_BYTES`] may be written in a row.
const DEBT_MAX_MS: u64 = DAY_MS * (DAILY_BYTES / 4) / STEADY_BYTES;
const USUAL_MS: u64 = 600_000;
const DAY_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::totals::{Totals, UserCounters};

    /// Times and sizes of the batches when `busy` of `users` users move data all day.
    fn play(users: usize, busy: usize, interval_ms: u64, days: u64) -> Vec<(u64, usize)> {
        let names: Vec<String> = (0..users).map(|n| format!("user number {n}")).collect();
        let input = BudgetInput { users, interval_ms };
        let (mut totals, mut budget) = (Totals::default(), WriteBudget::default());
        let whole = totals.snapshot();
        budget.spend(whole.bytes.len(), input, 0);
        totals.mark_written(&whole);
        let (mut batches, mut now_ms) = (vec![(0, whole.bytes.len())], 0);
        while now_ms < days * DAY_MS {
            now_ms = budget.next_ms(input, now_ms);
            // 1 MB/s down and a hundredth of it up.
            let counted = |(n, name)| {
                let moved = if n < busy { now_ms * 1000 } else { 0 };
                let seen_s = (n < busy).then_some(1_800_000_000 + now_ms / 1000);
                UserCounters { name, bytes_in: moved / 100, bytes_out: moved, seen_s }
            };
            let counters = names.iter().map(String::as_str).enumerate().map(counted);
            totals.update(counters, Some(1_800_000_000 + now_ms / 1000));
            let batch = totals.batch();
            budget.spend(batch.bytes.len(), input, now_ms);
            totals.mark_written(&batch);
            batches.push((now_ms, batch.bytes.len()));
        }
        batches
    }

    fn most_in_a_day(batches: &[(u64, usize)]) -> usize {
        let day = |from: u64| batches.iter().filter(move |b| (from..from + DAY_MS).contains(&b.0));
        batches.iter().map(|(at, _)| day(*at).map(|batch| batch.1).sum()).max().unwrap_or(0)
    }

    #[test]
    fn a_user_who_is_active_all_day_costs_a_kilobyte_at_most() {
        for (users, busy) in [(1, 1), (2, 1), (10, 10), (300, 300), (1000, 10)] {
            let batches = play(users, busy, USUAL_MS, 10);
            let most = most_in_a_day(&batches);
            assert!(most as u64 <= DAILY_BYTES * users as u64, "{users} users: {most} bytes");
            let gaps = batches.windows(2).map(|pair| pair[1].0 - pair[0].0);
            let (least, longest) = gaps.fold((u64::MAX, 0), |(a, b), gap| (a.min(gap), b.max(gap)));
            assert_eq!(least, USUAL_MS, "some are written as often as allowed, none more often");
            assert!(longest <= 3_600_000, "{users} users: {longest} ms without a batch");
        }
    }

    #[test]
    fn an_evening_is_written_every_ten_minutes() {
        let batches = play(1, 1, USUAL_MS, 1);
        let evening = batches.iter().filter(|(at, _)| *at <= 2 * 3_600_000).count();
        assert_eq!(evening, 13);
    }

    #[test]
    fn a_short_interval_is_kept() {
        let batches = play(1, 1, 1000, 1);
        let first_hour = batches.iter().filter(|(at, _)| *at <= 3_600_000).count();
        assert_eq!(first_hour, 3601);
        assert!(most_in_a_day(&batches) as u64 <= DAILY_BYTES * 600);
    }
}
