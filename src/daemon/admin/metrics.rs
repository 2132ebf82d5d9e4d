//! The metrics for Prometheus and statsd: those of mtg-multi under its names (COMPATIBILITY 6.5),
//! and more of our own. They are computed on request.

use std::collections::BTreeMap;

use crate::accounts::users::UserId;
use crate::config::settings::PrometheusSettings;
use crate::daemon::admin::counters::{DcRow, Families};
use crate::daemon::admin::rows::RowWriter;
use crate::daemon::admin::stats;
use crate::daemon::admin::view::View;
use crate::daemon::fetch::ip_lists::lists::{IpList, IpLists};
use crate::io::logger;
use crate::limits::circuit_breaker::CircuitState;
use crate::proto::metrics::MetricKind::{Counter, Gauge, OldCounter};
use crate::proto::metrics::{Family, MetricKind, Sample, prometheus};
use crate::util::memory::Class;

/// Writes the page for Prometheus, one user of one metric per row.
#[derive(Default)]
pub(super) struct MetricsWriter {
    /// The next metric of users, once the others are written.
    metric: Option<usize>,
    /// Its next user.
    at: usize,
}

impl RowWriter for MetricsWriter {
    fn write_row(&mut self, view: &View<'_>, out: &mut String) -> bool {
        let Some(PrometheusSettings { prefix, per_user, .. }) = &view.settings.prometheus else {
            return false;
        };
        let Some(metric) = self.metric else {
            let mut families = shared(view);
            families.extend(process(view));
            out.push_str(&prometheus::page(prefix, &families));
            self.metric = Some(0);
            return *per_user;
        };
        let all = &USER_METRICS;
        let count = if view.accounts.totals.is_some() { all.len() } else { WITHOUT_TOTALS };
        let Some((name, kind, help, value)) = all.get(metric).filter(|_| metric < count) else {
            return false;
        };
        let full_name = prometheus::full_name(prefix, name);
        if self.at == 0 {
            prometheus::write(out, &full_name, &Family::of(name, *kind, help, []));
        }
        let users = &view.accounts.users;
        match users.nth(self.at) {
            Some(id) => {
                let sample = Sample::with("user", users.get(id).name(), value(view, id));
                prometheus::write_sample(out, &full_name, &sample);
                self.at += 1;
            }
            None => (self.metric, self.at) = (Some(metric + 1), 0),
        }
        true
    }
}

/// The metrics for Prometheus and statsd. None of them changes while the proxy is idle, so that
/// statsd has nothing to send then.
pub fn shared<'a>(view: &View<'a>) -> Vec<Family<'a>> {
    let mut families = of_mtg_multi(view);
    families.extend(own(view));
    families.extend(lists(view.lists));
    families.extend(upstreams(view));
    families
}

/// The metrics of mtg-multi.
fn of_mtg_multi<'a>(view: &View<'a>) -> Vec<Family<'a>> {
    let counters = &view.telemetry.counters;
    let rows = || counters.telegram.rows().iter();
    let traffic = rows().flat_map(|row| {
        [("to_client", row.traffic.to_client), ("from_client", row.traffic.from_client)]
            .map(|(direction, bytes)| telegram_sample(row, bytes).and("direction", direction))
    });
    let front =
        [("to_client", counters.front.to_client), ("from_client", counters.front.from_client)]
            .map(|(direction, bytes)| Sample::with("direction", direction, bytes));
    let list = |value: fn(&_) -> u64| {
        let lists = view.lists.iter();
        lists.map(move |(kind, list)| Sample::with("ip_list", kind.as_str(), value(list)))
    };
    vec![
        Family::of("client_connections", Gauge, CLIENTS, families(&counters.clients)),
        Family::of(
            "telegram_connections",
            Gauge,
            "Open connections to Telegram.",
            rows().map(|row| telegram_sample(row, row.connections)),
        ),
        Family::of("domain_fronting_connections", Gauge, FRONTED, families(&counters.fronting)),
        Family::of(
            "iplist_size",
            Gauge,
            "Networks in a list.",
            list(|list: &IpList| list.entries() as u64),
        ),
        Family::of(
            "telegram_traffic",
            OldCounter,
            "Bytes between clients and Telegram, without handshakes.",
            traffic,
        ),
        Family::of(
            "domain_fronting_traffic",
            OldCounter,
            "Bytes between unauthenticated clients and the front.",
            front,
        ),
        Family::of(
            "ip_blocklisted",
            OldCounter,
            "Connections that a list refused.",
            list(|list: &IpList| list.refused),
        ),
        Family::one(
            "domain_fronting",
            OldCounter,
            counters.fronted,
            "Connections that were relayed to the front.",
        ),
        Family::one(
            "concurrency_limited",
            OldCounter,
            counters.concurrency_limited + counters.evicted_for_places(),
            "Connections closed because concurrency was reached.",
        ),
        Family::one(
            "replay_attacks",
            OldCounter,
            counters.replays,
            "Hellos that were received before.",
        ),
    ]
}

