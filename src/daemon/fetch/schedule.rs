//! When each job is due: at once after the start, then once per period, earlier after a failure.
//! Each wait has a random part, so that many proxies do not fetch at the same moment.

use std::time::Duration;

use crate::accounts::users::HostId;
use crate::daemon::fetch::ip_lists::kind::SourceId;
use crate::io::clock::Tick;
use crate::util::drbg::Drbg;

/// A periodic job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Fetch Telegram's list of addresses from the page with this index.
    DcPage(usize),
    /// Load a source of an IP list.
    IpList(SourceId),
    /// Probe the front of this host.
    FrontProbe(HostId),
    /// Fetch the page with this index and record its timing.
    #[cfg(feature = "tls")]
    PageTiming(usize),
}

/// The result of a job.
#[derive(Debug, Clone, Copy)]
pub struct JobResult {
    /// The job.
    pub job: Job,
    /// The job has succeeded.
    pub is_ok: bool,
    /// When it is due again after a success.
    pub period: Duration,
}

/// All jobs and when they are due.
#[derive(Default)]
pub struct Schedule {
    entries: Vec<ScheduledJob>,
}

struct ScheduledJob {
    job: Job,
    /// `None` = the job is running.
    due: Option<Tick>,
    /// Failures in a row.
    failures: u32,
}

impl Schedule {
    /// Adds a job that is due at `at`.
    pub fn add(&mut self, job: Job, at: Tick) {
        self.entries.push(ScheduledJob { job, due: Some(at), failures: 0 });
    }

    /// Removes jobs. Returns them and when they were due; `None` = running.
    pub fn remove(&mut self, is_removed: &dyn Fn(Job) -> bool) -> Vec<(Job, Option<Tick>)> {
        let mut removed = Vec::new();
        self.entries.retain(|entry| {
            let stays = !is_removed(entry.job);
            if !stays {
                removed.push((entry.job, entry.due));
            }
            stays
        });
        removed
    }

    /// Makes jobs that are due later than `at` due at `at`; running jobs are not affected.
    pub fn bring_forward(&mut self, is_affected: &dyn Fn(Job) -> bool, at: Tick) {
        for entry in self.entries.iter_mut().filter(|entry| is_affected(entry.job)) {
            entry.due = entry.due.map(|due| due.min(at));
        }
    }

    /// The number of jobs.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// When the next job is due.
    pub fn due(&self) -> Option<Tick> {
        self.entries.iter().filter_map(|entry| entry.due).min()
    }

    /// Starts a job that is due. It is not due again before [`Schedule::finish`].
    pub fn start_next(&mut self, now: Tick) -> Option<Job> {
        let entry = self.entries.iter_mut().find(|e| e.due.is_some_and(|due| due <= now))?;
        entry.due = None;
        Some(entry.job)
    }

    /// Ends a job. After a success it is due again after its period; after failures, after one
    /// minute, two, four, and so on up to the period. The wait varies at random by up to a tenth.
    pub fn finish(&mut self, result: JobResult, now: Tick, drbg: &mut Drbg) {
        let JobResult { job, is_ok, period } = result;
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.job == job) else { return };
        entry.failures = if is_ok { 0 } else { entry.failures.saturating_add(1) };
        let wait = match entry.failures {
            0 => period,
            n => (FIRST_RETRY * (1 << (n - 1).min(MAX_DOUBLINGS))).min(period),
        };
        let wait_ms = wait.as_millis() as u64;
        let spread = u32::try_from(wait_ms / 5).unwrap_or(u32::MAX).max(1);
        let wait_ms = wait_ms - wait_ms / 10 + u64::from(drbg.u32_below(spread));
        entry.due = Some(now + Duration::from_millis(wait_ms));
    }
}

const FIRST_RETRY: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const JOB: Job = Job::DcPage(0);

    fn result(is_ok: bool, period_ms: u64) -> JobResult {
        JobResult { job: JOB, is_ok, period: Duration::from_millis(period_ms) }
    }

    /// How long the job waits after an outcome.
    fn wait(schedule: &mut Schedule, is_ok: bool, drbg: &mut Drbg) -> u64 {
        schedule.finish(result(is_ok, HOUR_MS), Tick(0), drbg);
        schedule.due().unwrap().0
    }

    #[test]
    fn a_job_is_due_once_per_period_and_earlier_after_a_failure() {
        let mut drbg = Drbg::new([7; 48]);
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(), None);
        schedule.add(JOB, Tick(5));
        assert_eq!(schedule.start_next(Tick(4)), None);
        assert_eq!(schedule.start_next(Tick(5)), Some(JOB));
        assert_eq!((schedule.start_next(Tick(HOUR_MS)), schedule.due()), (None, None), "it runs");
        let around = |wait: u64, of: u64| (of - of / 10..=of + of / 10).contains(&wait);
        assert!(around(wait(&mut schedule, true, &mut drbg), HOUR_MS));
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(around(wait(&mut schedule, false, &mut drbg), minutes * 60_000), "{minutes}");
        }
        assert!(around(wait(&mut schedule, true, &mut drbg), HOUR_MS));
        assert!(around(wait(&mut schedule, false, &mut drbg), 60_000), "the count starts again");
        for _ in 0..100 {
            wait(&mut schedule, false, &mut drbg);
        }
    }

    #[test]
    fn a_removed_job_is_never_due_and_a_brought_forward_one_is_due_earlier() {
        let mut schedule = Schedule::default();
        for page in 0..3 {
            schedule.add(Job::DcPage(page), Tick(10 * page as u64));
        }
        assert_eq!(schedule.start_next(Tick(0)), Some(JOB));
        let removed = schedule.remove(&|job| job != Job::DcPage(2));
        assert_eq!(removed, [(JOB, None), (Job::DcPage(1), Some(Tick(10)))]);
        schedule.finish(result(true, HOUR_MS), Tick(0), &mut Drbg::new([7; 48]));
        assert_eq!(schedule.due(), Some(Tick(20)), "a removed job is not scheduled again");
        schedule.bring_forward(&|_| true, Tick(15));
        schedule.bring_forward(&|_| true, Tick(17));
        assert_eq!(schedule.due(), Some(Tick(15)));
    }

    #[test]
    fn a_short_period_bounds_the_retry_too() {
        let mut drbg = Drbg::new([7; 48]);
        let mut schedule = Schedule::default();
        schedule.add(JOB, Tick(0));
        schedule.finish(result(false, 1_000), Tick(0), &mut drbg);
        assert!(schedule.due().unwrap().0 <= 1_100);
    }
}
