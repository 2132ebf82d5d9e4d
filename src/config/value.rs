//! What values a key takes: reads a TOML value by the grammar of its key into the draft
//! (spec: config 2). Complaints name the key and the remedy, never the value.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time;

use toml_edit::{Item, Value};

use super::{addresses, units, urls};
use crate::config::keys::Key;
use crate::config::partial::{LocatedSecret, PartialSettings};
use crate::config::report::Diagnostics;
use crate::config::settings::{
    Cidr, HttpBind as Place, ListSource, LogFormat, LogLevel, LogTo, NameServer as Server,
    PreferIp, TagFormat, UpstreamSettings,
};
use crate::proto::secret;
use crate::proto::url::Url;

/// Puts a valid value into the draft.
pub type Set<T> = fn(&mut PartialSettings, T);

/// Words to choose from, in lower case, and what each does.
pub type Choices = &'static [(&'static str, fn(&mut PartialSettings))];

/// A grammar and where its values go.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// `true` or `false`.
    Flag(Set<bool>),
    /// 0 to 65535.
    Count(Set<u32>),
    /// 0 to 65535.
    Port(Set<u16>),
    /// `"1h30m"`.
    Duration(Set<time::Duration>),
    /// `"512kib"`.
    Bytes(Set<u64>),
    /// A number between 0 and 100.
    ErrorRate,
    /// One word of several, in any case.
    Choice(Choices),
    /// One `"IP:port"`.
    Address(Set<SocketAddr>),
    /// One `"IP:port"` or `"unix:/path"`.
    HttpBind(Set<Place>),
    /// One `"IP:port"` or a list of different ones.
    Addresses(Set<Vec<SocketAddr>>),
    /// A literal address.
    Ip(Set<IpAddr>),
    /// A name or a literal address.
    Host(Set<String>),
    /// A whole number within bounds.
    Number(u32, u32, Set<u32>),
    /// The four forms of a name server.
    NameServer(Set<Server>),
    /// One literal address or a list, at most one of each family.
    Ips(Set<Vec<IpAddr>>),
    /// A list of networks.
    Networks(Set<Vec<Cidr>>),
    /// A list of SOCKS5 URLs.
    Proxies(Set<Vec<UpstreamSettings>>),
    /// A list of URLs.
    Pages(Parse<Url>, Set<Vec<Url>>),
    /// One URL, or the empty text for none.
    PageOrNone(Parse<Url>, Set<Option<Url>>),
    /// A list of names.
    Names(Set<Vec<(String, usize)>>),
    /// A list of files and `http(s)` URLs.
    ListSources(Set<Vec<ListSource>>),
    /// What is there in the file system.
    Path(Parse<PathBuf>, Set<PathBuf>),
    /// A name that the kernel knows.
    KernelName(Parse<String>, Set<String>),
    /// Lower-case letters and digits.
    Prefix(Set<String>),
    /// The path of a URL.
    HttpPath(Set<String>),
    /// The lone secret.
    Secret,
    /// A table of names and secrets.
    Secrets,
    /// A table of data centres and addresses.
    DcOverrides,
}

impl ValueKind {
    /// What the README calls it.
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

/// One key of the file with its value, on its way into the draft.
pub struct Field<'a> {
    /// Which key.
    pub key: &'static Key,
    /// Where its value stands, in bytes.
    pub at: usize,
    /// Where valid values go.
    pub settings: &'a mut PartialSettings,
    /// Where complaints go.
    pub report: &'a mut Diagnostics,
}

