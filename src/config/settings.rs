//! What the rest of the program reads: plain, typed, valid. Made by `load.rs` only, so a value
//! here never needs a second check.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::proto::secret::Secret;
use crate::proto::url::Url;

/// Everything that a config file or the flags of `simple-run` decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The users, in ascending byte order of their names; never empty.
    pub users: Vec<UserSettings>,
    /// The listeners for clients, in the order of the file; never empty, no duplicates.
    pub binds: Vec<SocketAddr>,
    /// The listener of `GET /stats`.
    pub api_bind: Option<HttpBind>,
    /// Metrics for Prometheus; `None` = off.
    pub prometheus: Option<PrometheusSettings>,
    /// Metrics for statsd; `None` = off.
    pub statsd: Option<StatsdSettings>,
    /// What is logged, how and where.
    pub log: LogSettings,
    /// Where our process number is written.
    pub pid_file: Option<PathBuf>,
    /// Totals that survive a restart; `None` = off.
    pub state: Option<StateSettings>,
    /// Most simultaneous sessions, fronted ones included (1..=65535).
    pub concurrency: u32,
    /// Order and filter of Telegram's addresses.
    pub prefer_ip: PreferIp,
    /// Our address for IPv4 links, if the operator states it.
    pub public_ipv4: Option<IpAddr>,
    /// Our address for IPv6 links, if the operator states it.
    pub public_ipv6: Option<IpAddr>,
    /// Largest accepted distance between our clock and the one in a ClientHello.
    pub time_skew: Duration,
    /// Send clients that ask for an unknown DC to DC 2.
    pub fallback_on_unknown_dc: bool,
    /// Where strangers go.
    pub front: FrontSettings,
    /// Fair share of connections; `None` = off.
    pub throttle: Option<ThrottleSettings>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// TCP keep-alive on every relayed socket.
    pub keep_alive: KeepAlive,
    /// `TCP_NOTSENT_LOWAT` in bytes on every relayed socket; `None` = leave the kernel's default.
    pub not_sent_lowat: Option<u32>,
    /// `false`: download keys are matched, so the relay copies ciphertext untouched.
    pub re_encrypt: bool,
    /// Rest 1 to 2 ms between rounds of many small reads.
    pub coalesce_reads: bool,
    /// The store against replayed hellos; `None` = off.
    pub replay: Option<ReplaySettings>,
    /// `[telegram.dc-overrides]`: addresses that replace the built-in ones of a DC.
    pub dc_overrides: Vec<(u16, Vec<SocketAddr>)>,
    /// Who tells `access` and `doctor` our own address; `None` = nobody. The daemon never asks.
    pub public_ip_url: Option<Url>,
    /// Who is asked for names.
    pub dns: DnsSettings,
    /// Ways to Telegram; empty = directly.
    pub upstreams: Vec<UpstreamSettings>,
    /// From where our own connections start.
    pub egress: EgressSettings,
    /// `TCP_CONGESTION` of relayed sockets; `None` = the system's.
    pub congestion: Option<String>,
    /// `TCP_MAXSEG` on the listeners for clients (88..=32767 bytes); `None` = the system's.
    pub max_segment: Option<u16>,
    /// Listen and dial with Multipath TCP where the kernel has it.
    pub multipath: bool,
    /// `SO_REUSEPORT` on the listeners for clients, so that several processes share a port.
    pub reuse_port: bool,
    /// Accept PROXY protocol headers on the listeners for clients.
    pub proxy_protocol: Option<ProxyProtocolSettings>,
    /// Pages of Telegram's list of data centres, read every hour; `None` = off.
    pub dc_list: Option<Vec<Url>>,
    /// Addresses that may not connect.
    pub blocklist: Option<ListSettings>,
    /// Addresses that alone may connect.
    pub allowlist: Option<ListSettings>,
    /// Where fetched lists are kept, so that a restart without a network has them.
    pub cache_dir: Option<PathBuf>,
    /// Traffic shape of downloads; `None` = off.
    pub shape: Option<ShapeSettings>,
    /// Pages whose pace downloads imitate, and how often origins are looked at.
    pub page_timing: PageTimingSettings,
    /// Certificates to trust besides the built-in ones, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Most bytes that unsent data may occupy; `None` = chosen from the machine's memory.
    pub buffer_bytes: Option<u64>,
    /// Log full client addresses instead of /24 and /48.
    pub log_addresses: bool,
}

