//! The last step of loading: makes [`Settings`] of [`PartialSettings`]. Checks combinations of
//! keys, and applies the defaults.

use std::time::Duration;

use crate::config::features::{HAS_METRICS, HAS_TLS};
use crate::config::partial::{
    LocatedSecret, PartialIpList, PartialPrometheus, PartialSettings, PartialStatsd, SINGLE_USER,
};
use crate::config::report::{Diagnostics, printable_name};
use crate::config::settings::{
    DnsSettings, EgressSettings, FrontSettings, HttpBind, KeepAlive, ListSettings, ListSource,
    LogLevel, LogSettings, NameServer, PageTimingSettings, PreferIp, PrometheusSettings,
    ProxyProtocolSettings, ReplaySettings, Settings, ShapeSettings, StateSettings, StatsdSettings,
    TagFormat, ThrottleSettings, Timeouts, UpstreamSettings, UserSettings,
};
use crate::config::urls;
use crate::proto::url::Url;
use crate::util::sorted_map;

impl PartialSettings {
    /// Makes the settings. `None` if the report has an error, from this step or from before.
    ///
    /// All checks come first and none of them stops at an error, so that the operator sees every
    /// fault of the file at once. The defaults are applied only to values without errors.
    pub fn finish(mut self, report: &mut Diagnostics) -> Option<Settings> {
        let checked = self.check(report);
        if report.has_errors() {
            return None;
        }
        Some(self.apply_defaults(checked))
    }

    /// Moves the values that depend on several keys out of `self`, and reports their faults.
    fn check(&mut self, report: &mut Diagnostics) -> Checked {
        let users = self.users(report);
        let binds = self.binds.take().unwrap_or_else(|| {
            report.error(0, NO_BIND);
            Vec::new()
        });
        let dns = self.dns(report);
        let dc_list = self.dc_list(report);
        let [blocklist, allowlist] = self.ip_lists(report);
        let page_timing = self.page_timing(report);
        let statsd = std::mem::take(&mut self.statsd).finish(report);
        let api = self.api_bind.as_ref();
        let prometheus = std::mem::take(&mut self.prometheus).finish(api, report);
        self.warn_of_missing_pairs(report);
        Checked {
            users,
            binds,
            dns,
            dc_list,
            blocklist,
            allowlist,
            page_timing,
            statsd,
            prometheus,
        }
    }

    fn apply_defaults(self, checked: Checked) -> Settings {
        let Checked { users, binds, dns, dc_list, .. } = checked;
        let Checked { blocklist, allowlist, page_timing, statsd, prometheus, .. } = checked;
        Settings {
            users,
            binds,
            prometheus,
            statsd,
            log: self.log(),
            concurrency: self.concurrency.unwrap_or(CONCURRENCY),
            prefer_ip: self.prefer_ip.unwrap_or(PreferIp::PreferIpv6),
            public_ipv4: self.public_ipv4,
            public_ipv6: self.public_ipv6,
            time_skew: self.time_skew(),
            fallback_on_unknown_dc: self.fallback_on_unknown_dc,
            throttle: self.throttle(),
            timeouts: self.timeouts(),
            keep_alive: self.keep_alive(),
            not_sent_lowat: self.not_sent_lowat(),
            re_encrypt: self.re_encrypt,
            coalesce_reads: !self.read_coalescing_off,
            replay: self.replay(),
            shape: self.shape(),
            page_timing,
            dc_list,
            blocklist,
            allowlist,
            max_segment: self.max_segment,
            multipath: self.multipath,
            reuse_port: self.reuse_port,
            buffer_bytes: self.buffer_bytes,
            log_addresses: self.log_addresses,
            // From here on, values move out of `self`.
            front: FrontSettings {
                host: self.front_host,
                // The old key has an effect only without the new one.
                port: self.front_port.or(self.old_front_port).unwrap_or(FRONT_PORT),
                proxy_protocol: self.front_proxy_protocol,
                probe: self.probe_front.unwrap_or(true),
                mimic_latency: self.mimic_latency,
            },
            dns: DnsSettings { server: dns, bootstrap: self.dns_bootstrap },
            upstreams: upstreams(self.upstreams),
            egress: EgressSettings {
                device: self.device,
                addrs: self.source_addrs,
                mark: self.mark,
            },
            proxy_protocol: self
                .proxy_protocol
                .then_some(ProxyProtocolSettings { trusted: self.trusted }),
            state: self.state_file.map(|path| {
                let interval = self.state_interval.unwrap_or(STATE_INTERVAL).max(INTERVAL_MIN);
                StateSettings { path, interval }
            }),
            public_ip_url: self.public_ip_url.unwrap_or_else(|| Url::parse(PUBLIC_IP_URL)),
            api_bind: self.api_bind,
            pid_file: self.pid_file,
            dc_overrides: self.dc_overrides,
            congestion: self.congestion,
            cache_dir: self.cache_dir,
            ca_file: self.ca_file,
        }
    }

