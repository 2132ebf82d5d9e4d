//! Fetches Telegram's published list of addresses (`auto-update`; COMPATIBILITY 5.8). Only data
//! centre 203 is read from it, see [`LISTED_DC`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::schedule::{Job, JobResult, Schedule};
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep};
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::connect::target::Route;
use crate::daemon::upstream::dc_list::{DcList, LISTED_DC};
use crate::io::clock::Tick;
use crate::io::logger::{event, fields};
use crate::proto::dc;

/// Schedules the pages.
pub fn plan(settings: &Settings, schedule: &mut Schedule, now: Tick) {
    let pages = settings.dc_list.as_ref().map_or(0, Vec::len);
    for page in 0..pages {
        schedule.add(Job::DcPage(page), now);
    }
}

/// Drops all listed addresses and schedules the pages of new settings. Returns the jobs that
/// were removed.
pub fn reload(
    settings: &Settings,
    list: &mut DcList,
    schedule: &mut Schedule,
    now: Tick,
) -> Vec<Job> {
    let removed = schedule.remove(&|job| matches!(job, Job::DcPage(_)));
    *list = DcList::default();
    plan(settings, schedule, now);
    removed.into_iter().map(|(job, _)| job).collect()
}

/// Fetches one page.
pub struct DcListTask {
    page: usize,
    get: HttpGet,
    /// The page is served by this machine.
    is_local: bool,
    text: Vec<u8>,
}

impl DcListTask {
    /// The task for the page with this index.
    pub fn new(page: usize, settings: &Settings) -> Option<Self> {
        let url = settings.dc_list.as_ref()?.get(page)?;
        // Only a list of this machine may contain addresses of this machine.
        let is_local = url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let get = HttpGet::new(url.clone(), Route::Upstreams, PAGE_MAX, String::new());
        Some(Self { page, get, is_local, text: Vec::new() })
    }

    /// The job that the task belongs to.
    pub fn job(&self) -> Job {
        Job::DcPage(self.page)
    }

    /// Stores the addresses of the page. A page that failed or is empty changes nothing.
    pub fn apply(
        self,
        outcome: Result<(), FetchError>,
        list: &mut DcList,
        telemetry: &mut Telemetry,
    ) -> JobResult {
        let (job, page) = (self.job(), self.page);
        let outcome = outcome.and_then(|()| {
            let addrs = self.addresses();
            let why = FetchError::response("no address of data centre 203 on the page");
            if addrs.is_empty() { Err(why) } else { Ok(addrs) }
        });
        let is_ok = outcome.is_ok();
        match outcome {
            Ok(addrs) => {
                let count = addrs.len();
                if list.replace(page, addrs) {
                    event!(Info, "dc-list", page = %page, dc = LISTED_DC, addresses = count);
                }
            }
            Err(why) => {
                let why = why.to_string();
                telemetry.warn(fields!("dc-list-failed", page = %page, error = ?why));
            }
        }
        JobResult { job, is_ok, period: PERIOD }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let text = String::from_utf8_lossy(&self.text);
        let listed =
            text.lines().filter_map(dc::parse_proxy_for).filter(|(number, _)| *number == LISTED_DC);
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for (_, addr) in listed {
            if (self.is_local || addresses::is_public(addr.ip())) && !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs.truncate(MAX_ADDRESSES);
        addrs
    }
}

impl FetchTask for DcListTask {
    fn target(&self) -> FetchTarget {
        self.get.target()
    }

    fn request(&mut self) -> Vec<u8> {
        self.text.clear();
        self.get.request()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let text = &mut self.text;
        self.get.push_bytes(bytes, &mut |piece| text.extend_from_slice(piece))
    }

    fn finish(&mut self) -> TaskStep {
        self.get.finish()
    }
}

const PERIOD: Duration = Duration::from_secs(3_600);
const PAGE_MAX: u64 = 64 << 10;
const MAX_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::url::Url;

    #[test]
    fn only_public_addresses_of_dc_203_are_taken_unless_the_page_is_local() {
        let url = Url::parse("http://127.0.0.1/").unwrap();
        let get = HttpGet::new(url, Route::Native, 1, String::new());
        let text = b"# x\nproxy_for 203 91.105.192.1:443;\nproxy_for 2 91.105.192.2:443;\n\
                     proxy_for 203 127.0.0.1:1;\nproxy_for 203 10.0.0.1:1;\n\
                     proxy_for 203 [::1]:1;\nproxy_for 203 [fd00::1]:1;\n\
                     proxy_for 203 91.105.192.1:443;\n";
        let mut task = DcListTask { page: 0, get, is_local: false, text: text.to_vec() };
        assert_eq!(task.addresses(), ["91.105.192.1:443".parse().unwrap()]);
        task.is_local = true;
        assert_eq!(task.addresses().len(), 5);
    }
}
