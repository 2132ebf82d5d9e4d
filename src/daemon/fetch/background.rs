//! The tasks that the daemon runs in the background.

use std::time::Duration;

use crate::daemon::fetch::dc_list::DcListTask;
use crate::daemon::fetch::front_probe::FrontProbeTask;
use crate::daemon::fetch::ip_lists::load::IpListTask;
#[cfg(feature = "tls")]
use crate::daemon::fetch::page_timing::PageTimingTask;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::task::{FetchTarget, FetchTask, TaskStep, WireEvent};

/// One task of the daemon.
pub enum BackgroundTask {
    /// Telegram's list of data centre addresses.
    DcList(Box<DcListTask>),
    /// A source of an IP list.
    IpList(Box<IpListTask>),
    /// A probe of a front.
    FrontProbe(Box<FrontProbeTask>),
    /// The timing of a page.
    #[cfg(feature = "tls")]
    PageTiming(Box<PageTimingTask>),
}

impl BackgroundTask {
    /// The job that the task belongs to. A reload that removes the job cancels the task.
    pub fn job(&self) -> Job {
        match self {
            Self::DcList(task) => task.job(),
            Self::IpList(task) => task.job(),
            Self::FrontProbe(task) => task.job(),
            #[cfg(feature = "tls")]
            Self::PageTiming(task) => task.job(),
        }
    }

    fn task(&self) -> &dyn FetchTask {
        match self {
            Self::DcList(task) => &**task,
            Self::IpList(task) => &**task,
            Self::FrontProbe(task) => &**task,
            #[cfg(feature = "tls")]
            Self::PageTiming(task) => &**task,
        }
    }

    fn task_mut(&mut self) -> &mut dyn FetchTask {
        match self {
            Self::DcList(task) => &mut **task,
            Self::IpList(task) => &mut **task,
            Self::FrontProbe(task) => &mut **task,
            #[cfg(feature = "tls")]
            Self::PageTiming(task) => &mut **task,
        }
    }
}

impl FetchTask for BackgroundTask {
    fn target(&self) -> FetchTarget {
        self.task().target()
    }

    fn preface(&self) -> Vec<u8> {
        self.task().preface()
    }

    fn request(&mut self) -> Vec<u8> {
        self.task_mut().request()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        self.task_mut().push_bytes(bytes)
    }

    fn finish(&mut self) -> TaskStep {
        self.task_mut().finish()
    }

    fn observe(&mut self, event: WireEvent<'_>, at_us: u64) {
        self.task_mut().observe(event, at_us);
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.task().idle_timeout()
    }
}
