//! Fetches web pages to learn the timing of their records (`[defense.doppelganger] urls`; PROTOCOL
//! 12.3). The pages themselves are discarded.

use std::time::Duration;

use crate::accounts::users::Users;
use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::schedule::{Job, JobResult, Schedule};
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep, WireEvent};
use crate::daemon::upstream::connect::target::Route;
use crate::io::clock::Tick;
use crate::io::logger::{event, fields};
use crate::mimicry::Mimicry;
use crate::mimicry::calibrate::Fit;
use crate::mimicry::page_timing::PageTiming;
use crate::mimicry::shaper::Pace;
use crate::util::drbg::Drbg;

/// Fetches of each page in the current round.
#[derive(Default)]
pub struct PageRounds {
    fetches: Vec<u32>,
}

impl PageRounds {
    /// Counts a fetch. Returns whether more fetches of this round follow.
    fn count(&mut self, page: usize, is_ok: bool, repeats: u32) -> bool {
        let Some(fetches) = self.fetches.get_mut(page) else { return false };
        *fetches = if is_ok { *fetches + 1 } else { 0 };
        let has_more = is_ok && *fetches < repeats;
        if !has_more {
            *fetches = 0;
        }
        has_more
    }
}

/// Schedules the pages. Without traffic shaping there are none, since only it uses their timing.
pub fn plan(
    settings: &Settings,
    rounds: &mut PageRounds,
    schedule: &mut Schedule,
    drbg: &mut Drbg,
    now: Tick,
) {
    let pages = settings.shape.map_or(0, |_| settings.page_timing.pages.len());
    rounds.fetches = vec![0; pages];
    for page in 0..pages {
        let random = Duration::from_millis(drbg.u32_below(RANDOM_MS).into());
        schedule.add(Job::PageTiming(page), now + APART * page as u32 + random);
    }
}

/// Drops the timing of the old pages. Returns the jobs that were removed.
pub fn reload(mimicry: &mut Mimicry, schedule: &mut Schedule) -> Vec<Job> {
    let removed = schedule.remove(&|job| matches!(job, Job::PageTiming(_)));
    (mimicry.pace, mimicry.fit) = (Pace::default(), Fit::default());
    removed.into_iter().map(|(job, _)| job).collect()
}

/// Fetches one page.
pub struct PageTimingTask {
    page: usize,
    host: String,
    get: HttpGet,
    timing: PageTiming,
    /// The server has a valid certificate and has begun to answer.
    has_answered: bool,
}

impl PageTimingTask {
    /// The task for the page with this index.
    pub fn new(page: usize, settings: &Settings) -> Option<Self> {
        let url = settings.page_timing.pages.get(page)?.clone();
        let host = url.host.clone();
        let get = HttpGet::new(url, Route::Native, PAGE_MAX, String::new());
        Some(Self { page, host, get, timing: PageTiming::default(), has_answered: false })
    }

    /// The job that the task belongs to.
    pub fn job(&self) -> Job {
        Job::PageTiming(self.page)
    }

    /// Adds the timing of the page to the fit and to the front's profile.
    pub fn apply(
        self,
        outcome: Result<(), FetchError>,
        settings: &Settings,
        users: &Users,
        rounds: &mut PageRounds,
        mimicry: &mut Mimicry,
        telemetry: &mut Telemetry,
    ) -> JobResult {
        let job = self.job();
        let Self { page, host, timing, has_answered, .. } = self;
        // A page that is cut off or too long still has a timing.
        if let (Err(why), false) = (&outcome, has_answered) {
            let why = why.to_string();
            telemetry.warn(fields!("page-timing-failed", page = %page, error = ?why));
        } else {
            if let Some(host) = users.find_host(host.as_bytes()) {
                mimicry.profiles.get_mut(host).learn_page_flight(timing.flight_len());
            }
            let gaps = timing.into_gaps();
            event!(Debug, "page-timing", page = %page, records = gaps.len());
            mimicry.fit.learn(gaps);
        }
        let (period, repeats) = (settings.page_timing.interval, settings.page_timing.repeats);
        let has_more = rounds.count(page, has_answered, repeats);
        let period = if has_more { period.min(BETWEEN) } else { period };
        JobResult { job, is_ok: has_answered, period }
    }
}

impl FetchTask for PageTimingTask {
    fn target(&self) -> FetchTarget {
        self.get.target()
    }

    fn request(&mut self) -> Vec<u8> {
        self.get.request()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        self.has_answered = true;
        self.get.push_bytes(bytes, &mut |_| {})
    }

    fn finish(&mut self) -> TaskStep {
        self.get.finish()
    }

    fn observe(&mut self, event: WireEvent<'_>, at_us: u64) {
        match event {
            // After a redirect, only the new server counts.
            WireEvent::Start => {
                (self.timing, self.has_answered) = (PageTiming::default(), false);
            }
            WireEvent::Bytes(bytes) => self.timing.received(bytes, at_us),
            WireEvent::Sent => self.timing.client_sent(),
        }
    }
}

/// The rest of a longer page would add nothing to its timing.
const PAGE_MAX: u64 = 4 << 20;
/// Between the first fetches of two pages.
const APART: Duration = Duration::from_secs(1);
const RANDOM_MS: u32 = 500;
const BETWEEN: Duration = Duration::from_secs(1);
