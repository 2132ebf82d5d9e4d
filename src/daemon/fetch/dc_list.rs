//! Telegram's own list of addresses (`auto-update`; spec: network 8). Only data centre 203 is taken
//! from it: the addresses of the others there are middle proxies, which speak another protocol.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::daemon::fetch::connection::FetchRoute;
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::{FetchTarget, FetchTask, TaskStep};
use crate::daemon::shared::World;
use crate::daemon::upstream::addresses;
use crate::daemon::upstream::dc_list::{DcList, LISTED_DC};
use crate::proto::dc;

/// Puts the pages on the agenda.
pub fn plan(world: &mut World) {
    let pages = world.settings.dc_list.as_ref().map_or(0, Vec::len);
    for page in 0..pages {
        world.fetch.schedule.add(Job::DcPage(page), world.time.now);
    }
}

/// Begins anew, with other pages. Returns the jobs that are not there any more.
pub fn reload(world: &mut World) -> Vec<Job> {
    let gone = world.fetch.schedule.forget(|job| matches!(job, Job::DcPage(_)));
    world.outbound.dc_list = DcList::default();
    plan(world);
    gone.into_iter().map(|(job, _)| job).collect()
}

/// Starts to fetch a page.
pub fn fetch(page: usize, world: &mut World) {
    let Some(url) = world.settings.dc_list.as_ref().and_then(|pages| pages.get(page)) else {
        return;
    };
    // A list of our own machine may name our own machine; no other may lead us there.
    let is_ours = url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let fetch = HttpGet::new(url.clone(), FetchRoute::Routes, PAGE_MAX, String::new());
    world.order(Box::new(DcListTask { page, fetch, is_ours, text: Vec::new() }));
}

struct DcListTask {
    page: usize,
    fetch: HttpGet,
    is_ours: bool,
    text: Vec<u8>,
}

impl DcListTask {
    fn addresses(&self) -> Vec<SocketAddr> {
        let text = String::from_utf8_lossy(&self.text);
        let listed =
            text.lines().filter_map(dc::parse_proxy_for).filter(|(number, _)| *number == LISTED_DC);
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for (_, addr) in listed {
            if (self.is_ours || is_public(addr.ip())) && !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs.truncate(MOST_ADDRESSES);
        addrs
    }
}

impl FetchTask for DcListTask {
    fn target(&self) -> FetchTarget {
        self.fetch.target()
    }

    fn open(&mut self) -> Vec<u8> {
        self.text.clear();
        self.fetch.question()
    }

    fn take(&mut self, bytes: &[u8]) -> TaskStep {
        let text = &mut self.text;
        self.fetch.take(bytes, &mut |piece| text.extend_from_slice(piece))
    }

    fn end(&mut self) -> TaskStep {
        self.fetch.end()
    }

    fn job(&self) -> Option<Job> {
        Some(Job::DcPage(self.page))
    }

    fn settle(self: Box<Self>, outcome: Result<(), String>, world: &mut World) {
        let addrs = if outcome.is_ok() { self.addresses() } else { Vec::new() };
        let fault = match &outcome {
            Err(why) => Some(why.as_str()),
            Ok(()) if addrs.is_empty() => Some("no address of data centre 203 in it"),
            Ok(()) => None,
        };
        match fault {
            Some(why) => {
                let line = format!("event=dc-list-failed page={} error={why:?}", self.page);
                world.telemetry.warn(format_args!("{line}"));
            }
            None => {
                let count = addrs.len();
                if world.outbound.dc_list.replace(self.page, addrs) {
                    log::info!("event=dc-list page={} dc={LISTED_DC} addresses={count}", self.page);
                }
            }
        }
        world.done(Job::DcPage(self.page), fault.is_none(), PERIOD);
    }
}

/// Whether an address can be that of a server on the internet.
fn is_public(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(addresses::is_private(ip) || ip.is_multicast() || ip.is_unspecified() || is_broadcast)
}

const PERIOD: Duration = Duration::from_secs(3_600);
const PAGE_MAX: u64 = 64 << 10;
const MOST_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::url::Url;

    #[test]
    fn only_public_addresses_of_dc_203_are_taken_unless_the_page_is_ours() {
        let url = Url::parse("http://127.0.0.1/").unwrap();
        let fetch = HttpGet::new(url, FetchRoute::Native, 1, String::new());
        let text = b"# x\nproxy_for 203 91.105.192.1:443;\nproxy_for 2 91.105.192.2:443;\n\
                     proxy_for 203 127.0.0.1:1;\nproxy_for 203 10.0.0.1:1;\n\
                     proxy_for 203 [::1]:1;\nproxy_for 203 [fd00::1]:1;\n\
                     proxy_for 203 91.105.192.1:443;\n";
        let mut errand = DcListTask { page: 0, fetch, is_ours: false, text: text.to_vec() };
        assert_eq!(errand.addresses(), ["91.105.192.1:443".parse().unwrap()]);
        errand.is_ours = true;
        assert_eq!(errand.addresses().len(), 5);
    }
}
