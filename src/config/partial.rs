//! The settings while they are being read: every key is still optional. [`PartialSettings::finish`] fills
//! in the defaults, judges what concerns more than one key, and makes [`Settings`] of it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{HAS_METRICS, HAS_TLS, urls};
use crate::config::report::{Diagnostics, printable_name};
use crate::config::settings::{
    Cidr, DnsSettings, EgressSettings, FrontSettings, HttpBind, KeepAlive, ListSettings,
    ListSource, LogFormat, LogLevel, LogSettings, LogTo, NameServer, PageTimingSettings, PreferIp,
    PrometheusSettings, ProxyProtocolSettings, ReplaySettings, Settings, ShapeSettings,
    StateSettings, StatsdSettings, TagFormat, ThrottleSettings, Timeouts, UpstreamSettings,
    UserSettings,
};
use crate::proto::secret::Secret;
use crate::proto::url::Url;
use crate::util::sorted_map;

/// One field for each key that decides something; `None` = not given.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct PartialSettings {
    pub secret: Option<LocatedSecret>,
    /// A secret was given, be it good or bad.
    pub secret_seen: bool,
    /// As they stand in the file; the last one of a name holds.
    pub secrets: Vec<(String, LocatedSecret)>,
    pub binds: Option<Vec<SocketAddr>>,
    pub disabled: Vec<(String, usize)>,
    pub api_bind: Option<HttpBind>,
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
    pub upstreams: Vec<UpstreamSettings>,
    pub device: Option<String>,
    pub source_addrs: Vec<IpAddr>,
    pub mark: Option<u32>,
    pub congestion: Option<String>,
    pub max_segment: Option<u16>,
    pub multipath: bool,
    pub reuse_port: bool,
    pub ca_file: Option<PathBuf>,
    pub proxy_protocol: bool,
    pub trusted: Vec<Cidr>,
    pub front_proxy_protocol: bool,
    pub probe_front: Option<bool>,
    pub mimic_latency: bool,
    pub auto_update: bool,
    pub dc_list: Option<Vec<Url>>,
    pub timeout_http: Option<Duration>,
    pub cache_dir: Option<PathBuf>,
    pub blocklist: PartialIpList,
    pub allowlist: PartialIpList,
    pub shape: Option<bool>,
    pub shape_always: bool,
    pub drs: bool,
    pub timing_pages: Vec<Url>,
    pub page_repeats: Option<u32>,
    pub page_interval: Option<Duration>,
    pub not_sent_lowat: Option<u64>,
    pub re_encrypt: bool,
    pub read_coalescing_off: bool,
    pub timeout_tcp: Option<Duration>,
    pub timeout_idle: Option<Duration>,
    pub timeout_handshake: Option<Duration>,
    pub keep_alive_disabled: bool,
    pub keep_alive_idle: Option<Duration>,
    pub keep_alive_interval: Option<Duration>,
    pub keep_alive_count: Option<u32>,
    pub replay: Option<bool>,
    pub replay_bytes: Option<u64>,
    /// By number, which none has twice.
    pub dc_overrides: Vec<(u16, Vec<SocketAddr>)>,
    pub buffer_bytes: Option<u64>,
    pub log_addresses: bool,
    pub log_level: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    pub log_to: Option<LogTo>,
    pub pid_file: Option<PathBuf>,
    pub state_file: Option<PathBuf>,
    pub state_interval: Option<Duration>,
    pub public_ip_url: Option<Option<Url>>,
    pub statsd: PartialStatsd,
    pub prometheus: PartialPrometheus,
}

/// `[stats.statsd]`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct PartialStatsd {
    pub enabled: bool,
    pub address: Option<SocketAddr>,
    pub prefix: Option<String>,
    pub tags: Option<TagFormat>,
}

impl PartialStatsd {
    fn finish(self, report: &mut Diagnostics) -> Option<StatsdSettings> {
        if !self.enabled {
            return None;
        }
        if !HAS_METRICS {
            report.warn_at_key("stats.statsd.enabled", NO_METRICS);
            return None;
        }
        let Some(address) = self.address else {
            report.error_at_key("stats.statsd.enabled", NO_STATSD);
            return None;
        };
        let prefix = self.prefix.unwrap_or_else(|| METRIC_PREFIX.to_owned());
        Some(StatsdSettings { address, prefix, tags: self.tags.unwrap_or(TagFormat::Datadog) })
    }
}

