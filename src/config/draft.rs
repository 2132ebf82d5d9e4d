//! The settings while they are being read: every key is still optional. [`Draft::settle`] fills
//! in the defaults, judges what concerns more than one key, and makes [`Settings`] of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::report::{Report, shown};
use super::settings::{
    DnsSettings, EgressSettings, FrontSettings, KeepAlive, ListSettings, ListSource, NameServer,
    Network, PreferIp, ProxyProtocolSettings, RaidSettings, ReplaySettings, Route, Settings,
    ShapeSettings, ThrottleSettings, Timeouts, UserSettings,
};
use super::{HAS_TLS, urls};
use crate::proto::secret::Secret;
use crate::proto::url::Url;

/// One field for each key that decides something; `None` = not given.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct Draft {
    pub secret: Option<Placed>,
    /// A secret was given, be it good or bad.
    pub secret_seen: bool,
    pub secrets: BTreeMap<String, Placed>,
    pub binds: Option<Vec<SocketAddr>>,
    pub api_bind: Option<SocketAddr>,
    pub debug: bool,
    pub concurrency: Option<u32>,
    pub prefer_ip: Option<PreferIp>,
    pub public_ipv4: Option<IpAddr>,
    pub public_ipv6: Option<IpAddr>,
    pub time_skew: Option<Duration>,
    pub fallback_on_unknown_dc: bool,
    pub front_host: Option<String>,
    pub front_port: Option<u16>,
    pub old_front_port: Option<u16>,
    pub max_connections: Option<u32>,
    pub check_interval: Option<Duration>,
    pub dns: Option<NameServer>,
    pub doh_ip: Option<IpAddr>,
    pub dns_bootstrap: Option<IpAddr>,
    pub routes: Vec<Route>,
    pub device: Option<String>,
    pub source_addrs: Vec<IpAddr>,
    pub mark: Option<u32>,
    pub congestion: Option<String>,
    pub max_segment: Option<u16>,
    pub multipath: bool,
    pub reuse_port: bool,
    pub ca_file: Option<PathBuf>,
    pub proxy_protocol: bool,
    pub trusted: Vec<Network>,
    pub front_proxy_protocol: bool,
    pub scout: Option<bool>,
    pub mimic_latency: bool,
    pub auto_update: bool,
    pub dc_list: Option<Vec<Url>>,
    pub timeout_http: Option<Duration>,
    pub cache_dir: Option<PathBuf>,
    pub blocklist: ListDraft,
    pub allowlist: ListDraft,
    pub shape: Option<bool>,
    pub shape_always: bool,
    pub drs: bool,
    pub pages: Vec<Url>,
    pub repeats: Option<u32>,
    pub raid_each: Option<Duration>,
    pub not_sent_lowat: Option<u64>,
    pub re_encrypt: bool,
    pub moderation_off: bool,
    pub timeout_tcp: Option<Duration>,
    pub timeout_idle: Option<Duration>,
    pub timeout_handshake: Option<Duration>,
    pub keep_alive_disabled: bool,
    pub keep_alive_idle: Option<Duration>,
    pub keep_alive_interval: Option<Duration>,
    pub keep_alive_count: Option<u32>,
    pub replay: Option<bool>,
    pub replay_bytes: Option<u64>,
    pub dc_overrides: BTreeMap<u16, Vec<SocketAddr>>,
    pub buffer_bytes: Option<u64>,
    pub log_addresses: bool,
}

/// `[defense.blocklist]` or `[defense.allowlist]`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct ListDraft {
    pub enabled: bool,
    pub sources: Vec<ListSource>,
    pub concurrency: Option<u32>,
    pub every: Option<Duration>,
}

impl ListDraft {
    fn settle(self) -> Option<ListSettings> {
        self.enabled.then(|| ListSettings {
            sources: self.sources,
            concurrency: self.concurrency.unwrap_or(1),
            every: self.every.unwrap_or(LIST_EACH).max(LEAST_PERIOD),
        })
    }
}

/// A secret and the byte offset where the file has it.
#[derive(Debug)]
pub struct Placed {
    /// The secret.
    pub secret: Secret,
    /// Its offset in bytes.
    pub at: usize,
}

