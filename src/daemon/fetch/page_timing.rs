//! Visits to web pages, to learn a pace from them (`[defense.doppelganger] urls`; spec: protocol
//! 12.3). What the page says is thrown away; when its records came is all that counts.

use std::time::Duration;

use crate::daemon::fetch::connection::FetchRoute;
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::{FetchTarget, FetchTask, TaskStep, WireEvent};
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::mimicry::calibrate::Fit;
use crate::mimicry::page_timing::PageTiming;
use crate::mimicry::shaper::Pace;

/// Puts the pages on the agenda. Without a shape there is no pace to learn.
pub fn plan(world: &mut World) {
    let pages = world.settings.shape.map_or(0, |_| world.settings.page_timing.pages.len());
    world.fetch.page_visits = vec![0; pages];
    for page in 0..pages {
        let wait = u64::from(world.drbg.u32_below(APART_MS));
        world
            .fetch
            .schedule
            .add(Job::Visit(page), Tick(world.time.now.0 + page as u64 * 1_000 + wait));
    }
}

/// Begins anew, with other pages; what was learned from those of before goes with them. Returns
/// the jobs that are not there any more.
pub fn reload(world: &mut World) -> Vec<Job> {
    let gone = world.fetch.schedule.forget(|job| matches!(job, Job::Visit(_)));
    (world.mimicry.pace, world.mimicry.fit) = (Pace::default(), Fit::default());
    plan(world);
    gone.into_iter().map(|(job, _)| job).collect()
}

/// Starts a visit.
pub fn visit(page: usize, world: &mut World) {
    let Some(url) = world.settings.page_timing.pages.get(page) else { return };
    let (host, url) = (url.host.clone(), url.clone());
    let fetch = HttpGet::new(url, FetchRoute::Native, PAGE_MAX, String::new());
    let (visit, is_heard) = (PageTiming::default(), false);
    world.order(Box::new(PageTimingTask { page, host, fetch, visit, is_heard }));
}

struct PageTimingTask {
    page: usize,
    host: String,
    fetch: HttpGet,
    visit: PageTiming,
    /// The server, whose certificate is good, has begun to answer.
    is_heard: bool,
}

impl FetchTask for PageTimingTask {
    fn target(&self) -> FetchTarget {
        self.fetch.target()
    }

    fn open(&mut self) -> Vec<u8> {
        self.fetch.question()
    }

    fn watch(&mut self, sight: WireEvent<'_>, at_us: u64) {
        match sight {
            // After a redirect it is another server that counts.
            WireEvent::Start => (self.visit, self.is_heard) = (PageTiming::default(), false),
            WireEvent::Bytes(bytes) => self.visit.received(bytes, at_us),
            WireEvent::Sent => self.visit.client_sent(),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> TaskStep {
        self.is_heard = true;
        self.fetch.take(bytes, &mut |_| {})
    }

    fn end(&mut self) -> TaskStep {
        self.fetch.end()
    }

    fn job(&self) -> Option<Job> {
        Some(Job::Visit(self.page))
    }

    fn settle(self: Box<Self>, outcome: Result<(), String>, world: &mut World) {
        let Self { page, host, visit, is_heard, .. } = *self;
        // A page that is cut off or too long has shown its pace all the same.
        if let (Err(why), false) = (&outcome, is_heard) {
            let line = format!("event=page-timing-failed page={page} error={why:?}");
            world.telemetry.warn(format_args!("{line}"));
        } else {
            if let Some(host) = world.accounts.users.find_host(host.as_bytes()) {
                world.mimicry.profiles.get_mut(host).learn_page_flight(visit.flight_len());
            }
            let gaps = visit.into_gaps();
            log::debug!("event=page-timing page={page} records={}", gaps.len());
            world.mimicry.fit.learn(gaps);
        }
        let mut period = world.settings.page_timing.interval;
        if let Some(visits) = world.fetch.page_visits.get_mut(page) {
            *visits = if is_heard { *visits + 1 } else { 0 };
            if is_heard && *visits < world.settings.page_timing.repeats {
                period = period.min(BETWEEN);
            } else {
                *visits = 0;
            }
        }
        world.done(Job::Visit(page), is_heard, period);
    }
}

/// More of a page tells nothing new about its pace.
const PAGE_MAX: u64 = 4 << 20;
const APART_MS: u32 = 500;
const BETWEEN: Duration = Duration::from_secs(1);