/// `[stats.prometheus]`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct PartialPrometheus {
    pub enabled: bool,
    pub bind: Option<HttpBind>,
    pub path: Option<String>,
    pub prefix: Option<String>,
    pub per_user: bool,
}

impl PartialPrometheus {
    /// Without `bind-to` the reference listens on a random port of every address.
    fn finish(
        self,
        api: Option<&HttpBind>,
        report: &mut Diagnostics,
    ) -> Option<PrometheusSettings> {
        if !self.enabled {
            return None;
        }
        if !HAS_METRICS {
            report.warn_at_key("stats.prometheus.enabled", NO_METRICS);
            return None;
        }
        let Some(bind) = self.bind else {
            report.error_at_key("stats.prometheus.enabled", NO_PROMETHEUS);
            return None;
        };
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        let is_taken = path == "/stats" || path == "/explain" || path.starts_with("/explain/");
        if is_taken && api == Some(&bind) {
            report.warn_at_key("stats.prometheus.http-path", TAKEN_PATH);
        }
        Some(PrometheusSettings {
            bind,
            path,
            prefix: self.prefix.unwrap_or_else(|| METRIC_PREFIX.to_owned()),
            per_user: self.per_user,
        })
    }
}

/// `[defense.blocklist]` or `[defense.allowlist]`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct PartialIpList {
    pub enabled: bool,
    pub sources: Vec<ListSource>,
    pub concurrency: Option<u32>,
    pub interval: Option<Duration>,
}

impl PartialIpList {
    /// `keys` are those of its sources and its period.
    fn finish(self, keys: [&'static str; 2], report: &mut Diagnostics) -> Option<ListSettings> {
        if !self.enabled || self.sources.is_empty() {
            return None;
        }
        let [urls, update_each] = keys;
        let scheme = |source: &ListSource| match source {
            ListSource::Web(url) => Some(url.scheme.clone()),
            ListSource::File(_) => None,
        };
        let schemes: Vec<String> = self.sources.iter().filter_map(scheme).collect();
        if !HAS_TLS && schemes.iter().any(|scheme| scheme == "https") {
            report.error_at_key(urls, LIST_WITHOUT_TLS);
        }
        let polite = if schemes.is_empty() { Duration::ZERO } else { POLITE_LIST };
        let every = period(self.interval.unwrap_or(LIST_EACH), polite, update_each, report);
        let concurrency = self.concurrency.unwrap_or(1);
        Some(ListSettings { sources: self.sources, concurrency, interval: every })
    }
}

/// A secret and the byte offset where the file has it.
#[derive(Debug)]
pub struct LocatedSecret {
    /// The secret.
    pub secret: Secret,
    /// Its offset in bytes.
    pub at: usize,
}

impl PartialSettings {
    /// Makes settings of the draft; `None` if the report holds an error, old or new.
    pub fn finish(mut self, report: &mut Diagnostics) -> Option<Settings> {
        let users = self.users(report);
        let binds = self.binds.take().unwrap_or_else(|| {
            report.error(0, NO_BIND);
            Vec::new()
        });
        let dns = self.dns(report);
        let dc_list = self.dc_list(report);
        let [blocklist, allowlist] = self.lists(report);
        let page_timing = self.page_timing(report);
        let statsd = std::mem::take(&mut self.statsd).finish(report);
        let api = self.api_bind.as_ref();
        let prometheus = std::mem::take(&mut self.prometheus).finish(api, report);
        self.judge_pairs(report);
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
            prometheus,
            statsd,
            log: LogSettings {
                level: match self.debug {
                    true => LogLevel::Debug,
                    false => self.log_level.unwrap_or_default(),
                },
                format: self.log_format.unwrap_or_default(),
                to: self.log_to.unwrap_or_default(),
            },
            pid_file: self.pid_file,
            state: self.state_file.map(|path| {
                let every = self.state_interval.unwrap_or(STATE_EACH).max(LEAST_PERIOD);
                StateSettings { path, interval: every }
            }),
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
                probe: self.probe_front.unwrap_or(true),
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
            coalesce_reads: !self.read_coalescing_off,
            replay,
            dc_overrides: self.dc_overrides,
            public_ip_url: self.public_ip_url.unwrap_or_else(|| Url::parse(PUBLIC_IP_URL)),
            dns: DnsSettings { server: dns, bootstrap: self.dns_bootstrap },
            // Nothing but direct ways is no list of proxies.
            upstreams: match self
                .upstreams
                .iter()
                .any(|route| matches!(route, UpstreamSettings::Socks5(_)))
            {
                true => self.upstreams,
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
            blocklist,
            allowlist,
            cache_dir: self.cache_dir,
            shape: self
                .shape
                .unwrap_or(true)
                .then_some(ShapeSettings { always: self.shape_always, drs: self.drs }),
            page_timing,
            ca_file: self.ca_file,
            buffer_bytes: self.buffer_bytes,
            log_addresses: self.log_addresses,
        })
    }

