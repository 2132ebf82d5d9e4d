//! The allowlist and the blocklist (COMPATIBILITY 7.2). Each source keeps its last good networks
//! until new ones are complete; a source that fails changes nothing.
//!
//! `lists.rs` holds the state, `load.rs` loads sources, `cache.rs` keeps fetched ones across
//! restarts, `admission.rs` decides whether a client may connect. All file work is done in bounded
//! steps, one per round of the loop.

pub mod admission;
mod cache;
mod cache_format;
pub mod kind;
pub mod lists;
pub mod load;
pub mod reload;
pub mod work;

use std::time::Duration;

use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::schedule::JobResult;
use lists::IpLists;
use load::{IpListTask, LoadStep};
use work::FileWork;

/// The result of a step of file work.
pub enum ListEvent {
    /// A source has to be fetched.
    Fetch(Box<IpListTask>),
    /// A job has ended.
    Finished(JobResult),
}

/// Does one bounded step of the queued work. `wall` is the time since 1970.
pub fn poll(
    lists: &mut IpLists,
    wall: Duration,
    scratch: &mut [u8],
    telemetry: &mut Telemetry,
) -> Option<ListEvent> {
    let work = lists.work.pop_front()?;
    telemetry.counters.state_changed = true;
    let step = match work {
        FileWork::Open(id) => load::open(lists, id, wall, telemetry),
        FileWork::Fetch(id) => {
            return IpListTask::new(lists, id).map(|task| ListEvent::Fetch(Box::new(task)));
        }
        FileWork::Read(reading) => load::read_part(lists, reading, scratch, telemetry),
        FileWork::Sort(sorting) => load::sort_part(lists, sorting, wall, telemetry),
        FileWork::Save(id) => writing(cache::open(lists, id, telemetry)),
        FileWork::Write(part) => writing(cache::write_part(lists, part, telemetry)),
    };
    match step {
        LoadStep::Continue(work) => {
            lists.work.push_front(work);
            None
        }
        LoadStep::Finished(result) => result.map(ListEvent::Finished),
    }
}

/// Writing a copy ends no job.
fn writing(rest: Option<Box<work::CacheWriting>>) -> LoadStep {
    rest.map_or(LoadStep::Finished(None), |rest| LoadStep::Continue(FileWork::Write(rest)))
}