    /// `debug` overrides `log-level`.
    fn log(&self) -> LogSettings {
        let level = if self.debug { LogLevel::Debug } else { self.log_level.unwrap_or_default() };
        LogSettings {
            level,
            format: self.log_format.unwrap_or_default(),
            to: self.log_to.unwrap_or_default(),
        }
    }

    fn replay(&self) -> Option<ReplaySettings> {
        let max_bytes = self.replay_bytes.unwrap_or(REPLAY_BYTES);
        self.replay.unwrap_or(true).then_some(ReplaySettings { max_bytes })
    }

    /// The replay store protects against replays by itself, and the clocks of routers are often
    /// wrong, so the clock check is lax with it. Without it, the clock check is the only
    /// protection.
    fn time_skew(&self) -> Duration {
        let has_store = self.replay().is_some();
        self.time_skew.unwrap_or(if has_store { SKEW_WITH_STORE } else { SKEW_WITHOUT_STORE })
    }

    /// `max-connections = 0` turns the throttle off.
    fn throttle(&self) -> Option<ThrottleSettings> {
        let max_connections = self.max_connections.filter(|max| *max > 0)?;
        let check_interval = self.check_interval.unwrap_or(CHECK_INTERVAL);
        Some(ThrottleSettings { max_connections, check_interval })
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts {
            tcp: self.timeout_tcp.unwrap_or(TIMEOUT_TCP),
            http: self.timeout_http.unwrap_or(TIMEOUT_HTTP),
            idle: self.timeout_idle.unwrap_or(TIMEOUT_IDLE),
            handshake: self.timeout_handshake.unwrap_or(TIMEOUT_HANDSHAKE),
        }
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive {
            enabled: !self.keep_alive_disabled,
            idle: whole_seconds(self.keep_alive_idle.unwrap_or(KEEP_ALIVE)),
            interval: whole_seconds(self.keep_alive_interval.unwrap_or(KEEP_ALIVE)),
            count: self.keep_alive_count.unwrap_or(KEEP_ALIVE_COUNT),
        }
    }

    /// `0b` leaves the kernel's default.
    fn not_sent_lowat(&self) -> Option<u32> {
        let bytes = self.not_sent_lowat.unwrap_or(NOT_SENT_LOWAT);
        u32::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }

    fn shape(&self) -> Option<ShapeSettings> {
        let shape = ShapeSettings { always: self.shape_always, drs: self.drs };
        self.shape.unwrap_or(true).then_some(shape)
    }

    /// The users. `[secrets]` with at least one entry overrides `secret` (COMPATIBILITY 3.3).
    fn users(&mut self, report: &mut Diagnostics) -> Vec<UserSettings> {
        let mut located = std::mem::take(&mut self.secrets);
        match self.secret.take() {
            Some(single) if located.is_empty() => {
                located.push((SINGLE_USER.to_string(), single));
            }
            Some(single) => report.warn(single.at, SECRET_UNUSED),
            // An invalid secret has been reported already.
            None if located.is_empty() && !self.has_secret => report.error(0, NO_USER),
            None => {}
        }
        // A name can occur twice if the file has the table in two spellings, such as [secrets] and
        // [Secrets]; the last one wins.
        sorted_map::sort(&mut located);
        check_secrets(&located, report);
        let disabled = std::mem::take(&mut self.disabled);
        for (name, at) in
            disabled.iter().filter(|(name, _)| sorted_map::find(&located, name).is_none())
        {
            let name = printable_name(name);
            report.warn(*at, format!("disabled-users: no user is called {name}; remove the name"));
        }
        let user = |(name, LocatedSecret { secret, .. })| {
            let enabled = !disabled.iter().any(|(off, _)| *off == name);
            UserSettings { name, secret, enabled }
        };
        located.into_iter().map(user).collect()
    }

    /// The name server. `dns` overrides the old key `doh-ip`.
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