    /// `dns` wins over `doh-ip`.
    fn dns(&mut self, report: &mut Diagnostics) -> NameServer {
        let old = self.doh_ip.map(urls::doh_at);
        match (self.dns.take(), old) {
            (Some(server), _) | (None, Some(Ok(server))) => server,
            (None, Some(Err(fault))) => {
                report.error_at_key("network.doh-ip", fault);
                NameServer::System
            }
            (None, None) => NameServer::System,
        }
    }

    /// The pages of `auto-update`.
    fn dc_list(&mut self, report: &mut Diagnostics) -> Option<Vec<Url>> {
        if !self.auto_update {
            return None;
        }
        let pages = self.dc_list.take();
        let pages =
            pages.unwrap_or_else(|| DC_LIST.iter().copied().filter_map(Url::parse).collect());
        if pages.is_empty() {
            report.warn_at_key(
                "telegram.dc-list-urls",
                "nothing to read for auto-update; name a page",
            );
            return None;
        }
        if !HAS_TLS && pages.iter().any(|page| page.scheme == "https") {
            report.error_at_key("auto-update", DC_LIST_WITHOUT_TLS);
        }
        Some(pages)
    }

    /// The blocklist and the allowlist. An allowlist that names nothing lets nobody in, a blocklist
    /// everybody.
    fn lists(&mut self, report: &mut Diagnostics) -> [Option<ListSettings>; 2] {
        let (block, allow) =
            (std::mem::take(&mut self.blocklist), std::mem::take(&mut self.allowlist));
        if block.enabled && block.sources.is_empty() {
            report.warn_at_key("defense.blocklist.enabled", EMPTY_BLOCKLIST);
        }
        if allow.enabled && allow.sources.is_empty() {
            report.error_at_key("defense.allowlist.enabled", EMPTY_ALLOWLIST);
        }
        [
            block.finish(["defense.blocklist.urls", "defense.blocklist.update-each"], report),
            allow.finish(["defense.allowlist.urls", "defense.allowlist.update-each"], report),
        ]
    }

    fn page_timing(&mut self, report: &mut Diagnostics) -> PageTimingSettings {
        let mut pages = std::mem::take(&mut self.timing_pages);
        if self.shape == Some(false) {
            pages.clear();
        }
        if !HAS_TLS && !pages.is_empty() {
            report.error_at_key("defense.doppelganger.urls", PAGES_WITHOUT_TLS);
        }
        let every = self.page_interval.unwrap_or(RAID_EACH);
        let every = period(every, POLITE_RAID, "defense.doppelganger.raid-each", report);
        PageTimingSettings {
            pages,
            repeats: self.page_repeats.unwrap_or(RAID_REPEATS),
            interval: every,
        }
    }

    /// Warns of keys that do nothing without another.
    fn judge_pairs(&self, report: &mut Diagnostics) {
        if !self.trusted.is_empty() && !self.proxy_protocol {
            report.warn_at_key("proxy-protocol-trusted", TRUST_IN_NOTHING);
        }
        if self.mimic_latency && self.probe_front == Some(false) {
            report.warn_at_key("domain-fronting.mimic-latency", MIMICRY_OF_NOTHING);
        }
        if !HAS_TLS && self.ca_file.is_some() {
            report.warn_at_key("network.ca-file", "this build has no TLS, so it has no effect");
        }
    }

    /// `[secrets]` with at least one entry wins over `secret` (spec: config 3).
    fn users(&mut self, report: &mut Diagnostics) -> Vec<UserSettings> {
        let mut placed = std::mem::take(&mut self.secrets);
        match self.secret.take() {
            Some(single) if placed.is_empty() => {
                placed.push((SINGLE_USER.to_string(), single));
            }
            Some(single) => {
                report.warn(single.at, "secret: has no effect beside [secrets]; delete this line");
            }
            None if placed.is_empty() && !self.secret_seen => report.error(0, NO_USER),
            None => {}
        }
        // Tables that differ in case alone may both have a name; the last one holds.
        sorted_map::sort(&mut placed);
        judge(&placed, report);
        let disabled = std::mem::take(&mut self.disabled);
        for (name, at) in
            disabled.iter().filter(|(name, _)| sorted_map::find(&placed, name).is_none())
        {
            let text =
                format!("disabled-users: no user is called {}; delete it", printable_name(name));
            report.warn(*at, text);
        }
        let user = |(name, LocatedSecret { secret, .. })| {
            let enabled = !disabled.iter().any(|(off, _)| *off == name);
            UserSettings { name, secret, enabled }
        };
        placed.into_iter().map(user).collect()
    }
}

