//! What is to be fetched, and when.

use std::collections::VecDeque;

use crate::daemon::fetch::FetchTask;
use crate::daemon::fetch::front_probe::FrontProbes;
use crate::daemon::fetch::schedule::Schedule;

/// The background fetches of the daemon.
pub struct FetchState {
    /// What has to be fetched when.
    pub schedule: Schedule,
    /// Tasks that wait for a free place.
    pub queue: VecDeque<Box<dyn FetchTask>>,
    /// How far the probes of each front have come.
    pub front_probes: FrontProbes,
    /// Visits of the present round to each page whose pace is learned.
    #[cfg(feature = "tls")]
    pub page_visits: Vec<u32>,
}

impl FetchState {
    /// Nothing is scheduled yet.
    pub fn new(hosts: usize) -> Self {
        Self {
            schedule: Schedule::default(),
            queue: VecDeque::new(),
            front_probes: FrontProbes::new(hosts),
            #[cfg(feature = "tls")]
            page_visits: Vec::new(),
        }
    }
}