impl Draft {
    /// Makes settings of the draft; `None` if the report holds an error, old or new.
    pub fn settle(mut self, report: &mut Report) -> Option<Settings> {
        let users = self.users(report);
        let binds = self.binds.take().unwrap_or_else(|| {
            report.error(0, NO_BIND);
            Vec::new()
        });
        let dns = self.dns(report);
        let dc_list = self.dc_list(report);
        if self.allowlist.enabled && self.allowlist.sources.is_empty() {
            report.error(0, EMPTY_ALLOWLIST);
        }
        if self.blocklist.enabled && self.blocklist.sources.is_empty() {
            report.warn(0, EMPTY_BLOCKLIST);
        }
        if report.has_errors() {
            return None;
        }
        let replay = self
            .replay
            .unwrap_or(true)
            .then_some(ReplaySettings { max_bytes: self.replay_bytes.unwrap_or(REPLAY_BYTES) });
        let time_skew = if replay.is_some() { SKEW_WITH_REPLAY_STORE } else { SKEW_WITHOUT };
        let throttle = self.max_connections.filter(|most| *most > 0).map(|max_connections| {
            let check_interval = self.check_interval.unwrap_or(CHECK_INTERVAL);
            ThrottleSettings { max_connections, check_interval }
        });
        let not_sent_lowat = self.not_sent_lowat.unwrap_or(NOT_SENT_LOWAT);
        Some(Settings {
            users,
            binds,
            api_bind: self.api_bind,
            debug: self.debug,
            concurrency: self.concurrency.unwrap_or(CONCURRENCY),
            prefer_ip: self.prefer_ip.unwrap_or(PreferIp::PreferIpv6),
            public_ipv4: self.public_ipv4,
            public_ipv6: self.public_ipv6,
            time_skew: self.time_skew.unwrap_or(time_skew),
            fallback_on_unknown_dc: self.fallback_on_unknown_dc,
            front: FrontSettings {
                host: self.front_host,
                port: self.front_port.or(self.old_front_port).unwrap_or(FRONT_PORT),
                proxy_protocol: self.front_proxy_protocol,
                scout: self.scout.unwrap_or(true),
                mimic_latency: self.mimic_latency,
            },
            throttle,
            timeouts: Timeouts {
                tcp: self.timeout_tcp.unwrap_or(TIMEOUT_TCP),
                http: self.timeout_http.unwrap_or(TIMEOUT_HTTP),
                idle: self.timeout_idle.unwrap_or(TIMEOUT_IDLE),
                handshake: self.timeout_handshake.unwrap_or(TIMEOUT_HANDSHAKE),
            },
            keep_alive: KeepAlive {
                enabled: !self.keep_alive_disabled,
                idle: whole_seconds(self.keep_alive_idle.unwrap_or(KEEP_ALIVE)),
                interval: whole_seconds(self.keep_alive_interval.unwrap_or(KEEP_ALIVE)),
                count: self.keep_alive_count.unwrap_or(KEEP_ALIVE_COUNT),
            },
            not_sent_lowat: u32::try_from(not_sent_lowat).ok().filter(|bytes| *bytes > 0),
            re_encrypt: self.re_encrypt,
            moderation: !self.moderation_off,
            replay,
            dc_overrides: self.dc_overrides.into_iter().collect(),
            dns: DnsSettings { server: dns, bootstrap: self.dns_bootstrap },
            // Nothing but direct ways is no list of proxies.
            routes: match self.routes.iter().any(|route| matches!(route, Route::Socks5(_))) {
                true => self.routes,
                false => Vec::new(),
            },
            egress: EgressSettings {
                device: self.device,
                addrs: self.source_addrs,
                mark: self.mark,
            },
            congestion: self.congestion,
            max_segment: self.max_segment,
            multipath: self.multipath,
            reuse_port: self.reuse_port,
            proxy_protocol: self
                .proxy_protocol
                .then_some(ProxyProtocolSettings { trusted: self.trusted }),
            dc_list,
            blocklist: self.blocklist.settle().filter(|list| !list.sources.is_empty()),
            allowlist: self.allowlist.settle(),
            cache_dir: self.cache_dir,
            shape: self
                .shape
                .unwrap_or(true)
                .then_some(ShapeSettings { always: self.shape_always, drs: self.drs }),
            raids: RaidSettings {
                pages: self.pages,
                repeats: self.repeats.unwrap_or(RAID_REPEATS),
                every: self.raid_each.unwrap_or(RAID_EACH).max(LEAST_PERIOD),
            },
            ca_file: self.ca_file,
            buffer_bytes: self.buffer_bytes,
            log_addresses: self.log_addresses,
        })
    }

    /// `dns` wins over `doh-ip`.
    fn dns(&mut self, report: &mut Report) -> NameServer {
        let old = self.doh_ip.map(urls::doh_at);
        match (self.dns.take(), old) {
            (Some(server), _) | (None, Some(Ok(server))) => server,
            (None, Some(Err(fault))) => {
                report.error(0, format!("network.doh-ip: {fault}"));
                NameServer::System
            }
            (None, None) => NameServer::System,
        }
    }

