//! The last step of loading: checks combinations of keys, and makes [`Settings`] of
//! [`SettingsDraft`].

use std::net::IpAddr;
use std::time::Duration;

use crate::config::draft::{EnabledSections, LocatedSecret, SINGLE_USER, SettingsDraft};
use crate::config::features::{HAS_METRICS, HAS_TLS};
use crate::config::report::{Diagnostics, printable_name};
use crate::config::settings::{
    ListSettings, ListSource, LogLevel, PrometheusSettings, Settings, StatsdSettings,
    UpstreamSettings, UserSettings,
};
use crate::config::urls;
use crate::proto::url::Url;
use crate::util::order::order;
use crate::util::sorted_map;
use crate::util::spelling::nearest;

impl SettingsDraft {
    /// Makes the settings. `None` if the report has an error, from this step or from before.
    ///
    /// All checks come first and none of them stops at an error, so that the operator sees every
    /// fault of the file at once.
    pub fn finish(mut self, report: &mut Diagnostics) -> Option<Settings> {
        self.settings.users = self.users(report);
        if self.settings.binds.is_empty() && self.is_missing("bind-to", report) {
            report.error(0, NO_BIND);
        }
        self.apply_old_keys(report);
        self.settings.dc_list = self.dc_list(report);
        [self.settings.blocklist, self.settings.allowlist] = self.ip_lists(report);
        self.check_page_timing(report);
        self.settings.statsd = self.statsd(report);
        self.settings.prometheus = self.prometheus(report);
        self.warn_of_missing_pairs(report);
        if report.has_errors() { None } else { Some(self.into_settings()) }
    }

    /// Whether the file has no value for the key, not even an invalid one.
    fn is_missing(&self, path: &str, report: &Diagnostics) -> bool {
        !self.is_set(path) && !report.has_error_about(path)
    }

