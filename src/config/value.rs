//! The grammars of values. Each variant of [`ValueKind`] has the setter that stores a valid value;
//! `field.rs` parses by them (COMPATIBILITY 3.2).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time;

use crate::config::partial::PartialSettings;
use crate::config::settings::{
    self, ListSource, LogFormat, LogLevel, LogTo, PreferIp, TagFormat, UpstreamSettings,
};
use crate::proto::url::Url;
use crate::util::cidr::Cidr;

/// Stores a valid value.
pub type Set<T> = fn(&mut PartialSettings, T);

/// Parses a string. The error says what is wrong and what to do, without repeating the string.
pub type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// The words of a key, in lower case, each with its setter.
pub type Choices = &'static [(&'static str, fn(&mut PartialSettings))];

/// The grammar of a value, with the setter for valid values.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// `true` or `false`.
    Flag(Set<bool>),
    /// A whole number, 0 to 65535.
    Count(Set<u32>),
    /// A port, 0 to 65535.
    Port(Set<u16>),
    /// A sum of numbers with units, such as `"1h30m"`.
    Duration(Set<time::Duration>),
    /// A size with a unit, such as `"512kib"`.
    Bytes(Set<u64>),
    /// A number from 0 to 100 without 100; it has no effect.
    ErrorRate,
    /// One of several words, in any case.
    Choice(Choices),
    /// One `"IP:port"`.
    Address(Set<SocketAddr>),
    /// One `"IP:port"` or `"unix:/path"`.
    HttpBind(Set<settings::HttpBind>),
    /// One `"IP:port"` or a list of them without duplicates.
    Addresses(Set<Vec<SocketAddr>>),
    /// An IP address.
    Ip(Set<IpAddr>),
    /// A host name or an IP address.
    Host(Set<String>),
    /// A whole number from the first bound to the second.
    Number(u32, u32, Set<u32>),
    /// A name server, in one of four forms.
    NameServer(Set<settings::NameServer>),
    /// One IP address or a list with at most one per family.
    Ips(Set<Vec<IpAddr>>),
    /// A list of networks in CIDR notation.
    Networks(Set<Vec<Cidr>>),
    /// A list of SOCKS5 URLs.
    Proxies(Set<Vec<UpstreamSettings>>),
    /// A list of URLs.
    Pages(Parse<Url>, Set<Vec<Url>>),
    /// One URL, or the empty string for none.
    PageOrNone(Parse<Url>, Set<Option<Url>>),
    /// A list of names.
    Names(Set<Vec<(String, usize)>>),
    /// A list of files and HTTP(S) URLs.
    ListSources(Set<Vec<ListSource>>),
    /// A path in the file system.
    Path(Parse<PathBuf>, Set<PathBuf>),
    /// The name of a kernel object, such as a network device.
    KernelName(Parse<String>, Set<String>),
    /// Lower-case letters and digits.
    Prefix(Set<String>),
    /// The path of a URL.
    HttpPath(Set<String>),
    /// The secret of a single user.
    Secret,
    /// A table of user names and secrets.
    Secrets,
    /// A table of data centres and addresses.
    DcOverrides,
}

impl ValueKind {
    /// The name of the grammar in the documentation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flag(_) => "bool",
            Self::Count(_) => "count",
            Self::Port(_) => "port",
            Self::Duration(_) => "duration",
            Self::Bytes(_) => "bytes",
            Self::ErrorRate => "number",
            Self::Choice(_) => "word",
            Self::Address(_) => "IP:port",
            Self::HttpBind(_) => "IP:port or unix:/path",
            Self::Addresses(_) => "IP:port or list",
            Self::Ip(_) => "IP",
            Self::Host(_) => "host",
            Self::Number(..) => "number",
            Self::NameServer(_) => "DNS URI",
            Self::Ips(_) => "IP or list",
            Self::Networks(_) => "list of networks",
            Self::Proxies(_) | Self::Pages(..) => "list of URLs",
            Self::PageOrNone(..) => "URL",
            Self::Names(_) => "list of names",
            Self::ListSources(_) => "list of files and URLs",
            Self::Path(..) => "path",
            Self::KernelName(..) | Self::Prefix(_) | Self::HttpPath(_) => "text",
            Self::Secret => "secret",
            Self::Secrets => "table of secrets",
            Self::DcOverrides => "table of IP:port lists",
        }
    }
}

/// The words of `prefer-ip`.
pub const PREFER_IP: Choices = &[
    ("prefer-ipv4", |d| d.prefer_ip = Some(PreferIp::PreferIpv4)),
    ("prefer-ipv6", |d| d.prefer_ip = Some(PreferIp::PreferIpv6)),
    ("only-ipv4", |d| d.prefer_ip = Some(PreferIp::OnlyIpv4)),
    ("only-ipv6", |d| d.prefer_ip = Some(PreferIp::OnlyIpv6)),
];

/// The words of `network.moderation`.
pub(super) const READ_COALESCING: Choices =
    &[("auto", |d| d.read_coalescing_off = false), ("off", |d| d.read_coalescing_off = true)];

/// The words of `defense.doppelganger.mode`.
pub(super) const SHAPING: Choices =
    &[("burst", |d| d.shape_always = false), ("always", |d| d.shape_always = true)];

/// The words of `stats.statsd.tag-format`.
pub(super) const TAG_FORMAT: Choices = &[
    ("datadog", |d| d.statsd.tags = Some(TagFormat::Datadog)),
    ("influxdb", |d| d.statsd.tags = Some(TagFormat::Influxdb)),
    ("graphite", |d| d.statsd.tags = Some(TagFormat::Graphite)),
];

/// The words of `log-level`.
pub const LOG_LEVEL: Choices = &[
    ("error", |d| d.log_level = Some(LogLevel::Error)),
    ("warn", |d| d.log_level = Some(LogLevel::Warn)),
    ("info", |d| d.log_level = Some(LogLevel::Info)),
    ("debug", |d| d.log_level = Some(LogLevel::Debug)),
];

/// The words of `log-format`.
pub const LOG_FORMAT: Choices = &[
    ("text", |d| d.log_format = Some(LogFormat::Text)),
    ("json", |d| d.log_format = Some(LogFormat::Json)),
];

/// The words of `log-to`.
pub const LOG_TO: Choices = &[
    ("stderr", |d| d.log_to = Some(LogTo::Stderr)),
    ("syslog", |d| d.log_to = Some(LogTo::Syslog)),
    ("journal", |d| d.log_to = Some(LogTo::Journal)),
];
