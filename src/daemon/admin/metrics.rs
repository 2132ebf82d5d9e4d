//! What is told to those who collect metrics: the numbers of the reference under its names
//! (spec: stats 5), and more of our own, all of which end in what they count. Made when asked for.

use std::collections::BTreeMap;

use crate::accounts::users::User;
use crate::config::settings::PrometheusSettings;
use crate::daemon::admin::counters::{DcRow, Families};
use crate::daemon::fetch::ip_lists::lists::IpList;
use crate::daemon::shared::World;
use crate::io::logger;
use crate::limits::circuit_breaker::CircuitState;
use crate::proto::metrics::MetricKind::{Counter, Gauge, OldCounter};
use crate::proto::metrics::{Family, Sample, prometheus};

/// The page for Prometheus.
pub fn page(world: &World, settings: &PrometheusSettings) -> String {
    let mut families = shared(world);
    families.extend(process(world));
    if settings.per_user {
        families.extend(users(world));
    }
    prometheus::page(&settings.prefix, &families)
}

/// What everybody is told: nothing in it changes while nothing happens.
pub fn shared(world: &World) -> Vec<Family<'_>> {
    let mut families = reference(world);
    families.extend(own(world));
    families.extend(lists(world));
    families.extend(upstreams(world));
    families
}

fn reference(world: &World) -> Vec<Family<'_>> {
    let meter = &world.telemetry.counters;
    let rows = || meter.telegram.rows().iter();
    let traffic = rows().flat_map(|row| {
        [("to_client", row.traffic.to_client), ("from_client", row.traffic.from_client)]
            .map(|(direction, bytes)| place(row, bytes).and("direction", direction))
    });
    let front = [("to_client", meter.front.to_client), ("from_client", meter.front.from_client)]
        .map(|(direction, bytes)| Sample::with("direction", direction, bytes));
    let list = |value: fn(&_) -> u64| {
        let lists = world.lists.iter();
        lists.map(move |(which, list)| Sample::with("ip_list", which.as_str(), value(list)))
    };
    vec![
        Family::of("client_connections", Gauge, CLIENTS, families(&meter.clients)),
        Family::of(
            "telegram_connections",
            Gauge,
            "Connections to Telegram that stand now.",
            rows().map(|row| place(row, row.connections)),
        ),
        Family::of("domain_fronting_connections", Gauge, FRONTED, families(&meter.fronting)),
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
            "Bytes between strangers and the site behind us.",
            front,
        ),
        Family::of(
            "ip_blocklisted",
            OldCounter,
            "Connections that a list turned away.",
            list(|list: &IpList| list.refused),
        ),
        Family::one(
            "domain_fronting",
            OldCounter,
            meter.fronted,
            "Connections that were led to the site behind us.",
        ),
        Family::one(
            "concurrency_limited",
            OldCounter,
            meter.concurrency_limited,
            "Connections closed because there was no place left.",
        ),
        Family::one(
            "replay_attacks",
            OldCounter,
            meter.replays,
            "Hellos that had been used before.",
        ),
    ]
}

fn own(world: &World) -> Vec<Family<'_>> {
    let meter = &world.telemetry.counters;
    let mut families = vec![
        Family::one(
            "throttled_total",
            Counter,
            meter.throttled,
            "Hellos over their user's fair share.",
        ),
        Family::one(
            "telegram_unreachable_total",
            Counter,
            meter.unreachable,
            "Sessions for which no address of Telegram could be reached.",
        ),
        Family::one(
            "pressure_closed_total",
            Counter,
            meter.pressed,
            "Sessions ended for want of memory or of places for strangers.",
        ),
        Family::one(
            "bad_proxy_headers_total",
            Counter,
            meter.bad_headers,
            "Connections closed for their PROXY protocol header.",
        ),
        Family::one(
            "buffers_in_use",
            Gauge,
            world.buffers.pool.in_use() as u64,
            "Blocks of 16 KiB that hold bytes which a peer has not taken yet.",
        ),
        Family::one(
            "client_connections_limit",
            Gauge,
            world.capacity.sessions_max.into(),
            "How many there may be: concurrency, or less where the system allows less.",
        ),
        Family::one(
            "domain_fronting_connections_limit",
            Gauge,
            world.capacity.fronted_max.into(),
            "How many of them may be led to the site behind us.",
        ),
        Family::one(
            "log_lines_folded_total",
            Counter,
            world.telemetry.log.suppressed(),
            "Lines that the log only counted, since it had said the same a moment before.",
        ),
        Family::one(
            "log_lines_lost_total",
            Counter,
            logger::lost_lines(),
            "Lines that nobody took.",
        ),
        Family::one(
            "buffers_most",
            Gauge,
            world.buffers.pool.capacity() as u64,
            "Blocks there may be.",
        ),
        Family::one(
            "user_connections",
            Gauge,
            world.accounts.users.total_connections().into(),
            "Sessions of users.",
        ),
        Family::one(
            "users",
            Gauge,
            world.accounts.users.ids().count() as u64,
            "Users in the config, disabled ones included.",
        ),
    ];
    if let Some(throttle) = &world.limits.throttle {
        let active = u64::from(throttle.is_active());
        families.extend([
            Family::one("throttle_active", Gauge, active, "Whether anybody is over the share."),
            Family::one("throttle_limit", Gauge, throttle.limit().into(), "Shared connections."),
        ]);
    }
    if world.settings.statsd.is_some() {
        families.push(Family::one(
            "statsd_lost_total",
            Counter,
            meter.statsd_lost,
            "Datagrams that statsd did not get, as far as we know.",
        ));
    }
    families
}