    fn into_settings(mut self) -> Settings {
        if self.debug {
            self.settings.log.level = LogLevel::Debug;
        }
        // The replay store protects against replays by itself, and the clocks of routers are often
        // wrong, so the clock check is lax with it. Without it, the clock check is the only
        // protection.
        if !self.enabled.replay && !self.is_set("tolerate-time-skewness") {
            self.settings.time_skew = SKEW_WITHOUT_STORE;
        }
        // A list with only `direct` entries is the same as no list.
        let is_direct = |upstream: &UpstreamSettings| *upstream == UpstreamSettings::Direct;
        if self.settings.upstreams.iter().all(is_direct) {
            self.settings.upstreams.clear();
        }
        // A public-host that is an address is our address too.
        let public = self.settings.public_host.as_ref().and_then(|host| host.parse().ok());
        match public {
            Some(ip @ IpAddr::V4(_)) => _ = self.settings.public_ipv4.get_or_insert(ip),
            Some(ip @ IpAddr::V6(_)) => _ = self.settings.public_ipv6.get_or_insert(ip),
            None => {}
        }
        let has_state = self.is_set("state-file");
        let is_throttled = self.throttle.max_connections > 0;
        let mut settings = self.settings;
        settings.state = has_state.then_some(self.state);
        settings.throttle = is_throttled.then_some(self.throttle);
        settings.proxy_protocol = self.enabled.proxy_protocol.then_some(self.proxy_protocol);
        settings.replay = self.enabled.replay.then_some(self.replay);
        settings.shape = self.enabled.shape.then_some(self.shape);
        settings
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
            None if located.is_empty() && !self.has_secret && !report.has_error_about("secret") => {
                report.error(0, NO_USER);
            }
            None => {}
        }
        // A name can occur twice if the file has the table in two spellings, such as [secrets] and
        // [Secrets]; the last one wins.
        sorted_map::sort(&mut located);
        let disabled = std::mem::take(&mut self.disabled);
        check_secrets(&located, &disabled, report);
        for (name, at) in
            disabled.iter().filter(|(name, _)| sorted_map::find(&located, name).is_none())
        {
            let near = nearest(name, located.iter().map(|(user, _)| user.as_str()));
            let name = printable_name(name);
            let text = format!("disabled-users: no user is called {name}");
            match near.filter(|near| !disabled.iter().any(|(off, _)| off == near)) {
                Some(near) => {
                    let near = printable_name(near);
                    report.error(*at, format!("{text}, and {near} may connect; correct the name"));
                }
                None => report.warn(*at, format!("{text}; remove the name")),
            }
        }
        let user = |(name, LocatedSecret { secret, .. })| {
            let enabled = !disabled.iter().any(|(off, _)| *off == name);
            UserSettings { name, secret, enabled }
        };
        located.into_iter().map(user).collect()
    }

    /// An old key has an effect only without the new one.
    fn apply_old_keys(&mut self, report: &mut Diagnostics) {
        if let Some(port) = self.old_front_port
            && !self.is_set("domain-fronting.port")
        {
            self.settings.front.port = port;
        }
        if let Some(ip) = self.doh_ip
            && !self.is_set("network.dns")
        {
            match urls::doh_at(ip) {
                Ok(server) => self.settings.dns.server = server,
                Err(fault) => report.error_at_key("network.doh-ip", fault),
            }
        }
    }

    /// The pages of Telegram's list of data centres; `None` if `auto-update` is off.
    fn dc_list(&mut self, report: &mut Diagnostics) -> Option<Vec<Url>> {
        if !self.enabled.dc_list {
            return None;
        }
        if self.dc_list.is_empty() && !report.has_error_about("telegram.dc-list-urls") {
            report.warn_at_key("telegram.dc-list-urls", NO_DC_LIST);
            return None;
        }
        if !HAS_TLS && self.dc_list.iter().any(|page| page.scheme == "https") {
            report.error_at_key("auto-update", DC_LIST_WITHOUT_TLS);
        }
        Some(std::mem::take(&mut self.dc_list))
    }

    /// The blocklist and the allowlist. An allowlist without a source would refuse every client,
    /// which is an error; a blocklist without one blocks no address, which is a warning.
    fn ip_lists(&mut self, report: &mut Diagnostics) -> [Option<ListSettings>; 2] {
        let EnabledSections { blocklist, allowlist, .. } = self.enabled;
        let [of_block, of_allow] = [BLOCKLIST_KEYS, ALLOWLIST_KEYS];
        let is_empty = |list: &ListSettings, [urls, _]: [&str; 2]| {
            list.sources.is_empty() && !report.has_error_about(urls)
        };
        let (no_block, no_allow) =
            (is_empty(&self.blocklist, of_block), is_empty(&self.allowlist, of_allow));
        for (list, [urls, _], switch) in [
            (&self.blocklist, of_block, "defense.blocklist.enabled"),
            (&self.allowlist, of_allow, "defense.allowlist.enabled"),
        ] {
            if !list.sources.is_empty() && !self.is_set(switch) {
                report.warn_at_key(urls, NOT_ENABLED);
            }
        }
        if blocklist && no_block {
            report.warn_at_key("defense.blocklist.enabled", EMPTY_BLOCKLIST);
        }
        if allowlist && no_allow {
            report.error_at_key("defense.allowlist.enabled", EMPTY_ALLOWLIST);
        }
        [
            blocklist.then(|| ip_list(&mut self.blocklist, of_block, report)).flatten(),
            allowlist.then(|| ip_list(&mut self.allowlist, of_allow, report)).flatten(),
        ]
    }

    /// Without a shape, no pace is needed.
    fn check_page_timing(&mut self, report: &mut Diagnostics) {
        let timing = &mut self.settings.page_timing;
        if !self.enabled.shape {
            timing.pages.clear();
        }
        if !HAS_TLS && !timing.pages.is_empty() {
            report.error_at_key("defense.doppelganger.urls", PAGES_WITHOUT_TLS);
        }
        let key = "defense.doppelganger.raid-each";
        timing.interval = checked_interval(timing.interval, POLITE_PAGES, key, report);
    }

    fn statsd(&mut self, report: &mut Diagnostics) -> Option<StatsdSettings> {
        if !self.enabled.statsd {
            return None;
        }
        if !HAS_METRICS {
            report.warn_at_key("stats.statsd.enabled", NO_METRICS);
            return None;
        }
        if self.is_missing("stats.statsd.address", report) {
            report.error_at_key("stats.statsd.enabled", NO_STATSD);
        }
        Some(std::mem::take(&mut self.statsd))
    }

    /// `bind-to` is required: mtg-multi listens on a random port of every address without it.
    fn prometheus(&mut self, report: &mut Diagnostics) -> Option<PrometheusSettings> {
        if !self.enabled.prometheus {
            return None;
        }
        if !HAS_METRICS {
            report.warn_at_key("stats.prometheus.enabled", NO_METRICS);
            return None;
        }
        let PrometheusSettings { bind, path, .. } = &self.prometheus;
        let is_taken = path == "/stats" || path == "/explain" || path.starts_with("/explain/");
        if self.is_missing("stats.prometheus.bind-to", report) {
            report.error_at_key("stats.prometheus.enabled", NO_PROMETHEUS);
        } else if is_taken && self.settings.api_bind.as_ref() == Some(bind) {
            report.warn_at_key("stats.prometheus.http-path", TAKEN_PATH);
        }
        Some(std::mem::take(&mut self.prometheus))
    }

    /// Warns of keys that have no effect without another key.
    fn warn_of_missing_pairs(&self, report: &mut Diagnostics) {
        if !self.proxy_protocol.trusted.is_empty() && !self.enabled.proxy_protocol {
            report.warn_at_key("proxy-protocol-trusted", TRUSTED_UNUSED);
        }
        let front = &self.settings.front;
        if front.mimic_latency && !front.probe {
            report.warn_at_key("domain-fronting.mimic-latency", LATENCY_UNKNOWN);
        }
        if !HAS_TLS && self.settings.ca_file.is_some() {
            report.warn_at_key("network.ca-file", CA_WITHOUT_TLS);
        }
    }
}

