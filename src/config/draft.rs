//! The settings while they are being read: every key is still optional. [`Draft::settle`] fills
//! in the defaults, judges what concerns more than one key, and makes [`Settings`] of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::report::{Report, shown};
use super::settings::{
    DnsSettings, EgressSettings, FrontSettings, KeepAlive, NameServer, PreferIp, RaidSettings,
    ReplaySettings, Settings, ThrottleSettings, Timeouts, UserSettings,
};
use crate::proto::secret::Secret;

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
    pub dns_server: Option<SocketAddr>,
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
        let binds = self.binds.unwrap_or_else(|| {
            report.error(0, NO_BIND);
            Vec::new()
        });
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
                proxy_protocol: false,
                scout: false,
                mimic_latency: false,
            },
            throttle,
            timeouts: Timeouts {
                tcp: self.timeout_tcp.unwrap_or(TIMEOUT_TCP),
                http: TIMEOUT_HTTP,
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
            dns: DnsSettings {
                server: self.dns_server.map_or(NameServer::System, NameServer::Udp),
                bootstrap: None,
            },
            routes: Vec::new(),
            egress: EgressSettings::default(),
            congestion: None,
            max_segment: None,
            multipath: false,
            reuse_port: false,
            proxy_protocol: None,
            dc_list: None,
            blocklist: None,
            allowlist: None,
            cache_dir: None,
            shape: None,
            raids: RaidSettings { pages: Vec::new(), repeats: RAID_REPEATS, every: RAID_EACH },
            ca_file: None,
            buffer_bytes: self.buffer_bytes,
            log_addresses: self.log_addresses,
        })
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
const RAID_REPEATS: u32 = 10;
const RAID_EACH: Duration = Duration::from_secs(6 * 3600);
const NOT_SENT_LOWAT: u64 = 128 << 10;
const REPLAY_BYTES: u64 = 1 << 20;
/// The replay store, not the clock, is the guard; router clocks are often off.
const SKEW_WITH_REPLAY_STORE: Duration = Duration::from_secs(120);
const SKEW_WITHOUT: Duration = Duration::from_secs(5);