fn own<'a>(view: &View<'a>) -> Vec<Family<'a>> {
    let counters = &view.telemetry.counters;
    let mut families = vec![
        Family::one(
            "throttled_total",
            Counter,
            counters.throttled,
            "Hellos refused because the user had more than a fair share.",
        ),
        Family::one(
            "telegram_unreachable_total",
            Counter,
            counters.unreachable,
            "Sessions for which no address of Telegram was reachable.",
        ),
        Family::one(
            "pressure_closed_total",
            Counter,
            counters.pressed,
            "Sessions closed for lack of memory or at the limit of fronted connections.",
        ),
        Family::of(
            "front_dials_total",
            Counter,
            "Unauthenticated clients whose connection to the front had to wait or was refused.",
            [("delayed", counters.dials_delayed), ("refused", counters.dials_refused)]
                .map(|(outcome, count)| Sample::with("outcome", outcome, count)),
        ),
        Family::one(
            "dial_shortages_total",
            Counter,
            view.outbound.shortages,
            "Outgoing connections that found no local port, descriptor or memory.",
        ),
        Family::of(
            "evicted_total",
            Counter,
            "Sessions closed to make room for others, by whose they were and for what.",
            counters.evictions().map(|(who, room, count)| {
                Sample::with("who", who, count).and("room", room.as_str())
            }),
        ),
        Family::one(
            "bad_proxy_headers_total",
            Counter,
            counters.bad_headers,
            "Connections closed because of their PROXY protocol header.",
        ),
        Family::one(
            "buffers_in_use",
            Gauge,
            view.buffers.pool.in_use() as u64,
            "Blocks of 16 KiB that hold bytes which a peer has not read yet.",
        ),
        Family::of(
            "memory_charged_bytes",
            Gauge,
            "Bytes of buffers whose size depends on peers, by whom they serve.",
            Class::ALL.map(|class| {
                let used = view.buffers.memory.budget.used_by(class) as u64;
                Sample::with("class", class.as_str(), used)
            }),
        ),
        Family::of(
            "memory_bytes",
            Gauge,
            "Bytes that the process and its sockets in the kernel occupied when last looked at.",
            [("process", view.memory.resident), ("kernel", view.memory.kernel)]
                .map(|(part, bytes)| Sample::with("part", part, bytes)),
        ),
        Family::one(
            "memory_limit_bytes",
            Gauge,
            view.memory.limit(),
            "Most bytes of the process and its sockets in the kernel.",
        ),
        Family::one(
            "memory_level",
            Gauge,
            view.memory.level() as u64,
            "How short memory is: 0 = normal, 1 = tight, 2 = critical.",
        ),
        Family::one(
            "client_connections_limit",
            Gauge,
            view.capacity.sessions_max.into(),
            "Most client connections: concurrency, or less if the system allows less.",
        ),
        Family::one(
            "domain_fronting_connections_limit",
            Gauge,
            view.capacity.fronted_max.into(),
            "Most client connections that may be relayed to the front.",
        ),
        Family::one(
            "log_lines_folded_total",
            Counter,
            view.telemetry.log.suppressed(),
            "Log lines that were counted instead of written, as repetitions of recent ones.",
        ),
        Family::one(
            "log_lines_lost_total",
            Counter,
            logger::lost_lines(),
            "Log lines that the log daemon did not accept.",
        ),
        Family::one(
            "buffers_most",
            Gauge,
            view.buffers.blocks_max() as u64,
            "Most blocks of 16 KiB.",
        ),
        Family::one(
            "user_connections",
            Gauge,
            view.accounts.users.total_connections().into(),
            "Sessions of users.",
        ),
        Family::one(
            "users",
            Gauge,
            view.accounts.users.ids().count() as u64,
            "Users in the config, disabled ones included.",
        ),
    ];
    if let Some(throttle) = &view.limits.throttle {
        let active = u64::from(throttle.is_active());
        families.extend([
            Family::one("throttle_active", Gauge, active, "Whether the throttle limits users."),
            Family::one(
                "throttle_limit",
                Gauge,
                throttle.limit().into(),
                "Connections that all users share.",
            ),
        ]);
    }
    if view.settings.statsd.is_some() {
        families.push(Family::one(
            "statsd_lost_total",
            Counter,
            counters.statsd_lost,
            "Datagrams to statsd whose send failed.",
        ));
    }
    families
}

/// Updates of the IP lists; empty without lists.
fn lists(lists: &IpLists) -> Vec<Family<'_>> {
    if lists.iter().next().is_none() {
        return Vec::new();
    }
    let each = |value: fn(&IpList) -> u64| {
        let lists = lists.iter();
        lists.map(move |(kind, list)| Sample::with("ip_list", kind.as_str(), value(list)))
    };
    vec![
        Family::of(
            "iplist_failures_total",
            Counter,
            "Failed downloads or reads of sources of a list.",
            each(|list| list.failed),
        ),
        Family::of(
            "iplist_updated_seconds",
            Gauge,
            "When the oldest source of a list was loaded, in Unix seconds; 0 = not all are loaded.",
            each(|list| list.updated().map_or(0, |at| at.as_secs())),
        ),
    ]
}

