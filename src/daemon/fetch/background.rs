//! The tasks that the daemon runs in the background.

use crate::daemon::fetch::dc_list::DcListTask;
use crate::daemon::fetch::front_probe::FrontProbeTask;
use crate::daemon::fetch::ip_lists::load::IpListTask;
#[cfg(feature = "tls")]
use crate::daemon::fetch::page_timing::PageTimingTask;
use crate::daemon::fetch::runner::HasTask;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::task::FetchTask;

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
}

impl HasTask for BackgroundTask {
    fn task(&mut self) -> &mut dyn FetchTask {
        match self {
            Self::DcList(task) => &mut **task,
            Self::IpList(task) => &mut **task,
            Self::FrontProbe(task) => &mut **task,
            #[cfg(feature = "tls")]
            Self::PageTiming(task) => &mut **task,
        }
    }
}
