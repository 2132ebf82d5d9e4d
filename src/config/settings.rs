//! The settings that the rest of the program reads: typed, complete and valid. Only `finish.rs`
//! makes them, so that no value needs a second check. `Default` is a blank for the setters of
//! `keys.rs`, which has the defaults.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::proto::secret::Secret;
use crate::proto::url::Url;
use crate::util::cidr::Cidr;
use crate::util::host_port::HostPort;
pub use crate::util::log_settings::{LogFormat, LogLevel, LogSettings, LogTo};

/// All settings of a config file or of the flags of `simple-run`.
#[derive(Debug, Clone, Default)]
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
    /// Level, format and target of the log.
    pub log: LogSettings,
    /// The file to write our process id to.
    pub pid_file: Option<PathBuf>,
    /// The file of totals that survive a restart; `None` = off.
    pub state: Option<StateSettings>,
    /// Most simultaneous connections, including those of unauthenticated clients (1..=65535).
    pub concurrency: u32,
    /// Order and selection of Telegram's addresses by family.
    pub prefer_ip: PreferIp,
    /// The server in links instead of our addresses: a DNS name, or an address.
    pub public_host: Option<String>,
    /// The port in links, if it is not that of the first listener.
    pub public_port: Option<u16>,
    /// Our address for links over IPv4, if the operator set it.
    pub public_ipv4: Option<IpAddr>,
    /// Our address for links over IPv6, if the operator set it.
    pub public_ipv6: Option<IpAddr>,
    /// Largest accepted difference between our clock and the time in a ClientHello.
    pub time_skew: Duration,
    /// Send clients that ask for an unknown data centre to data centre 2.
    pub fallback_on_unknown_dc: bool,
    /// The front, which unauthenticated clients are forwarded to.
    pub front: FrontSettings,
    /// Fair share of connections; `None` = off.
    pub throttle: Option<ThrottleSettings>,
    /// Most bytes per second that the relay forwards, both directions together; `None` = any.
    pub relay_rate: Option<u32>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// TCP keep-alive on every relayed socket.
    pub keep_alive: KeepAlive,
    /// `TCP_NOTSENT_LOWAT` in bytes on every relayed socket; `None` = the kernel's default.
    pub not_sent_lowat: Option<u32>,
    /// Decrypt and re-encrypt downloads. `false`: the keys towards Telegram are chosen so that the
    /// relay copies the ciphertext unchanged.
    pub re_encrypt: bool,
    /// Pause 1 to 2 ms between event loop rounds with many small reads.
    pub coalesce_reads: bool,
    /// The replay store; `None` = off.
    pub replay: Option<ReplaySettings>,
    /// `[telegram.dc-overrides]`: addresses that replace the built-in ones of a data centre.
    pub dc_overrides: Vec<(u16, Vec<SocketAddr>)>,
    /// A page that returns our public address, for `access` and `doctor`; `None` = none. The daemon
    /// never fetches it.
    pub public_ip_url: Option<Url>,
    /// How host names are resolved.
    pub dns: DnsSettings,
    /// The upstreams (`network.proxies`); empty = connect to Telegram directly.
    pub upstreams: Vec<UpstreamSettings>,
    /// Device, source addresses and mark of outgoing connections.
    pub egress: EgressSettings,
    /// `TCP_CONGESTION` of relayed sockets; `None` = the system's.
    pub congestion: Option<String>,
    /// `TCP_MAXSEG` on the listeners for clients (88..=32767 bytes); `None` = the system's.
    pub max_segment: Option<u16>,
    /// Listen and dial with Multipath TCP where the kernel supports it.
    pub multipath: bool,
    /// `SO_REUSEPORT` on the listeners for clients, so that several processes can share a port.
    pub reuse_port: bool,
    /// Accept PROXY protocol headers on the listeners for clients.
    pub proxy_protocol: Option<ProxyProtocolSettings>,
    /// The pages of Telegram's list of data centres, fetched every hour; `None` = off.
    pub dc_list: Option<Vec<Url>>,
    /// Lists of addresses that are refused.
    pub blocklist: Option<ListSettings>,
    /// Lists of addresses; all others are refused.
    pub allowlist: Option<ListSettings>,
    /// The directory for copies of fetched lists, for a restart without a network.
    pub cache_dir: Option<PathBuf>,
    /// The traffic shape of downloads; `None` = off.
    pub shape: Option<ShapeSettings>,
    /// The pages whose record timing downloads imitate, and the interval of page visits and front
    /// probes.
    pub page_timing: PageTimingSettings,
    /// A PEM file with certificates to trust in addition to the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// Most bytes of memory in all; `None` = depends on the memory of the machine.
    pub memory_limit: Option<u64>,
    /// Most bytes of unsent data; `None` = depends on the memory of the machine.
    pub buffer_bytes: Option<u64>,
    /// Log full client addresses instead of /24 and /48.
    pub log_addresses: bool,
}

/// Where the settings come from, and what the flags of `run` set.
#[derive(Debug, Clone, Default)]
pub struct SettingsSource {
    /// The config file, if there is one.
    pub config_path: Option<PathBuf>,
    /// The warnings about it, one line each.
    pub warnings: Vec<String>,
    /// The log flags, which apply after each reload too.
    pub log: LogChoice,
    /// The user to run as: a name, or `UID:GID`.
    pub user: Option<String>,
}

/// One user.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// The name in `[secrets]`, or `default` for a single secret.
    pub name: String,
    /// The key and the host.
    pub secret: Secret,
    /// Whether the user may connect: is not in `disabled-users`.
    pub enabled: bool,
}