/// How the lists fare; nothing where there are none.
fn lists(world: &World) -> Vec<Family<'_>> {
    if world.lists.iter().next().is_none() {
        return Vec::new();
    }
    let each = |value: fn(&IpList) -> u64| {
        let lists = world.lists.iter();
        lists.map(move |(which, list)| Sample::with("ip_list", which.as_str(), value(list)))
    };
    vec![
        Family::of(
            "iplist_failures_total",
            Counter,
            "Sources of a list that did not come when it was their time.",
            each(|list| list.failed),
        ),
        Family::of(
            "iplist_updated_seconds",
            Gauge,
            "Since when no source of a list is older, in Unix seconds; 0 = not all have come.",
            each(|list| list.updated().map_or(0, |at| at.as_secs())),
        ),
    ]
}

/// How the proxies on the way to Telegram fare; nothing where there are none.
fn upstreams(world: &World) -> Vec<Family<'_>> {
    // Those that differ in the user alone have one name, and a name may come only once.
    let mut proxies: BTreeMap<String, ProxyStatus> = BTreeMap::new();
    for (name, circuit, way) in world.outbound.upstreams.proxies(world.time.now) {
        let proxy = proxies.entry(name).or_default();
        proxy.is_up |= circuit != CircuitState::Open;
        proxy.dials += way.dials;
        proxy.failures += way.failures;
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
            "Whether a proxy on the way to Telegram is used; 0 = it rests after failures.",
            each(|proxy| u64::from(proxy.is_up)),
        ),
        Family::of(
            "upstream_dials_total",
            Counter,
            "Connections asked of a proxy.",
            each(|proxy| proxy.dials),
        ),
        Family::of(
            "upstream_failures_total",
            Counter,
            "Those that failed through its own fault.",
            each(|proxy| proxy.failures),
        ),
    ]
}

/// One proxy, whoever asks it.
#[derive(Default)]
struct ProxyStatus {
    is_up: bool,
    dials: u64,
    failures: u64,
}

/// About the process itself, for Prometheus alone: some of it changes all the time.
fn process(world: &World) -> Vec<Family<'_>> {
    let started = world.time.wall_of(0).as_secs();
    let version = Sample::with("version", env!("CARGO_PKG_VERSION"), 1);
    vec![
        Family::of("build_info", Gauge, "The version that runs.", [version]),
        Family::one("start_time_seconds", Gauge, started, "When it began, in Unix seconds."),
        Family::one("uptime_seconds", Gauge, world.time.now.0 / 1000, "For how long it has run."),
    ]
}

/// Who uses what; only on request, since it tells names.
fn users(world: &World) -> Vec<Family<'_>> {
    let each = |value: fn(&World, &User, u32) -> u64| {
        let users = world.accounts.users.iter();
        let samples =
            users.map(|(user, live)| Sample::with("user", user.name(), value(world, user, live)));
        samples.collect::<Vec<_>>()
    };
    let seen = |world: &World, user: &User, _: u32| {
        world
            .accounts
            .last_seen(user, |at_ms| world.time.wall_of(at_ms))
            .map_or(0, |at| at.as_secs())
    };
    let total = |pick: fn((u64, u64)) -> u64| {
        let kept = world
            .accounts
            .users
            .iter()
            .filter_map(|(user, _)| Some((user, world.accounts.totals_of(user)?)));
        let samples = kept.map(|(user, both)| Sample::with("user", user.name(), pick(both)));
        samples.collect::<Vec<_>>()
    };
    let mut families = vec![
        Family::of("user_sessions", Gauge, "Sessions of a user.", each(|_, _, live| live.into())),
        Family::of(
            "user_bytes_in_total",
            Counter,
            "Bytes from a user to Telegram.",
            each(|_, user, _| user.bytes_in),
        ),
        Family::of(
            "user_bytes_out_total",
            Counter,
            "Bytes from Telegram to a user.",
            each(|_, user, _| user.bytes_out),
        ),
        Family::of(
            "user_refused_total",
            Counter,
            "Times that a user was kept out or got nowhere; explain says why.",
            each(|_, user, _| user.refused),
        ),
        Family::of(
            "user_last_seen_seconds",
            Gauge,
            "When a user was last admitted or moved bytes, in Unix seconds; 0 = never.",
            each(seen),
        ),
    ];
    if world.accounts.totals.is_some() {
        families.extend([
            Family::of(
                "user_lifetime_bytes_in_total",
                Counter,
                "Bytes from a user to Telegram over all restarts.",
                total(|(bytes_in, _)| bytes_in),
            ),
            Family::of(
                "user_lifetime_bytes_out_total",
                Counter,
                "Bytes from Telegram to a user over all restarts.",
                total(|(_, bytes_out)| bytes_out),
            ),
        ]);
    }
    families
}

fn families(counts: &Families) -> [Sample<'static>; 2] {
    [("ipv4", counts.v4), ("ipv6", counts.v6)]
        .map(|(family, count)| Sample::with("ip_family", family, count))
}

fn place(row: &DcRow, value: u64) -> Sample<'static> {
    match row.place {
        Some((ip, dc)) => {
            Sample::with("telegram_ip", ip.to_string(), value).and("dc", dc.to_string())
        }
        None => Sample::with("telegram_ip", "other", value).and("dc", "other"),
    }
}

/// The type of [`page`].
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
const CLIENTS: &str = "Connections of clients that live now, strangers included.";
const FRONTED: &str = "Those of them that are led to the site behind us.";
