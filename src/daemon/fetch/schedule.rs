//! What has to be fetched when: the first time at once, then once per period, after a failure
//! sooner, and never at the very same moment as everybody else.

use crate::accounts::users::HostId;
use crate::daemon::fetch::ip_lists::ListKind;
use crate::io::clock::Tick;
use crate::util::drbg::Drbg;

/// Something that is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The page of Telegram's list of addresses with this number.
    DcPage(usize),
    /// The source with this number of a list.
    IpList(ListKind, usize),
    /// A look at the site of this host.
    Look(HostId),
    /// A visit to the page with this number.
    #[cfg(feature = "tls")]
    Visit(usize),
}

/// All jobs and when they are due. Empty when nothing is configured, and then nothing ever wakes.
#[derive(Default)]
pub struct Schedule {
    entries: Vec<ScheduledJob>,
}

struct ScheduledJob {
    job: Job,
    due: Option<Tick>,
    failures: u32,
}

impl Schedule {
    /// Adds a job that is due at `at`.
    pub fn add(&mut self, job: Job, at: Tick) {
        self.entries.push(ScheduledJob { job, due: Some(at), failures: 0 });
    }

    /// Forgets jobs; gives back what was there and when it was due (`None` = under way).
    pub fn forget(&mut self, is_it: impl Fn(Job) -> bool) -> Vec<(Job, Option<Tick>)> {
        let (gone, kept): (Vec<_>, _) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| is_it(entry.job));
        self.entries = kept;
        gone.into_iter().map(|entry| (entry.job, entry.due)).collect()
    }

    /// Jobs that wait for a later time than `at` come then; those under way are left alone.
    pub fn hasten(&mut self, is_it: impl Fn(Job) -> bool, at: Tick) {
        for entry in self.entries.iter_mut().filter(|entry| is_it(entry.job)) {
            entry.due = entry.due.map(|due| due.min(at));
        }
    }

    /// How many jobs there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// When the next job is due.
    pub fn due(&self) -> Option<Tick> {
        self.entries.iter().filter_map(|entry| entry.due).min()
    }

    /// A job that is due; it is not again before it is [`Schedule::done`].
    pub fn next(&mut self, now: Tick) -> Option<Job> {
        let entry = self.entries.iter_mut().find(|e| e.due.is_some_and(|due| due <= now))?;
        entry.due = None;
        Some(entry.job)
    }

    /// A job is done, well or not: it comes again after `period_ms`, or, when it failed, after
    /// one minute, two, four, and so on up to the period; a tenth more or less.
    pub fn done(&mut self, job: Job, well: bool, period_ms: u64, now: Tick, drbg: &mut Drbg) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.job == job) else { return };
        entry.failures = if well { 0 } else { entry.failures.saturating_add(1) };
        let wait = match entry.failures {
            0 => period_ms,
            n => (FIRST_RETRY_MS << (n - 1).min(MOST_DOUBLINGS)).min(period_ms),
        };
        let spread = u32::try_from(wait / 5).unwrap_or(u32::MAX).max(1);
        let wait = wait - wait / 10 + u64::from(drbg.u32_below(spread));
        entry.due = Some(Tick(now.0 + wait));
    }
}

const FIRST_RETRY_MS: u64 = 60_000;
const MOST_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const JOB: Job = Job::DcPage(0);

    /// How long the job waits after an outcome.
    fn wait(agenda: &mut Schedule, well: bool, drbg: &mut Drbg) -> u64 {
        agenda.done(JOB, well, HOUR_MS, Tick(0), drbg);
        agenda.due().unwrap().0
    }

    #[test]
    fn a_job_comes_once_per_period_and_sooner_after_a_failure() {
        let mut drbg = Drbg::new([7; 48]);
        let mut agenda = Schedule::default();
        assert_eq!(agenda.due(), None);
        agenda.add(JOB, Tick(5));
        assert_eq!(agenda.next(Tick(4)), None);
        assert_eq!(agenda.next(Tick(5)), Some(JOB));
        assert_eq!((agenda.next(Tick(HOUR_MS)), agenda.due()), (None, None), "it is under way");
        let around = |wait: u64, of: u64| (of - of / 10..=of + of / 10).contains(&wait);
        assert!(around(wait(&mut agenda, true, &mut drbg), HOUR_MS));
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(around(wait(&mut agenda, false, &mut drbg), minutes * 60_000), "{minutes}");
        }
        assert!(around(wait(&mut agenda, true, &mut drbg), HOUR_MS));
        assert!(around(wait(&mut agenda, false, &mut drbg), 60_000), "forgiven");
        for _ in 0..100 {
            wait(&mut agenda, false, &mut drbg);
        }
    }

    #[test]
    fn a_forgotten_job_never_comes_and_a_hastened_one_sooner() {
        let mut agenda = Schedule::default();
        for page in 0..3 {
            agenda.add(Job::DcPage(page), Tick(10 * page as u64));
        }
        assert_eq!(agenda.next(Tick(0)), Some(JOB));
        let gone = agenda.forget(|job| job != Job::DcPage(2));
        assert_eq!(gone, [(JOB, None), (Job::DcPage(1), Some(Tick(10)))]);
        agenda.done(JOB, true, HOUR_MS, Tick(0), &mut Drbg::new([7; 48]));
        assert_eq!(agenda.due(), Some(Tick(20)), "who ends late is not there any more");
        agenda.hasten(|_| true, Tick(15));
        agenda.hasten(|_| true, Tick(17));
        assert_eq!(agenda.due(), Some(Tick(15)));
    }

    #[test]
    fn a_short_period_bounds_the_retry_too() {
        let mut drbg = Drbg::new([7; 48]);
        let mut agenda = Schedule::default();
        agenda.add(JOB, Tick(0));
        agenda.done(JOB, false, 1_000, Tick(0), &mut drbg);
        assert!(agenda.due().unwrap().0 <= 1_100);
    }
}