    /// The pages of Telegram's list of data centres; `None` if `auto-update` is off.
    fn dc_list(&mut self, report: &mut Diagnostics) -> Option<Vec<Url>> {
        if !self.auto_update {
            return None;
        }
        let pages = self.dc_list.take();
        let pages =
            pages.unwrap_or_else(|| DC_LIST.iter().copied().filter_map(Url::parse).collect());
        if pages.is_empty() {
            report.warn_at_key("telegram.dc-list-urls", NO_DC_LIST);
            return None;
        }
        if !HAS_TLS && pages.iter().any(|page| page.scheme == "https") {
            report.error_at_key("auto-update", DC_LIST_WITHOUT_TLS);
        }
        Some(pages)
    }

    /// The blocklist and the allowlist. An allowlist without a source would refuse every client,
    /// which is an error; a blocklist without one blocks no address, which is a warning.
    fn ip_lists(&mut self, report: &mut Diagnostics) -> [Option<ListSettings>; 2] {
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

    /// The pages to learn the pace from. Without a shape no pace is needed.
    fn page_timing(&mut self, report: &mut Diagnostics) -> PageTimingSettings {
        let mut pages = std::mem::take(&mut self.timing_pages);
        if self.shape == Some(false) {
            pages.clear();
        }
        if !HAS_TLS && !pages.is_empty() {
            report.error_at_key("defense.doppelganger.urls", PAGES_WITHOUT_TLS);
        }
        let key = "defense.doppelganger.raid-each";
        let interval = self.page_interval.unwrap_or(PAGE_INTERVAL);
        let interval = checked_interval(interval, POLITE_PAGES, key, report);
        let repeats = self.page_repeats.unwrap_or(PAGE_REPEATS);
        PageTimingSettings { pages, repeats, interval }
    }

    /// Warns of keys that have no effect without another key.
    fn warn_of_missing_pairs(&self, report: &mut Diagnostics) {
        if !self.trusted.is_empty() && !self.proxy_protocol {
            report.warn_at_key("proxy-protocol-trusted", TRUSTED_UNUSED);
        }
        if self.mimic_latency && self.probe_front == Some(false) {
            report.warn_at_key("domain-fronting.mimic-latency", LATENCY_UNKNOWN);
        }
        if !HAS_TLS && self.ca_file.is_some() {
            report.warn_at_key("network.ca-file", CA_WITHOUT_TLS);
        }
    }
}

/// The values that depend on several keys, after their checks.
struct Checked {
    users: Vec<UserSettings>,
    binds: Vec<std::net::SocketAddr>,
    dns: NameServer,
    dc_list: Option<Vec<Url>>,
    blocklist: Option<ListSettings>,
    allowlist: Option<ListSettings>,
    page_timing: PageTimingSettings,
    statsd: Option<StatsdSettings>,
    prometheus: Option<PrometheusSettings>,
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

impl PartialPrometheus {
    /// `bind-to` is required: mtg-multi listens on a random port of every address without it.
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

impl PartialIpList {
    /// `keys` are the paths of its `urls` and `update-each`.
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
        // Files may be read as often as the operator likes.
        let polite = if schemes.is_empty() { Duration::ZERO } else { POLITE_LISTS };
        let interval = self.interval.unwrap_or(LIST_INTERVAL);
        let interval = checked_interval(interval, polite, update_each, report);
        let concurrency = self.concurrency.unwrap_or(1);
        Some(ListSettings { sources: self.sources, concurrency, interval })
    }
}

/// Raises an interval to the resolution of the scheduler; warns if it is below `polite`.
fn checked_interval(
    interval: Duration,
    polite: Duration,
    key: &'static str,
    report: &mut Diagnostics,
) -> Duration {
    if interval < INTERVAL_MIN {
        report.warn_at_key(key, "too short; using 1s. Set a longer time.");
    } else if interval < polite {
        report.warn_at_key(key, "so short that a server may block you; set a longer time");
    }
    interval.max(INTERVAL_MIN)
}

/// Refuses keys of zeros; warns of hosts that clients refuse, and of secrets that two users share.
fn check_secrets(located: &[(String, LocatedSecret)], report: &mut Diagnostics) {
    for (name, LocatedSecret { secret, at }) in located {
        let name = printable_name(name);
        if secret.is_weak() {
            report.error(*at, format!("{name}: the key is all zeros; {NEW_SECRET}"));
        }
        if let Some(fault) = secret.host_fault() {
            report.warn(*at, format!("{name}: clients may refuse this secret: {fault}"));
        }
    }
    // Users with the same secret become neighbours. The first by name is authenticated.
    let mut owners: Vec<(&[u8; 16], &[u8], &str, usize)> = located
        .iter()
        .map(|(name, LocatedSecret { secret, at })| {
            (secret.key(), secret.host(), name.as_str(), *at)
        })
        .collect();
    owners.sort_unstable();
    for same in owners.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let [(_, _, first, _), others @ ..] = same else { continue };
        for (_, _, name, at) in others {
            let (name, first) = (printable_name(name), printable_name(first));
            report.warn(
                *at,
                format!("{name}: same secret as {first}, who gets the traffic; {NEW_SECRET}"),
            );
        }
    }
}

/// A list with only `direct` entries is the same as no list.
fn upstreams(list: Vec<UpstreamSettings>) -> Vec<UpstreamSettings> {
    let is_proxy = |upstream: &UpstreamSettings| matches!(upstream, UpstreamSettings::Socks5(_));
    if list.iter().any(is_proxy) { list } else { Vec::new() }
}

/// Rounds up to whole seconds: the kernel counts those, and refuses 0.
fn whole_seconds(time: Duration) -> Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(up))
}