/// A period, raised to what the clock of the program can do; warns when it is not polite.
fn period(
    given: Duration,
    polite: Duration,
    key: &'static str,
    report: &mut Diagnostics,
) -> Duration {
    if given < LEAST_PERIOD {
        report.warn_at_key(key, "too short, 1s holds; write more");
    } else if given < polite {
        report.warn_at_key(key, "a server that is asked so often may shut you out; write more");
    }
    given.max(LEAST_PERIOD)
}

/// Refuses keys that protect nothing; warns of hosts no client takes, and of twins.
fn judge(placed: &[(String, LocatedSecret)], report: &mut Diagnostics) {
    for (name, LocatedSecret { secret, at }) in placed {
        if secret.is_weak() {
            report.error(
                *at,
                format!("{}: an all-zero key is no secret; {REMEDY}", printable_name(name)),
            );
        }
        if let Some(fault) = secret.host_fault() {
            report.warn(
                *at,
                format!("{}: clients may refuse this secret: {fault}", printable_name(name)),
            );
        }
    }
    // Twins stand side by side, and the first by name gets the traffic.
    let mut owners: Vec<(&[u8; 16], &[u8], &str, usize)> = placed
        .iter()
        .map(|(name, LocatedSecret { secret, at })| {
            (secret.key(), secret.host(), name.as_str(), *at)
        })
        .collect();
    owners.sort_unstable();
    for twins in owners.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let [(_, _, first, _), others @ ..] = twins else { continue };
        for (_, _, name, at) in others {
            let (name, first) = (printable_name(name), printable_name(first));
            let text = format!("{name}: same secret as {first}, who gets its traffic; {REMEDY}");
            report.warn(*at, text);
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
const EMPTY_ALLOWLIST: &str = "nobody could connect; name a list in defense.allowlist.urls";
const EMPTY_BLOCKLIST: &str = "nobody is blocked; name a list in defense.blocklist.urls";
const NO_STATSD: &str = "nobody to send to; add address = \"127.0.0.1:8125\" below it";
const NO_METRICS: &str =
    "ignored, this build has no metrics; install the full mtbox instead of mtbox-mini for them";
const NO_PROMETHEUS: &str =
    "nowhere to serve; add bind-to = \"127.0.0.1:3129\" below it (it is never guessed)";
const TAKEN_PATH: &str =
    "api-bind-to is the same and has a page there, so metrics cannot be read; write \"/metrics\"";
const LIST_WITHOUT_TLS: &str =
    "this build has no TLS; write http:// URLs or files, or install the full mtbox";
const DC_LIST_WITHOUT_TLS: &str = "this build has no TLS; turn it off, name http:// pages in \
                                   telegram.dc-list-urls, or install the full mtbox";
const PAGES_WITHOUT_TLS: &str = "this build has no TLS; delete the line, or install the full mtbox";
const TRUST_IN_NOTHING: &str = "has no effect without proxy-protocol-listener = true; add it";
const MIMICRY_OF_NOTHING: &str = "has no effect without a scout; delete scout = false";
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
const METRIC_PREFIX: &str = "mtg";
const PUBLIC_IP_URL: &str = "https://ifconfig.co";
const STATE_EACH: Duration = Duration::from_secs(600);
const LIST_EACH: Duration = Duration::from_secs(6 * 3600);
const LEAST_PERIOD: Duration = Duration::from_secs(1);
/// Whoever serves lists to all the world dislikes more.
const POLITE_LIST: Duration = Duration::from_secs(60);
/// A visitor who comes more often than this is no visitor.
const POLITE_RAID: Duration = Duration::from_secs(300);
const RAID_REPEATS: u32 = 10;
const RAID_EACH: Duration = Duration::from_secs(6 * 3600);
const NOT_SENT_LOWAT: u64 = 128 << 10;
const REPLAY_BYTES: u64 = 1 << 20;
/// The replay store, not the clock, is the guard; router clocks are often off.
const SKEW_WITH_REPLAY_STORE: Duration = Duration::from_secs(120);
const SKEW_WITHOUT: Duration = Duration::from_secs(5);