impl Field<'_> {
    /// Reads the value. `true` = it is valid and asks for something: a switch that is on, a list
    /// that is not empty, a value that is not the empty text.
    pub fn read(&mut self, item: &Item) -> bool {
        if self.key.is_whole_table() {
            let Some(table) = item.as_table_like() else {
                return self.wrong("must be a table; write names and values below a [header]");
            };
            return match self.key.kind {
                ValueKind::Secrets => self.secrets(table),
                _ => self.dc_overrides(table),
            };
        }
        match item.as_value() {
            Some(value) => self.read_value(value),
            None => self.wrong("must be a value, not a table; write NAME = VALUE"),
        }
    }

    fn read_value(&mut self, value: &Value) -> bool {
        match self.key.kind {
            ValueKind::Flag(set) => {
                let on = value.as_bool();
                self.take(on.map(Some).ok_or(NOT_A_FLAG), set) && on == Some(true)
            }
            ValueKind::Count(set) => self.measure(number(value).map(|n| Some(n.into())), set),
            ValueKind::Port(set) => self.measure(number(value).map(Some), set),
            ValueKind::Duration(set) => self.measure(text(value, units::duration), set),
            ValueKind::Bytes(set) => self.measure(text(value, units::bytes), set),
            ValueKind::ErrorRate => self.error_rate(value),
            ValueKind::Choice(choices) => self.choice(value, choices),
            ValueKind::Address(set) => self.take(text(value, addresses::socket_addr), set),
            ValueKind::HttpBind(set) => self.take(text(value, addresses::http_bind), set),
            ValueKind::Addresses(set) => self.addresses(value, set),
            ValueKind::Ip(set) => self.take(text(value, addresses::ip), set),
            ValueKind::Host(set) => self.take(text(value, addresses::host), set),
            ValueKind::Number(least, most, set) => self.number(value, least, most, set),
            ValueKind::NameServer(set) => self.take(text(value, urls::name_server), set),
            ValueKind::Ips(set) => self.ips(value, set),
            ValueKind::Networks(set) => self.each(value, addresses::network, set),
            ValueKind::Proxies(set) => self.each(value, urls::proxy, set),
            ValueKind::Pages(parse, set) => self.each(value, parse, set),
            ValueKind::PageOrNone(parse, set) => {
                let page = text(value, parse).map(Some);
                self.take(page, set) && value.as_str() != Some("")
            }
            ValueKind::Names(set) => {
                let names = self.list(value, |name| Ok(name.to_owned()));
                let is_some = !names.is_empty();
                self.take(Ok(Some(names)), set) && is_some
            }
            ValueKind::ListSources(set) => self.each(value, urls::list_source, set),
            ValueKind::Path(parse, set) => self.take(text(value, parse), set),
            ValueKind::KernelName(parse, set) => self.take(text(value, parse), set),
            ValueKind::Prefix(set) => self.take(text(value, addresses::metric_prefix), set),
            ValueKind::HttpPath(set) => self.take(text(value, addresses::http_path), set),
            ValueKind::Secret => self.secret(value),
            // Read above, where they are tables.
            ValueKind::Secrets | ValueKind::DcOverrides => false,
        }
    }

    fn wrong(&mut self, fault: &str) -> bool {
        self.report.error(self.at, format!("{}: {fault}", self.key.path));
        false
    }

    fn take<T>(&mut self, parsed: Result<Option<T>, &str>, set: Set<T>) -> bool {
        match parsed {
            Ok(Some(value)) => {
                set(self.settings, value);
                true
            }
            Ok(None) => false,
            Err(fault) => self.wrong(fault),
        }
    }

    /// Takes an amount; says so when it is a zero that means nothing, or more than the kernel
    /// takes. Such files must load all the same, since the reference loads them.
    fn measure<T: Amount>(&mut self, parsed: Result<Option<T>, &str>, set: Set<T>) -> bool {
        let Key { path, value: default, takes_zero, most, .. } = self.key;
        let Ok(Some(value)) = parsed else { return self.take(parsed, set) };
        if value == T::default() && !takes_zero {
            let default = if self.key.is_unset { "chosen by itself" } else { default };
            let text = format!(
                "{path}: 0 is of no use here, the default ({default}) holds; delete the line or \
                 write more"
            );
            self.report.warn(self.at, text);
            return false;
        }
        let bound = most.map(T::of).filter(|bound| value > *bound);
        if let (Some(bound), Some(most)) = (bound, most) {
            let unit = T::UNIT;
            let text =
                format!("{path}: the kernel takes at most {most}{unit}, which holds; write less");
            self.report.warn(self.at, text);
            return self.take(Ok(Some(bound)), set);
        }
        self.take(Ok(Some(value)), set)
    }

    fn error_rate(&mut self, value: &Value) -> bool {
        let rate = value.as_float().or(value.as_integer().map(|whole| whole as f64));
        let Some(rate) = rate.filter(|rate| (0.0..100.0).contains(rate)) else {
            return self.wrong("must be a number between 0 and 1, without quotes");
        };
        if rate != 0.0 && rate != DEFAULT_ERROR_RATE {
            let path = self.key.path;
            self.report.warn(
                self.at,
                format!("{path}: has no effect, the store makes no errors; delete the line"),
            );
        }
        true
    }

    fn choice(&mut self, value: &Value, choices: Choices) -> bool {
        let Some(word) = value.as_str() else { return self.wrong(NOT_TEXT) };
        if word.is_empty() {
            return false;
        }
        match choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(word)) {
            Some((_, set)) => {
                set(self.settings);
                true
            }
            None => {
                let words: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
                self.wrong(&format!("unknown word; write one of {}", words.join(", ")))
            }
        }
    }

    fn addresses(&mut self, value: &Value, set: Set<Vec<SocketAddr>>) -> bool {
        let one = |value: &Value| {
            let text = value.as_str().ok_or("must be a text in quotes or a list of them")?;
            Ok(vec![(addresses::socket_addr(text)?, self.at)])
        };
        let placed = match value {
            Value::Array(_) => self.list(value, addresses::socket_addr),
            _ => match one(value) {
                Ok(placed) => placed,
                Err(fault) => {
                    self.wrong(fault);
                    Vec::new()
                }
            },
        };
        if value.as_array().is_some_and(toml_edit::Array::is_empty) {
            self.wrong("the list is empty; write at least one IP:port");
        }
        let mut sorted = placed.clone();
        sorted.sort_unstable();
        for twins in sorted.windows(2) {
            if let [(first, _), (addr, at)] = twins
                && first == addr
            {
                let text = format!("{}: {addr} stands there twice; delete one", self.key.path);
                self.report.error(*at, text);
            }
        }
        self.take(Ok(Some(placed.into_iter().map(|(addr, _)| addr).collect())), set)
    }

    fn number(&mut self, value: &Value, least: u32, most: u32, set: Set<u32>) -> bool {
        let number = value.as_integer().and_then(|whole| u32::try_from(whole).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => self.take(Ok(Some(number)), set),
            None => self.wrong(&format!("must be a whole number from {least} to {most}")),
        }
    }

    fn ips(&mut self, value: &Value, set: Set<Vec<IpAddr>>) -> bool {
        if !value.is_array() {
            return self.take(text(value, |text| addresses::ip(text).map(|ip| vec![ip])), set);
        }
        let ips: Vec<IpAddr> =
            self.list(value, addresses::ip).into_iter().map(|(ip, _)| ip).collect();
        let v4 = ips.iter().filter(|ip| ip.is_ipv4()).count();
        if v4 > 1 || ips.len() - v4 > 1 {
            return self.wrong("at most one address of each family; delete the others");
        }
        let is_some = !ips.is_empty();
        self.take(Ok(Some(ips)), set) && is_some
    }

    /// Takes a list; `true` = it is not empty.
    fn each<T>(&mut self, value: &Value, parse: Parse<T>, set: Set<Vec<T>>) -> bool {
        let valid: Vec<T> = self.list(value, parse).into_iter().map(|(one, _)| one).collect();
        let is_some = !valid.is_empty();
        self.take(Ok(Some(valid)), set) && is_some
    }

    /// The valid elements and where they stand; complains of each of the others.
    pub(super) fn list<T>(&mut self, value: &Value, parse: Parse<T>) -> Vec<(T, usize)> {
        let Some(array) = value.as_array() else {
            self.wrong("must be a list of texts in quotes, such as [\"A\", \"B\"]");
            return Vec::new();
        };
        let mut valid = Vec::with_capacity(array.len());
        for (index, element) in array.iter().enumerate() {
            let at = start(element.span(), self.at);
            match element.as_str().ok_or(NOT_TEXT).and_then(parse) {
                Ok(parsed) => valid.push((parsed, at)),
                Err(fault) => {
                    let text = format!("{}, entry {}: {fault}", self.key.path, index + 1);
                    self.report.error(at, text);
                }
            }
        }
        valid
    }

    fn secret(&mut self, value: &Value) -> bool {
        let Some(text) = value.as_str() else { return self.wrong(NOT_TEXT) };
        if text.is_empty() {
            return false;
        }
        self.settings.secret_seen = true;
        match secret::Secret::parse(text) {
            Ok(secret) => {
                self.settings.secret = Some(LocatedSecret { secret, at: self.at });
                true
            }
            Err(fault) => self.wrong(&fault.to_string()),
        }
    }
}