const NO_BIND: &str =
    "bind-to: missing; add a line bind-to = \"0.0.0.0:443\" above the first [table]";
const NO_USER: &str = "no user; add [secrets] at the end of the file, with a line \
                       NAME = \"SECRET\" (`mtbox generate-secret HOST` prints a secret)";
const SECRET_UNUSED: &str = "secret: has no effect, since [secrets] has users; remove this line";
const NEW_SECRET: &str = "make another one with `mtbox generate-secret HOST`";
const NO_DC_LIST: &str = "the list is empty, so auto-update has no effect; add a URL";
const EMPTY_ALLOWLIST: &str = "no client could connect; add a list to defense.allowlist.urls";
const EMPTY_BLOCKLIST: &str = "no address is blocked; add a list to defense.blocklist.urls";
const NO_STATSD: &str = "no server; add address = \"127.0.0.1:8125\" below it";
const NO_PROMETHEUS: &str = "no listener; add bind-to = \"127.0.0.1:3129\" below it";
const NO_METRICS: &str =
    "ignored, since this build has no metrics; install the full mtbox instead of mtbox-mini";
const TAKEN_PATH: &str =
    "api-bind-to uses the same address and path, so metrics cannot be read; write \"/metrics\"";
const LIST_WITHOUT_TLS: &str =
    "this build has no TLS; use http:// URLs or files, or install the full mtbox";
const DC_LIST_WITHOUT_TLS: &str = "this build has no TLS; disable auto-update, use http:// URLs \
                                   in telegram.dc-list-urls, or install the full mtbox";
const PAGES_WITHOUT_TLS: &str = "this build has no TLS; remove the line, or install the full mtbox";
const CA_WITHOUT_TLS: &str =
    "has no effect, since this build has no TLS; remove the line, or install the full mtbox";
const TRUSTED_UNUSED: &str = "has no effect without proxy-protocol-listener = true; add that line";
const LATENCY_UNKNOWN: &str = "has no effect with scout = false; remove one of the two";

const CONCURRENCY: u32 = 4096;
const FRONT_PORT: u16 = 443;
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT_TCP: Duration = Duration::from_secs(5);
const TIMEOUT_HTTP: Duration = Duration::from_secs(10);
const TIMEOUT_IDLE: Duration = Duration::from_secs(300);
const TIMEOUT_HANDSHAKE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COUNT: u32 = 9;
/// The default of `telegram.dc-list-urls` in `keys.rs`.
const DC_LIST: [&str; 2] =
    ["https://core.telegram.org/getProxyConfig", "https://core.telegram.org/getProxyConfigV6"];
const METRIC_PREFIX: &str = "mtg";
const PUBLIC_IP_URL: &str = "https://ifconfig.co";
const STATE_INTERVAL: Duration = Duration::from_secs(600);
const LIST_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Public list servers dislike shorter intervals.
const POLITE_LISTS: Duration = Duration::from_secs(60);
/// More frequent page visits do not look like those of a browser.
const POLITE_PAGES: Duration = Duration::from_secs(300);
const PAGE_REPEATS: u32 = 10;
const PAGE_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const NOT_SENT_LOWAT: u64 = 128 << 10;
const REPLAY_BYTES: u64 = 1 << 20;
const SKEW_WITH_STORE: Duration = Duration::from_secs(120);
const SKEW_WITHOUT_STORE: Duration = Duration::from_secs(5);
