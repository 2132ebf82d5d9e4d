//! The outgoing connections that a config causes, in two lines for `mtbox check`. Contains no
//! password and no URL path, which may be secret.

use std::time::Duration;

use crate::config::settings::{ListSettings, ListSource, NameServer, Settings, UpstreamSettings};
use crate::proto::url::Url;
use crate::util::host_port::HostPort;

/// One line about DNS and Telegram, one about periodic fetches.
pub(super) fn lines(settings: &Settings) -> [String; 2] {
    let fetches = fetches(settings);
    let fetches = if fetches.is_empty() { "nothing".to_owned() } else { fetches.join(", ") };
    let (dns, upstreams) = (dns(&settings.dns.server), upstreams(&settings.upstreams));
    [format!("DNS: {dns}; Telegram: {upstreams}\n"), format!("fetches: {fetches}\n")]
}

fn dns(server: &NameServer) -> String {
    match server {
        NameServer::System => "the system's servers".to_owned(),
        NameServer::Udp(addr) => format!("{addr} over UDP and TCP"),
        NameServer::Tls(server) => format!("{server} over TLS"),
        NameServer::Https(url) => format!(
            "{} over HTTPS (HTTP/1.1; for a server that speaks HTTP/2 only, use tls://)",
            url.server(HTTPS_PORT)
        ),
    }
}

fn upstreams(upstreams: &[UpstreamSettings]) -> String {
    let one = |upstream: &UpstreamSettings| match upstream {
        UpstreamSettings::Direct => "directly".to_owned(),
        UpstreamSettings::Socks5(proxy) => format!("through {}", proxy.server),
    };
    match upstreams {
        [] => "directly".to_owned(),
        upstreams => upstreams.iter().map(one).collect::<Vec<_>>().join(" or "),
    }
}

fn fetches(settings: &Settings) -> Vec<String> {
    let mut fetches = Vec::new();
    let every = interval(settings.page_timing.interval);
    if settings.front.probe {
        let front = settings.front.host.as_ref();
        let front = front.map(|host| HostPort::new(host, settings.front.port).to_string());
        fetches.push(format!("{} every {every}", front.as_deref().unwrap_or("the secrets' hosts")));
    }
    let pages = &settings.page_timing.pages;
    if !pages.is_empty() {
        fetches.push(format!("{} every {every}", hosts(pages.iter())));
    }
    for (name, list) in [("blocklist", &settings.blocklist), ("allowlist", &settings.allowlist)] {
        fetches.extend(list.as_ref().and_then(|list| list_fetches(name, list)));
    }
    if let Some(pages) = &settings.dc_list {
        fetches.push(format!("{} every {}", hosts(pages.iter()), interval(DC_LIST_INTERVAL)));
    }
    fetches
}

/// `None` = all sources are local files.
fn list_fetches(name: &str, list: &ListSettings) -> Option<String> {
    let urls = list.sources.iter().filter_map(|source| match source {
        ListSource::Web(url) => Some(url),
        ListSource::File(_) => None,
    });
    let hosts = hosts(urls);
    (!hosts.is_empty()).then(|| format!("{hosts} ({name}) every {}", interval(list.interval)))
}

/// The distinct hosts of the URLs.
fn hosts<'a>(urls: impl Iterator<Item = &'a Url>) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    for url in urls {
        if !hosts.contains(&url.host.as_str()) {
            hosts.push(&url.host);
        }
    }
    hosts.join(" and ")
}

/// In the syntax of the config file, in the largest unit that gives a whole number.
fn interval(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// That of mtg-multi (COMPATIBILITY 3.4.1, `auto-update`).
const DC_LIST_INTERVAL: Duration = Duration::from_secs(3600);
const HTTPS_PORT: u16 = 443;