/// Numbers that have a zero, and perhaps an upper bound.
trait Amount: Copy + PartialOrd + Default {
    /// What [`Key::most`] counts.
    const UNIT: &'static str;

    fn of(bound: u64) -> Self;
}

impl Amount for time::Duration {
    const UNIT: &'static str = "s";

    fn of(bound: u64) -> Self {
        Self::from_secs(bound)
    }
}

impl Amount for u64 {
    const UNIT: &'static str = " bytes";

    fn of(bound: u64) -> Self {
        bound
    }
}

impl Amount for u32 {
    const UNIT: &'static str = "";

    fn of(bound: u64) -> Self {
        Self::try_from(bound).unwrap_or(Self::MAX)
    }
}

impl Amount for u16 {
    const UNIT: &'static str = "";

    fn of(bound: u64) -> Self {
        Self::try_from(bound).unwrap_or(Self::MAX)
    }
}

/// Reads one text.
pub type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// The empty text stands for an absent key.
fn text<T>(value: &Value, parse: Parse<T>) -> Result<Option<T>, &'static str> {
    let text = value.as_str().ok_or(NOT_TEXT)?;
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn number(value: &Value) -> Result<u16, &'static str> {
    value.as_integer().and_then(|whole| u16::try_from(whole).ok()).ok_or(NOT_A_NUMBER)
}

