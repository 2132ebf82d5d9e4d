//! How much may be written to a flash chip, and when: so many bytes per person and day, some of
//! which may be spent in a row. A batch that costs more makes the next one wait longer.

/// What one file may cost. Over any 24 hours at most [`DAILY_BYTES`] bytes per person are spent, as long
/// as no batch holds more than an eighth of that for each.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteBudget {
    /// All that was spent is paid back then, in milliseconds since start.
    paid_ms: u64,
}

/// Whom a budget is for.
#[derive(Debug, Clone, Copy)]
pub struct BudgetInput {
    /// People, each with an equal part.
    pub users: usize,
    /// The least time between two batches. Who wants less than ten minutes pays for it: the budget
    /// grows in proportion.
    pub interval_ms: u64,
}

impl WriteBudget {
    /// Notes that something was written.
    pub fn spend(&mut self, bytes: usize, input: BudgetInput, now_ms: u64) {
        let haste = (USUAL_MS / input.interval_ms.max(1)).max(1);
        let daily = (input.users.max(1) as u64).saturating_mul(STEADY * haste);
        let cost_ms = (bytes as u64).saturating_mul(DAY_MS) / daily.max(1);
        self.paid_ms = self.paid_ms.max(now_ms).saturating_add(cost_ms);
    }

    /// When the next batch may be written, in milliseconds since start: `interval_ms` from now, or as
    /// soon as it can be afforded.
    pub fn next_ms(&self, input: BudgetInput, now_ms: u64) -> u64 {
        let affordable = self.paid_ms.saturating_sub(ROW_MS);
        now_ms.saturating_add(input.interval_ms).max(affordable)
    }
}

/// Bytes per person and day at the usual interval of ten minutes, or longer ones.
pub const DAILY_BYTES: u64 = 1024;

/// Of these, what comes in evenly. The rest is for what may be spent in a row, and for the last
/// batch, which is weighed only afterwards.
const STEADY: u64 = 640;
/// A quarter of [`DAILY_BYTES`] may be spent in a row: it comes in over so long.
const ROW_MS: u64 = DAY_MS * (DAILY_BYTES / 4) / STEADY;
const USUAL_MS: u64 = 600_000;
const DAY_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::totals::{Totals, UserCounters};

    /// Batches of a crowd of which some move much all day: when, and of how many bytes.
    fn play(people: usize, busy: usize, interval_ms: u64, days: u64) -> Vec<(u64, usize)> {
        let names: Vec<String> = (0..people).map(|n| format!("person number {n}")).collect();
        let input = BudgetInput { users: people, interval_ms };
        let (mut ledger, mut budget) = (Totals::default(), WriteBudget::default());
        let whole = ledger.snapshot();
        budget.spend(whole.bytes.len(), input, 0);
        ledger.mark_written(&whole);
        let (mut batches, mut now_ms) = (vec![(0, whole.bytes.len())], 0);
        while now_ms < days * DAY_MS {
            now_ms = budget.next_ms(input, now_ms);
            // 1 MB/s down and a hundredth of it up.
            let counted = |(n, name)| {
                let moved = if n < busy { now_ms * 1000 } else { 0 };
                let seen_s = (n < busy).then_some(1_800_000_000 + now_ms / 1000);
                UserCounters { name, bytes_in: moved / 100, bytes_out: moved, seen_s }
            };
            let people = names.iter().map(String::as_str).enumerate().map(counted);
            ledger.update(people, Some(1_800_000_000 + now_ms / 1000));
            let batch = ledger.batch();
            budget.spend(batch.bytes.len(), input, now_ms);
            ledger.mark_written(&batch);
            batches.push((now_ms, batch.bytes.len()));
        }
        batches
    }

    fn most_in_a_day(batches: &[(u64, usize)]) -> usize {
        let day = |from: u64| batches.iter().filter(move |b| (from..from + DAY_MS).contains(&b.0));
        batches.iter().map(|(at, _)| day(*at).map(|batch| batch.1).sum()).max().unwrap_or(0)
    }

    #[test]
    fn a_person_who_is_active_all_day_costs_a_kilobyte_at_most() {
        for (people, busy) in [(1, 1), (2, 1), (10, 10), (300, 300), (1000, 10)] {
            let batches = play(people, busy, USUAL_MS, 10);
            let most = most_in_a_day(&batches);
            assert!(most as u64 <= DAILY_BYTES * people as u64, "{people} people: {most} bytes");
            let gaps = batches.windows(2).map(|pair| pair[1].0 - pair[0].0);
            let (least, longest) = gaps.fold((u64::MAX, 0), |(a, b), gap| (a.min(gap), b.max(gap)));
            assert_eq!(least, USUAL_MS, "some are written as often as allowed, none more often");
            assert!(longest <= 3_600_000, "{people} people: {longest} ms without a batch");
        }
    }

    #[test]
    fn an_evening_is_written_every_ten_minutes() {
        let batches = play(1, 1, USUAL_MS, 1);
        let evening = batches.iter().filter(|(at, _)| *at <= 2 * 3_600_000).count();
        assert_eq!(evening, 13);
    }

    #[test]
    fn who_asks_for_haste_gets_it() {
        let batches = play(1, 1, 1000, 1);
        let first_hour = batches.iter().filter(|(at, _)| *at <= 3_600_000).count();
        assert_eq!(first_hour, 3601);
        assert!(most_in_a_day(&batches) as u64 <= DAILY_BYTES * 600);
    }
}