/// Takes a list that has a source. `keys` are the paths of its `urls` and `update-each`.
fn ip_list(
    list: &mut ListSettings,
    keys: [&'static str; 2],
    report: &mut Diagnostics,
) -> Option<ListSettings> {
    if list.sources.is_empty() {
        return None;
    }
    let [urls, update_each] = keys;
    let scheme = |source: &ListSource| match source {
        ListSource::Web(url) => Some(url.scheme.clone()),
        ListSource::File(_) => None,
    };
    let schemes: Vec<String> = list.sources.iter().filter_map(scheme).collect();
    if !HAS_TLS && schemes.iter().any(|scheme| scheme == "https") {
        report.error_at_key(urls, LIST_WITHOUT_TLS);
    }
    // Files may be read as often as the operator likes.
    let polite = if schemes.is_empty() { Duration::ZERO } else { POLITE_LISTS };
    list.interval = checked_interval(list.interval, polite, update_each, report);
    Some(std::mem::take(list))
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
fn check_secrets(
    located: &[(String, LocatedSecret)],
    disabled: &[(String, usize)],
    report: &mut Diagnostics,
) {
    let is_off = |at: usize| disabled.iter().any(|(name, _)| *name == located[at].0);
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
    let secret = |at: usize| (located[at].1.secret.key(), located[at].1.secret.host());
    let order = order(located.len(), &|a, b| secret(a).cmp(&secret(b)));
    for same in order.chunk_by(|a, b| secret(*a) == secret(*b)) {
        let [first, others @ ..] = same else { continue };
        for other in others {
            let (name, LocatedSecret { at, .. }) = &located[*other];
            let (name, first_name) = (printable_name(name), printable_name(&located[*first].0));
            if is_off(*first) != is_off(*other) {
                let text = format!(
                    "{name}: same secret as {first_name}, and only one of them is in \
                     disabled-users, so the other's link lets both in; {NEW_SECRET}"
                );
                report.error(*at, text);
                continue;
            }
            report.warn(
                *at,
                format!("{name}: same secret as {first_name}, who gets the traffic; {NEW_SECRET}"),
            );
        }
    }
}

/// The paths of `urls` and `update-each`.
const BLOCKLIST_KEYS: [&str; 2] = ["defense.blocklist.urls", "defense.blocklist.update-each"];
const ALLOWLIST_KEYS: [&str; 2] = ["defense.allowlist.urls", "defense.allowlist.update-each"];

const NOT_ENABLED: &str =
    "the list keeps no client out; add enabled = true, or enabled = false if that is meant";
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

/// Public list servers dislike shorter intervals.
const POLITE_LISTS: Duration = Duration::from_secs(60);
/// More frequent page visits do not look like those of a browser.
const POLITE_PAGES: Duration = Duration::from_secs(300);
/// Of `tolerate-time-skewness` without anti-replay.
const SKEW_WITHOUT_STORE: Duration = Duration::from_secs(5);
/// The resolution of the scheduler.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
