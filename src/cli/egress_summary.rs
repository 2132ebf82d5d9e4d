//! What a config makes the program ask of the outside, in two lines for `mtbox check`. Names no
//! password and no path, since either may be secret.

use std::time::Duration;

use crate::config::settings::{ListSettings, ListSource, NameServer, Settings, UpstreamSettings};
use crate::proto::url::Url;

/// Whom it asks for names and the way to Telegram, then what it visits by itself.
pub fn lines(settings: &Settings) -> [String; 2] {
    let visits = visits(settings);
    let visits = if visits.is_empty() { "nothing".to_owned() } else { visits.join(", ") };
    [
        format!("names: {}; Telegram: {}\n", names(&settings.dns.server), way(&settings.upstreams)),
        format!("visits by itself: {visits}\n"),
    ]
}

fn names(server: &NameServer) -> String {
    match server {
        NameServer::System => "the system's servers".to_owned(),
        NameServer::Udp(addr) => format!("{addr} over UDP and TCP"),
        NameServer::Tls { host, port } => format!("{} over TLS", place(host, *port)),
        NameServer::Https(url) => format!("{} over HTTPS", place(&url.host, url.port_or(443))),
    }
}

fn way(routes: &[UpstreamSettings]) -> String {
    let one = |route: &UpstreamSettings| match route {
        UpstreamSettings::Direct => "directly".to_owned(),
        UpstreamSettings::Socks5(proxy) => format!("through {}", place(&proxy.host, proxy.port)),
    };
    match routes {
        [] => "directly".to_owned(),
        routes => routes.iter().map(one).collect::<Vec<_>>().join(" or "),
    }
}

fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn visits(settings: &Settings) -> Vec<String> {
    let mut visits = Vec::new();
    let raid = spoken(settings.page_timing.interval);
    if settings.front.probe {
        let front = settings.front.host.as_ref();
        let site = front.map(|host| place(host, settings.front.port));
        visits.push(format!("{} every {raid}", site.as_deref().unwrap_or("the secrets' hosts")));
    }
    let pages = &settings.page_timing.pages;
    if !pages.is_empty() {
        visits.push(format!("{} every {raid}", hosts(pages.iter())));
    }
    for (name, list) in [("blocklist", &settings.blocklist), ("allowlist", &settings.allowlist)] {
        visits.extend(list.as_ref().and_then(|list| fetched(name, list)));
    }
    if let Some(pages) = &settings.dc_list {
        visits.push(format!("{} every {}", hosts(pages.iter()), spoken(DC_LIST_EACH)));
    }
    visits
}

fn fetched(name: &str, list: &ListSettings) -> Option<String> {
    let web = list.sources.iter().filter_map(|source| match source {
        ListSource::Web(url) => Some(url),
        ListSource::File(_) => None,
    });
    let hosts = hosts(web);
    let every = spoken(list.interval);
    (!hosts.is_empty()).then(|| format!("{hosts} ({name}) every {every}"))
}

/// Each host once.
fn hosts<'a>(urls: impl Iterator<Item = &'a Url>) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    for url in urls {
        if !hosts.contains(&url.host.as_str()) {
            hosts.push(&url.host);
        }
    }
    hosts.join(" and ")
}

/// In the largest unit that fits, as the file takes it.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// The reference's (spec: config 4.1, `auto-update`).
const DC_LIST_EACH: Duration = Duration::from_secs(3600);