/// Where a span starts; documents that were parsed from text have one for everything.
pub fn start(span: Option<std::ops::Range<usize>>, fallback: usize) -> usize {
    span.map_or(fallback, |span| span.start)
}

/// For `prefer-ip`.
pub const PREFER_IP: Choices = &[
    ("prefer-ipv4", |d| d.prefer_ip = Some(PreferIp::PreferIpv4)),
    ("prefer-ipv6", |d| d.prefer_ip = Some(PreferIp::PreferIpv6)),
    ("only-ipv4", |d| d.prefer_ip = Some(PreferIp::OnlyIpv4)),
    ("only-ipv6", |d| d.prefer_ip = Some(PreferIp::OnlyIpv6)),
];

/// For `network.moderation`.
pub const READ_COALESCING: Choices =
    &[("auto", |d| d.read_coalescing_off = false), ("off", |d| d.read_coalescing_off = true)];

/// For `defense.doppelganger.mode`.
pub const SHAPING: Choices =
    &[("burst", |d| d.shape_always = false), ("always", |d| d.shape_always = true)];

/// For `stats.statsd.tag-format`.
pub const TAG_FORMAT: Choices = &[
    ("datadog", |d| d.statsd.tags = Some(TagFormat::Datadog)),
    ("influxdb", |d| d.statsd.tags = Some(TagFormat::Influxdb)),
    ("graphite", |d| d.statsd.tags = Some(TagFormat::Graphite)),
];

/// For `log-level`.
pub const LOG_LEVEL: Choices = &[
    ("error", |d| d.log_level = Some(LogLevel::Error)),
    ("warn", |d| d.log_level = Some(LogLevel::Warn)),
    ("info", |d| d.log_level = Some(LogLevel::Info)),
    ("debug", |d| d.log_level = Some(LogLevel::Debug)),
];

/// For `log-format`.
pub const LOG_FORMAT: Choices = &[
    ("text", |d| d.log_format = Some(LogFormat::Text)),
    ("json", |d| d.log_format = Some(LogFormat::Json)),
];

/// For `log-to`.
pub const LOG_TO: Choices = &[
    ("stderr", |d| d.log_to = Some(LogTo::Stderr)),
    ("syslog", |d| d.log_to = Some(LogTo::Syslog)),
    ("journal", |d| d.log_to = Some(LogTo::Journal)),
];

const DEFAULT_ERROR_RATE: f64 = 0.001;
pub(super) const NOT_TEXT: &str = "must be a text in quotes";
const NOT_A_FLAG: &str = "must be true or false, without quotes";
const NOT_A_NUMBER: &str = "must be a whole number from 0 to 65535, without quotes";