/// Where the settings come from.
#[derive(Debug, Clone, Default)]
pub struct SettingsSource {
    /// The file, when there is one.
    pub config_path: Option<std::path::PathBuf>,
    /// What the loader has to say about it, one line each.
    pub warnings: Vec<String>,
    /// What the flags say of the log, now and after each reload.
    pub log: LogChoice,
    /// Who to become before anything is opened: a name, or `UID:GID`.
    pub user: Option<String>,
}

/// One named secret.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// The key in `[secrets]`, or `default`.
    pub name: String,
    /// Its key and host.
    pub secret: Secret,
    /// Not in `disabled-users`.
    pub enabled: bool,
}

/// Where we listen for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpBind {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl fmt::Display for HttpBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[stats.prometheus]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Where it is served.
    pub bind: HttpBind,
    /// Under which path; `/` = any.
    pub path: String,
    /// First part of the names, without the underscore.
    pub prefix: String,
    /// Names and traffic of the users too.
    pub per_user: bool,
}

/// `[stats.statsd]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdSettings {
    /// Where it listens, over UDP.
    pub address: SocketAddr,
    /// First part of the names, without the dot.
    pub prefix: String,
    /// How labels are written.
    pub tags: TagFormat,
}

/// How statsd lines carry labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagFormat {
    /// `name:1|c|#label:value`.
    Datadog,
    /// `name,label=value:1|c`.
    Influxdb,
    /// `name;label=value:1|c`.
    Graphite,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// The least urgent lines that are wanted.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Where it goes.
    pub to: LogTo,
}

/// What was said of the log in a stronger place than a file; `None` = nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogChoice {
    /// `--log-level`.
    pub level: Option<LogLevel>,
    /// `--log-format`.
    pub format: Option<LogFormat>,
    /// `--log-to`.
    pub to: Option<LogTo>,
}

impl LogChoice {
    /// The settings of a file with the choice put over them.
    pub fn apply_to(self, file: LogSettings) -> LogSettings {
        LogSettings {
            level: self.level.unwrap_or(file.level),
            format: self.format.unwrap_or(file.format),
            to: self.to.unwrap_or(file.to),
        }
    }
}

/// `log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Something is lost.
    Error,
    /// Something needs the operator.
    Warn,
    /// What the operator may want to know.
    #[default]
    Info,
    /// Every connection's story.
    Debug,
}

/// `log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `key=value`.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// `log-to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// Standard error.
    #[default]
    Stderr,
    /// `/dev/log`.
    Syslog,
    /// systemd's journal.
    Journal,
}

/// `state-file` and `state-interval`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// The file.
    pub path: PathBuf,
    /// The least time between two writes.
    pub interval: Duration,
}

/// `prefer-ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferIp {
    /// IPv4 first, then IPv6.
    PreferIpv4,
    /// IPv6 first, then IPv4.
    PreferIpv6,
    /// Only IPv4.
    OnlyIpv4,
    /// Only IPv6.
    OnlyIpv6,
}

/// `[domain-fronting]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontSettings {
    /// A name or an address to dial instead of the secret's host.
    pub host: Option<String>,
    /// The port to dial.
    pub port: u16,
    /// Tell it the stranger's address in a PROXY protocol v2 header.
    pub proxy_protocol: bool,
    /// Look at how it answers TLS, at start and every [`PageTimingSettings::interval`], and answer alike.
    pub probe: bool,
    /// Delay answers by as much as the origin takes.
    pub mimic_latency: bool,
}

/// `proxy-protocol-listener`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocolSettings {
    /// Whose headers count; empty = everybody's.
    pub trusted: Vec<Cidr>,
}