    /// The pages of `auto-update`.
    fn dc_list(&mut self, report: &mut Report) -> Option<Vec<Url>> {
        if !self.auto_update {
            return None;
        }
        let pages = self.dc_list.take();
        let pages =
            pages.unwrap_or_else(|| DC_LIST.iter().copied().filter_map(Url::parse).collect());
        if !HAS_TLS && pages.iter().any(|page| page.scheme == "https") {
            report.error(0, format!("auto-update: {}", urls::WITHOUT_TLS));
        }
        Some(pages)
    }

    /// `[secrets]` with at least one entry wins over `secret` (spec: config 3).
    fn users(&mut self, report: &mut Report) -> Vec<UserSettings> {
        let mut placed = std::mem::take(&mut self.secrets);
        match self.secret.take() {
            Some(single) if placed.is_empty() => {
                placed.insert(SINGLE_USER.to_string(), single);
            }
            Some(single) => {
                report.warn(single.at, "secret: has no effect beside [secrets]; delete this line");
            }
            None if placed.is_empty() && !self.secret_seen => report.error(0, NO_USER),
            None => {}
        }
        judge(&placed, report);
        let user = |(name, Placed { secret, .. })| UserSettings { name, secret };
        placed.into_iter().map(user).collect()
    }
}

/// Refuses keys that protect nothing; warns of hosts no client takes, and of twins.
fn judge(placed: &BTreeMap<String, Placed>, report: &mut Report) {
    let mut owners: BTreeMap<(&[u8; 16], &[u8]), &str> = BTreeMap::new();
    for (name, Placed { secret, at }) in placed {
        if secret.is_weak() {
            report.error(*at, format!("{}: an all-zero key is no secret; {REMEDY}", shown(name)));
        }
        if let Some(fault) = secret.host_fault() {
            report.warn(*at, format!("{}: clients may refuse this secret: {fault}", shown(name)));
        }
        match owners.entry((secret.key(), secret.host())) {
            Entry::Vacant(place) => {
                place.insert(name);
            }
            Entry::Occupied(first) => {
                let (name, first) = (shown(name), shown(first.get()));
                let text =
                    format!("{name}: same secret as {first}, who gets its traffic; {REMEDY}");
                report.warn(*at, text);
            }
        }
    }
}

/// The kernel counts whole seconds and refuses none at all.
fn whole_seconds(time: Duration) -> Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(up))
}

/// The name that the user of a lone `secret` gets.
pub const SINGLE_USER: &str = "default";

const NO_BIND: &str =
    "bind-to: missing; add a line bind-to = \"0.0.0.0:443\" above the first [table]";
const NO_USER: &str = "no user; add [secrets] at the end of the file, with a line \
                       NAME = \"SECRET\" (`mtbox generate-secret HOST` makes secrets)";
const EMPTY_ALLOWLIST: &str = "defense.allowlist.enabled: nobody could connect; name a list in \
                               defense.allowlist.urls";
const EMPTY_BLOCKLIST: &str = "defense.blocklist.enabled: nobody is blocked; name a list in \
                               defense.blocklist.urls";
const REMEDY: &str = "make another with `mtbox generate-secret HOST`";

const CONCURRENCY: u32 = 4096;
const FRONT_PORT: u16 = 443;
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT_TCP: Duration = Duration::from_secs(5);
const TIMEOUT_HTTP: Duration = Duration::from_secs(10);
const TIMEOUT_IDLE: Duration = Duration::from_secs(300);
const TIMEOUT_HANDSHAKE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COUNT: u32 = 9;
/// As in the example; see `telegram.dc-list-urls`.
const DC_LIST: [&str; 2] =
    ["https://core.telegram.org/getProxyConfig", "https://core.telegram.org/getProxyConfigV6"];
const LIST_EACH: Duration = Duration::from_secs(6 * 3600);
/// Periods shorter than this would be a load on somebody's server.
const LEAST_PERIOD: Duration = Duration::from_secs(1);
const RAID_REPEATS: u32 = 10;
const RAID_EACH: Duration = Duration::from_secs(6 * 3600);
const NOT_SENT_LOWAT: u64 = 128 << 10;
const REPLAY_BYTES: u64 = 1 << 20;
/// The replay store, not the clock, is the guard; router clocks are often off.
const SKEW_WITH_REPLAY_STORE: Duration = Duration::from_secs(120);
const SKEW_WITHOUT: Duration = Duration::from_secs(5);
