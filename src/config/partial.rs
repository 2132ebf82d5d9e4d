//! The settings while a file is read: every key is still optional. `finish.rs` makes
//! [`Settings`](crate::config::settings::Settings) of them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::settings::{
    HttpBind, ListSource, LogFormat, LogLevel, LogTo, NameServer, PreferIp, TagFormat,
    UpstreamSettings,
};
use crate::proto::secret::Secret;
use crate::proto::url::Url;
use crate::util::cidr::Cidr;

/// The values in the file, one field per key; `None` = the key is not set.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct PartialSettings {
    pub secret: Option<LocatedSecret>,
    /// The file has a secret, valid or not.
    pub has_secret: bool,
    /// In the order of the file; of several with one name, the last one wins.
    pub secrets: Vec<(String, LocatedSecret)>,
    pub binds: Option<Vec<SocketAddr>>,
    /// Names and their offsets in bytes.
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
    /// Sorted by number, without duplicates.
    pub dc_overrides: Vec<(u16, Vec<SocketAddr>)>,
    pub buffer_bytes: Option<u64>,
    pub log_addresses: bool,
    pub log_level: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    pub log_to: Option<LogTo>,
    pub pid_file: Option<PathBuf>,
    pub state_file: Option<PathBuf>,
    pub state_interval: Option<Duration>,
    /// `Some(None)`: the empty string, which turns the look-up off.
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

/// `[defense.blocklist]` or `[defense.allowlist]`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the keys, which `keys.rs` explains")]
pub struct PartialIpList {
    pub enabled: bool,
    pub sources: Vec<ListSource>,
    pub concurrency: Option<u32>,
    pub interval: Option<Duration>,
}

/// A secret and its position in the file.
#[derive(Debug)]
pub struct LocatedSecret {
    /// The secret.
    pub secret: Secret,
    /// Its offset in bytes.
    pub at: usize,
}

/// The name of the user of a single `secret`.
pub const SINGLE_USER: &str = "default";