/// The SOCKS proxies to Telegram; empty without proxies.
fn upstreams<'a>(view: &View<'a>) -> Vec<Family<'a>> {
    // Proxies that differ only in the user have one name, and labels must be unique.
    let mut proxies: BTreeMap<String, ProxyStatus> = BTreeMap::new();
    for (name, circuit, upstream) in view.outbound.upstreams.proxies(view.time.now) {
        let proxy = proxies.entry(name).or_default();
        proxy.is_up |= circuit != CircuitState::Open;
        proxy.dials += upstream.dials;
        proxy.failures += upstream.failures;
    }
    if proxies.is_empty() {
        return Vec::new();
    }
    let each = |value: fn(&ProxyStatus) -> u64| {
        let proxies = proxies.iter();
        proxies.map(move |(name, proxy)| Sample::with("proxy", name.clone(), value(proxy)))
    };
    vec![
        Family::of(
            "upstream_up",
            Gauge,
            "Whether a proxy to Telegram is used; 0 = its circuit is open after failures.",
            each(|proxy| u64::from(proxy.is_up)),
        ),
        Family::of(
            "upstream_dials_total",
            Counter,
            "Connections requested from a proxy.",
            each(|proxy| proxy.dials),
        ),
        Family::of(
            "upstream_failures_total",
            Counter,
            "Connections that failed because of the proxy.",
            each(|proxy| proxy.failures),
        ),
    ]
}

/// The sum over all upstreams of one name.
#[derive(Default)]
struct ProxyStatus {
    is_up: bool,
    dials: u64,
    failures: u64,
}

/// The process itself, only for Prometheus: the uptime changes all the time.
fn process<'a>(view: &View<'a>) -> Vec<Family<'a>> {
    let started = view.time.wall_of(0).as_secs();
    let version = Sample::with("version", env!("CARGO_PKG_VERSION"), 1);
    vec![
        Family::of("build_info", Gauge, "The running version.", [version]),
        Family::one("start_time_seconds", Gauge, started, "Start of the process, in Unix seconds."),
        Family::one("uptime_seconds", Gauge, view.time.now.0 / 1000, "Seconds since the start."),
    ]
}

/// Name, kind, help and value.
type UserMetric = (&'static str, MetricKind, &'static str, fn(&View<'_>, UserId) -> u64);

/// Metrics of each user. Off by default, since they show names.
const USER_METRICS: [UserMetric; 7] = [
    ("user_sessions", Gauge, "Sessions of a user.", |view, id| {
        view.accounts.users.connections_of(id).into()
    }),
    ("user_bytes_in_total", Counter, "Bytes from a user to Telegram.", |view, id| {
        view.accounts.users.get(id).bytes_in
    }),
    ("user_bytes_out_total", Counter, "Bytes from Telegram to a user.", |view, id| {
        view.accounts.users.get(id).bytes_out
    }),
    (
        "user_refused_total",
        Counter,
        "Refusals and failed sessions of a user; see mtbox explain.",
        |view, id| view.accounts.users.get(id).refused,
    ),
    (
        "user_last_seen_seconds",
        Gauge,
        "When a user was last admitted or moved bytes, in Unix seconds; 0 = never.",
        |view, id| {
            let user = view.accounts.users.get(id);
            stats::last_seen(view.accounts, user, view.time).map_or(0, |at| at.as_secs())
        },
    ),
    (
        "user_lifetime_bytes_in_total",
        Counter,
        "Bytes from a user to Telegram over all restarts.",
        |view, id| totals_of(view, id).0,
    ),
    (
        "user_lifetime_bytes_out_total",
        Counter,
        "Bytes from Telegram to a user over all restarts.",
        |view, id| totals_of(view, id).1,
    ),
];
/// The metrics of users that exist without `state-file`.
const WITHOUT_TOTALS: usize = 5;

fn totals_of(view: &View<'_>, id: UserId) -> (u64, u64) {
    view.accounts.totals_of(view.accounts.users.get(id)).unwrap_or_default()
}

fn families(counts: &Families) -> [Sample<'static>; 2] {
    [("ipv4", counts.v4), ("ipv6", counts.v6)]
        .map(|(family, count)| Sample::with("ip_family", family, count))
}

fn telegram_sample(row: &DcRow, value: u64) -> Sample<'static> {
    match row.endpoint {
        Some((ip, dc)) => {
            Sample::with("telegram_ip", ip.to_string(), value).and("dc", dc.to_string())
        }
        None => Sample::with("telegram_ip", "other", value).and("dc", "other"),
    }
}

/// The content type of the page for Prometheus.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const CLIENTS: &str = "Open client connections, unauthenticated ones included.";
const FRONTED: &str = "Client connections that are relayed to the front.";