impl ProxyProtocolSettings {
    /// Whether a header that comes from this peer counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.is_empty() || self.trusted.iter().any(|network| network.contains(peer))
    }
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Any address in it.
    pub addr: IpAddr,
    /// 0..=32 or 0..=128.
    pub bits: u8,
}

impl Cidr {
    /// Whether an address lies in it; IPv4 in either spelling.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let outside = |width: u32| width.saturating_sub(u32::from(self.bits));
        match (self.addr, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(outside(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(outside(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// `network.dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// Who is asked.
    pub server: NameServer,
    /// The address of a `tls://` or `https://` server; `None` = its name is looked up through the
    /// system's servers, when first needed.
    pub bootstrap: Option<IpAddr>,
}

/// Who is asked for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameServer {
    /// The servers in `/etc/resolv.conf`.
    System,
    /// Plain DNS over UDP, TCP where an answer is truncated.
    Udp(SocketAddr),
    /// DNS over TLS (RFC 7858).
    Tls {
        /// A name or a literal address; the certificate must be for it.
        host: String,
        /// 853 unless given.
        port: u16,
    },
    /// DNS over HTTPS (RFC 8484); the scheme is `https`, the path is never empty.
    Https(Url),
}

/// One of `network.proxies`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamSettings {
    /// The empty text or `direct`.
    Direct,
    /// A SOCKS5 proxy.
    Socks5(ProxySettings),
}

/// A SOCKS5 proxy and when to stop asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// A name or a literal address.
    pub host: String,
    /// 1080 unless given.
    pub port: u16,
    /// Name (1..=255 bytes) and password (0..=255 bytes), percent-decoded.
    pub user: Option<(Vec<u8>, Vec<u8>)>,
    /// Failures in a row after which it rests (`open_threshold`, 5).
    pub open_threshold: u32,
    /// How long it rests before one dial tries again (`half_open_timeout`, 1m).
    pub half_open_timeout: Duration,
    /// Failures older than this are forgotten (`reset_failures_timeout`, 10s).
    pub reset_failures_timeout: Duration,
}

/// From where our own connections start. Device and addresses are not applied to destinations on
/// loopback, unless they are loopback themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressSettings {
    /// `SO_BINDTODEVICE`.
    pub device: Option<String>,
    /// Source addresses, at most one per family. A family without one is not used.
    pub addrs: Vec<IpAddr>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
}

/// `[defense.blocklist]` or `[defense.allowlist]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSettings {
    /// Files and web addresses.
    pub sources: Vec<ListSource>,
    /// Fetches at once, at least 1.
    pub concurrency: u32,
    /// How often they are read again.
    pub interval: Duration,
}

/// Where a list comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListSource {
    /// A file, as an absolute path.
    File(PathBuf),
    /// An `http` or `https` URL.
    Web(Url),
}

/// `[defense.doppelganger]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeSettings {
    /// Pace every record, not only the first ones after a pause.
    pub always: bool,
    /// Start with small records.
    pub drs: bool,
}

/// Visits to web sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageTimingSettings {
    /// `https` pages to learn the pace from; empty = the built-in statistics.
    pub pages: Vec<Url>,
    /// How often each page is fetched per visit.
    pub repeats: u32,
    /// How often to visit.
    pub interval: Duration,
}

/// `[throttle]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Connections that the users share (1..=65535).
    pub max_connections: u32,
    /// How often the caps are computed anew.
    pub check_interval: Duration,
}

/// `[network.timeout]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Dial, per address.
    pub tcp: Duration,
    /// A download standing still.
    pub http: Duration,
    /// Silence after which a session ends.
    pub idle: Duration,
    /// From accept to the end of the 64-byte header.
    pub handshake: Duration,
}

/// `[network.keep-alive]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// `SO_KEEPALIVE`.
    pub enabled: bool,
    /// `TCP_KEEPIDLE` (at most 32767 s).
    pub idle: Duration,
    /// `TCP_KEEPINTVL` (at most 32767 s).
    pub interval: Duration,
    /// `TCP_KEEPCNT` (1..=127).
    pub count: u32,
}

/// `[defense.anti-replay]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplaySettings {
    /// Upper bound of the store in bytes.
    pub max_bytes: u64,
}
