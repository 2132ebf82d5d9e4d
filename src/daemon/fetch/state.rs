//! The state of the background fetches.

use crate::daemon::fetch::background::BackgroundTask;
use crate::daemon::fetch::front_probe::FrontProbes;
#[cfg(feature = "tls")]
use crate::daemon::fetch::page_timing::PageRounds;
use crate::daemon::fetch::runner::TaskQueue;
use crate::daemon::fetch::schedule::Schedule;

/// The schedule, the queue, and the state of periodic probes.
pub struct FetchState {
    /// When each job is due.
    pub schedule: Schedule,
    /// Tasks that wait for a free slot.
    pub queue: TaskQueue<BackgroundTask>,
    /// The state of the front probes.
    pub front_probes: FrontProbes,
    /// The state of the page timings.
    #[cfg(feature = "tls")]
    pub page_rounds: PageRounds,
}

impl FetchState {
    /// Nothing is scheduled yet.
    pub fn new(hosts: usize) -> Self {
        Self {
            schedule: Schedule::default(),
            queue: TaskQueue::default(),
            front_probes: FrontProbes::new(hosts),
            #[cfg(feature = "tls")]
            page_rounds: PageRounds::default(),
        }
    }
}
