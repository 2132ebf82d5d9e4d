//! The grammars of values. Each variant of [`ValueKind`] has the default, if there is one, and the
//! setter that stores a valid value; `field.rs` parses by them (COMPATIBILITY 3.2).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time;

use crate::config::draft::SettingsDraft;
use crate::config::settings::{self, ListSource, UpstreamSettings};
use crate::config::units;
use crate::proto::url::Url;
use crate::util::cidr::Cidr;

/// Stores a valid value.
pub type Set<T> = fn(&mut SettingsDraft, T);

/// Parses a string. The error says what is wrong and what to do, without repeating the string.
pub type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// The words of a key, in lower case, each with its setter.
pub type Choices = &'static [(&'static str, fn(&mut SettingsDraft))];

/// The grammar of a value, with the default and the setter for valid values.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// `true` or `false`.
    Flag(bool, Set<bool>),
    /// A whole number, 0 to 65535.
    Count(u16, Set<u16>),
    /// A port, 0 to 65535.
    Port(u16, Set<u16>),
    /// A sum of numbers with units, such as `"1h30m"`.
    Duration(time::Duration, Set<time::Duration>),
    /// A size with a unit, such as `"512kib"`.
    Bytes(Option<u64>, Set<u64>),
    /// A bit rate with a unit, such as `"80mbit"`; stored in bytes per second.
    BitRate(Set<u32>),
    /// A number from 0 to 100 without 100; it has no effect.
    ErrorRate(f64),
    /// One of several words, in any case.
    Choice(&'static str, Choices),
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
    Pages(&'static [&'static str], Parse<Url>, Set<Vec<Url>>),
    /// One URL, or the empty string for none.
    PageOrNone(&'static str, Parse<Url>, Set<Option<Url>>),
    /// A list of names.
    Names(Set<Vec<(String, usize)>>),
    /// A list of files and HTTP(S) URLs.
    ListSources(Set<Vec<ListSource>>),
    /// A path in the file system.
    Path(Parse<PathBuf>, Set<PathBuf>),
    /// A name, or another string without blanks.
    Text(Option<&'static str>, Parse<String>, Set<String>),
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
            Self::Flag(..) => "bool",
            Self::Count(..) => "count",
            Self::Port(..) => "port",
            Self::Duration(..) => "duration",
            Self::Bytes(..) => "bytes",
            Self::BitRate(_) => "bit rate",
            Self::ErrorRate(_) | Self::Number(..) => "number",
            Self::Choice(..) => "word",
            Self::Address(_) => "IP:port",
            Self::HttpBind(_) => "IP:port or unix:/path",
            Self::Addresses(_) => "IP:port or list",
            Self::Ip(_) => "IP",
            Self::Host(_) => "host",
            Self::NameServer(_) => "DNS URI",
            Self::Ips(_) => "IP or list",
            Self::Networks(_) => "list of networks",
            Self::Proxies(_) | Self::Pages(..) => "list of URLs",
            Self::PageOrNone(..) => "URL",
            Self::Names(_) => "list of names",
            Self::ListSources(_) => "list of files and URLs",
            Self::Path(..) => "path",
            Self::Text(..) => "text",
            Self::Secret => "secret",
            Self::Secrets => "table of secrets",
            Self::DcOverrides => "table of IP:port lists",
        }
    }

    /// Whether the value can be a list.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Addresses(_)
                | Self::Ips(_)
                | Self::Networks(_)
                | Self::Proxies(_)
                | Self::Pages(..)
                | Self::Names(_)
                | Self::ListSources(_)
        )
    }

    /// The default in TOML; `None` if there is none.
    pub fn default(&self) -> Option<String> {
        let quoted = |text: &str| Some(format!("{text:?}"));
        match *self {
            Self::Flag(on, _) => Some(on.to_string()),
            Self::Count(number, _) | Self::Port(number, _) => Some(number.to_string()),
            Self::Duration(time, _) => quoted(&units::duration_text(time)),
            Self::Bytes(bytes, _) => quoted(&units::bytes_text(bytes?)),
            Self::ErrorRate(rate) => Some(rate.to_string()),
            Self::Choice(text, _) | Self::PageOrNone(text, ..) => quoted(text),
            Self::Text(text, ..) => quoted(text?),
            Self::Pages(urls, ..) => Some(format!("{urls:?}")),
            Self::Networks(_) | Self::Proxies(_) | Self::Names(_) | Self::ListSources(_) => {
                Some("[]".to_owned())
            }
            _ => None,
        }
    }

    /// Stores the default. A list without one is empty.
    pub(super) fn set_default(&self, draft: &mut SettingsDraft) {
        match *self {
            Self::Flag(on, set) => set(draft, on),
            Self::Count(number, set) | Self::Port(number, set) => set(draft, number),
            Self::Duration(time, set) => set(draft, time),
            Self::Bytes(Some(bytes), set) => set(draft, bytes),
            Self::Choice(word, choices) => drop(choose(choices, word, draft)),
            Self::PageOrNone(url, _, set) => set(draft, Url::parse(url)),
            Self::Text(Some(text), _, set) => set(draft, text.to_owned()),
            Self::Pages(urls, _, set) => {
                set(draft, urls.iter().copied().filter_map(Url::parse).collect());
            }
            _ => {}
        }
    }
}

/// Stores a word, in any case.
///
/// # Errors
/// Other text; the error lists the words.
pub fn choose(choices: Choices, word: &str, draft: &mut SettingsDraft) -> Result<(), String> {
    match choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(word)) {
        Some((_, set)) => {
            set(draft);
            Ok(())
        }
        None => {
            let words: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            Err(words.join(", "))
        }
    }
}