/// A listener for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpBind {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl Default for HttpBind {
    fn default() -> Self {
        Self::Unix(PathBuf::new())
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrometheusSettings {
    /// The listener.
    pub bind: HttpBind,
    /// The path of the page; `/` = any path.
    pub path: String,
    /// First part of the metric names, without the underscore.
    pub prefix: String,
    /// Export names and traffic of the users too.
    pub per_user: bool,
}

/// `[stats.statsd]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdSettings {
    /// The address of the statsd server (UDP).
    pub address: SocketAddr,
    /// First part of the metric names, without the dot.
    pub prefix: String,
    /// The format of labels.
    pub tags: TagFormat,
}

impl Default for StatsdSettings {
    fn default() -> Self {
        let address = SocketAddr::from(([0; 4], 0));
        Self { address, prefix: String::new(), tags: TagFormat::default() }
    }
}

/// The format of labels in a statsd line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TagFormat {
    /// `name:1|c|#label:value`.
    #[default]
    Datadog,
    /// `name,label=value:1|c`.
    Influxdb,
    /// `name;label=value:1|c`.
    Graphite,
}

/// The log flags of `run`, which override the file; `None` = not given.
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
    /// The settings of a file with the flags applied.
    pub fn apply_to(self, file: LogSettings) -> LogSettings {
        LogSettings {
            level: self.level.unwrap_or(file.level),
            format: self.format.unwrap_or(file.format),
            to: self.to.unwrap_or(file.to),
        }
    }
}

/// `state-file` and `state-interval`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateSettings {
    /// The file.
    pub path: PathBuf,
    /// Least time between two writes.
    pub interval: Duration,
}

/// `prefer-ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreferIp {
    /// IPv4 first, then IPv6.
    PreferIpv4,
    /// IPv6 first, then IPv4.
    #[default]
    PreferIpv6,
    /// Only IPv4.
    OnlyIpv4,
    /// Only IPv6.
    OnlyIpv6,
}

/// `[domain-fronting]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrontSettings {
    /// A host name or an IP address to dial instead of the secret's host.
    pub host: Option<String>,
    /// The port to dial.
    pub port: u16,
    /// Send the client's address in a PROXY protocol header, version 2.
    pub proxy_protocol: bool,
    /// Probe the TLS answer of the front, at start and every [`PageTimingSettings::interval`], and
    /// imitate it.
    pub probe: bool,
    /// Delay answers by as much as the front does.
    pub mimic_latency: bool,
}

/// `proxy-protocol-listener`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyProtocolSettings {
    /// Networks of the load balancers whose headers are accepted; empty = any.
    pub trusted: Vec<Cidr>,
}

impl ProxyProtocolSettings {
    /// Whether a header from this peer is accepted.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.is_empty() || self.trusted.iter().any(|network| network.contains(peer))
    }
}

/// `network.dns`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsSettings {
    /// The name server.
    pub server: NameServer,
    /// The address of a `tls://` or `https://` server; `None` = its host name is resolved with the
    /// name servers of the system, when first needed.
    pub bootstrap: Option<IpAddr>,
}

/// A name server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NameServer {
    /// The servers in `/etc/resolv.conf`.
    #[default]
    System,
    /// DNS over UDP; over TCP if an answer is truncated.
    Udp(SocketAddr),
    /// DNS over TLS (RFC 7858); the certificate must be valid for the host. Default port 853.
    Tls(HostPort),
    /// DNS over HTTPS (RFC 8484); the scheme is `https`, the path is never empty.
    Https(Url),
}

/// An entry of `network.proxies`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamSettings {
    /// A direct connection: the empty string or `direct`.
    Direct,
    /// A SOCKS5 proxy.
    Socks5(ProxySettings),
}

/// A SOCKS5 proxy with its circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Default port 1080.
    pub server: HostPort,
    /// User name (1..=255 bytes) and password (0..=255 bytes), percent-decoded.
    pub user: Option<(Vec<u8>, Vec<u8>)>,
    /// Failures in a row that open the circuit (`open_threshold`, default 5).
    pub open_threshold: u32,
    /// How long the circuit stays open before a trial (`half_open_timeout`, default 1m).
    pub half_open_timeout: Duration,
    /// Failures older than this do not count (`reset_failures_timeout`, default 10s).
    pub reset_failures_timeout: Duration,
}

/// Source of outgoing connections. Device and addresses do not apply to destinations on loopback,
/// unless they are loopback themselves.
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListSettings {
    /// Files and URLs.
    pub sources: Vec<ListSource>,
    /// Most simultaneous fetches, at least 1.
    pub concurrency: u32,
    /// Time between two updates.
    pub interval: Duration,
}

/// The source of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListSource {
    /// A file, as an absolute path.
    File(PathBuf),
    /// An `http` or `https` URL.
    Web(Url),
}

/// `[defense.doppelganger]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShapeSettings {
    /// Pace every record, not only the first ones after a pause.
    pub always: bool,
    /// Start a burst with small records (dynamic record sizing).
    pub drs: bool,
}

/// Page visits that measure record timing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageTimingSettings {
    /// `https` pages to visit; empty = the built-in pace is used.
    pub pages: Vec<Url>,
    /// Number of fetches of each page per visit.
    pub repeats: u32,
    /// Time between two visits.
    pub interval: Duration,
}

/// `[throttle]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThrottleSettings {
    /// Connections that the users share (1..=65535).
    pub max_connections: u32,
    /// Time between two computations of the caps.
    pub check_interval: Duration,
}

/// `[network.timeout]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Dial of one address.
    pub tcp: Duration,
    /// A fetch without progress.
    pub http: Duration,
    /// A session without data.
    pub idle: Duration,
    /// From accept to the end of the 64-byte header.
    pub handshake: Duration,
}

/// `[network.keep-alive]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySettings {
    /// Upper bound of the store in bytes.
    pub max_bytes: u64,
}
