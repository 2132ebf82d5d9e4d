//! Reads the value of one key by the grammar of the key (COMPATIBILITY 3.2). Diagnostics name the
//! key and the remedy, never the value, since it may be a secret.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use toml_edit::Value;

use crate::config::draft::{LocatedSecret, SettingsDraft};
use crate::config::key::Key;
use crate::config::report::Diagnostics;
use crate::config::toml_item::{TomlItem, start};
use crate::config::value::{Choices, Parse, Set, ValueKind, choose};
use crate::config::{addresses, units, urls};
use crate::proto::secret;
use crate::util::order::sorted;

/// A key of the file, while its value is read.
pub(super) struct Field<'a> {
    /// The key.
    pub key: &'static Key,
    /// Offset of the value in bytes.
    pub at: usize,
    /// Receives a valid value.
    pub draft: &'a mut SettingsDraft,
    /// Receives the diagnostics.
    pub report: &'a mut Diagnostics,
}

/// Whether a value changes the behaviour of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Valid, and not a neutral value.
    Some,
    /// Invalid, or a neutral value: `false`, an empty list, or an empty string.
    None,
}

impl Effect {
    fn only_if(self, has_effect: bool) -> Self {
        if has_effect { self } else { Self::None }
    }
}

impl Field<'_> {
    /// Reads the value. For keys that are not whole tables; `tables.rs` reads those.
    pub fn read(&mut self, item: TomlItem<'_>) -> Effect {
        match item.value() {
            Some(value) => self.read_value(value),
            None => self.reject("must be a value, not a table; write NAME = VALUE"),
        }
    }

    fn read_value(&mut self, value: &Value) -> Effect {
        match self.key.kind {
            ValueKind::Flag(_, set) => {
                let on = value.as_bool();
                self.store(on.ok_or(NOT_A_FLAG), set).only_if(on == Some(true))
            }
            ValueKind::Count(_, set) | ValueKind::Port(_, set) => {
                let number = value.as_integer().filter(|number| u16::try_from(*number).is_ok());
                let number = number.map(i64::unsigned_abs).ok_or(NOT_A_NUMBER);
                self.store_amount(number, (1, ""), &|draft, n| set(draft, n as u16))
            }
            ValueKind::Duration(_, set) => {
                let Some(text) = self.text(value) else { return Effect::None };
                let nanos = units::duration(text).map(|time| time.as_nanos() as u64);
                self.store_amount(nanos, (1_000_000_000, "s"), &|draft, nanos| {
                    set(draft, Duration::from_nanos(nanos));
                })
            }
            ValueKind::Bytes(_, set) => {
                let Some(text) = self.text(value) else { return Effect::None };
                self.store_amount(units::bytes(text), (1, " bytes"), &set)
            }
            ValueKind::BitRate(set) => self.store_text(value, units::bit_rate, set),
            ValueKind::ErrorRate(default) => self.error_rate(value, default),
            ValueKind::Choice(_, choices) => self.choice(value, choices),
            ValueKind::Address(set) => self.store_text(value, addresses::socket_addr, set),
            ValueKind::HttpBind(set) => self.store_text(value, addresses::http_bind, set),
            ValueKind::Addresses(set) => self.addresses(value, set),
            ValueKind::Ip(set) => self.store_text(value, addresses::ip, set),
            ValueKind::Host(set) => self.store_text(value, addresses::host, set),
            ValueKind::Number(min, max, set) => self.number(value, min, max, set),
            ValueKind::NameServer(set) => self.store_text(value, urls::name_server, set),
            ValueKind::Ips(set) => self.ips(value, set),
            ValueKind::Networks(set) => self.store_list(value, addresses::network, set),
            ValueKind::Proxies(set) => self.store_list(value, urls::proxy, set),
            ValueKind::Pages(_, parse, set) => self.store_list(value, parse, set),
            ValueKind::PageOrNone(_, parse, set) => match value.as_str() {
                Some("") => self.store(Ok(None), set).only_if(false),
                Some(url) => self.store(parse(url).map(Some), set),
                None => self.reject(NOT_A_STRING),
            },
            ValueKind::Names(set) => {
                let names = self.parse_list(value, |name| Ok(name.to_owned()));
                let is_some = !names.is_empty();
                self.store(Ok(names), set).only_if(is_some)
            }
            ValueKind::ListSources(set) => self.store_list(value, urls::list_source, set),
            ValueKind::Path(parse, set) => self.store_text(value, parse, set),
            ValueKind::Text(_, parse, set) => self.store_text(value, parse, set),
            ValueKind::Secret => self.secret(value),
            // Whole tables.
            ValueKind::Secrets | ValueKind::DcOverrides => Effect::None,
        }
    }

    /// Reports an error at the value.
    pub(super) fn reject(&mut self, fault: &str) -> Effect {
        self.report.error(self.at, format!("{}: {fault}", self.key.path));
        Effect::None
    }

    /// The text of a value. `None` = it is not a text, which is reported, or it is empty: the key
    /// is not set.
    fn text<'v>(&mut self, value: &'v Value) -> Option<&'v str> {
        let text = value.as_str();
        if text.is_none() {
            self.reject(NOT_A_STRING);
        }
        text.filter(|text| !text.is_empty())
    }

    fn store_text<T>(&mut self, value: &Value, parse: Parse<T>, set: Set<T>) -> Effect {
        match self.text(value) {
            Some(text) => self.store(parse(text), set),
            None => Effect::None,
        }
    }

    fn store<T>(&mut self, parsed: Result<T, &str>, set: Set<T>) -> Effect {
        match parsed {
            Ok(value) => {
                set(self.draft, value);
                self.draft.mark_set(self.key.path);
                Effect::Some
            }
            Err(fault) => self.reject(fault),
        }
    }

    /// Stores an amount. A zero without a meaning, an amount above the limit of the kernel, or a
    /// duration that is too short is a warning, not an error: mtg-multi loads such files.
    /// [`Key::max`] is in `unit`, whose size and name in diagnostics are given.
    fn store_amount(
        &mut self,
        parsed: Result<u64, &str>,
        unit: (u64, &str),
        set: &dyn Fn(&mut SettingsDraft, u64),
    ) -> Effect {
        let Key { path, kind, allows_zero, max, .. } = *self.key;
        let mut amount = match parsed {
            Ok(amount) => amount,
            Err(fault) => return self.reject(fault),
        };
        if amount == 0 && !allows_zero {
            let default = kind.default().unwrap_or_else(|| "automatic".to_owned());
            let text = format!(
                "{path}: 0 is not allowed; using the default ({default}). Remove the line or set a \
                 larger value."
            );
            self.report.warn(self.at, text);
            return Effect::None;
        }
        let (scale, name) = unit;
        let max = max.map(u64::from).filter(|max| amount > max.saturating_mul(scale));
        if let Some(max) = max {
            let text = format!(
                "{path}: larger than the kernel's maximum; using {max}{name}. Set a smaller value."
            );
            self.report.warn(self.at, text);
            amount = max.saturating_mul(scale);
        }
        if let Some(least) = self.key.least().filter(|least| u128::from(amount) < least.as_nanos())
        {
            let using = units::duration_text(least);
            let text = format!("{path}: too short; using {using}. Set a longer time.");
            self.report.warn(self.at, text);
            amount = least.as_nanos() as u64;
        }
        set(self.draft, amount);
        self.draft.mark_set(path);
        Effect::Some
    }

    fn error_rate(&mut self, value: &Value, default: f64) -> Effect {
        let rate = value.as_float().or(value.as_integer().map(|whole| whole as f64));
        let Some(rate) = rate.filter(|rate| (0.0..100.0).contains(rate)) else {
            return self.reject("must be a number between 0 and 1, without quotes");
        };
        if rate != 0.0 && rate != default {
            let path = self.key.path;
            self.report.warn(
                self.at,
                format!("{path}: has no effect, since the store makes no errors; remove the line"),
            );
        }
        Effect::Some
    }

    fn choice(&mut self, value: &Value, choices: Choices) -> Effect {
        let Some(word) = self.text(value) else { return Effect::None };
        match choose(choices, word, self.draft) {
            Ok(()) => Effect::Some,
            Err(words) => self.reject(&format!("unknown value; write one of {words}")),
        }
    }

    fn addresses(&mut self, value: &Value, set: Set<Vec<SocketAddr>>) -> Effect {
        let one = |value: &Value| {
            let text = value.as_str().ok_or("must be a string in quotes or a list of strings")?;
            Ok(vec![(addresses::socket_addr(text)?, self.at)])
        };
        let located = match value {
            Value::Array(_) => self.parse_list(value, addresses::socket_addr),
            _ => match one(value) {
                Ok(located) => located,
                Err(fault) => {
                    self.reject(fault);
                    Vec::new()
                }
            },
        };
        if value.as_array().is_some_and(toml_edit::Array::is_empty) {
            self.reject("the list is empty; write at least one IP:port");
        }
        for pair in sorted(&located, &|a, b| a.0.cmp(&b.0)).windows(2) {
            if let [(first, _), (addr, at)] = pair
                && first == addr
            {
                let text = format!("{}: duplicate address {addr}; remove one", self.key.path);
                self.report.error(*at, text);
            }
        }
        for (addr, at) in located.iter().filter(|(addr, _)| !addr.ip().is_unspecified()) {
            let covers = |other: &&SocketAddr| {
                other.ip().is_unspecified()
                    && other.is_ipv4() == addr.is_ipv4()
                    && other.port() == addr.port()
            };
            if let Some(all) = located.iter().map(|(other, _)| other).find(covers) {
                let text = format!("{}: {all} has {addr} too; remove one", self.key.path);
                self.report.warn(*at, text);
            }
        }
        self.store(Ok(located.into_iter().map(|(addr, _)| addr).collect()), set)
    }

    fn number(&mut self, value: &Value, min: u32, max: u32, set: Set<u32>) -> Effect {
        let number = value.as_integer().and_then(|whole| u32::try_from(whole).ok());
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => self.store(Ok(number), set),
            None => {
                self.reject(&format!("must be a whole number from {min} to {max}, without quotes"))
            }
        }
    }

    fn ips(&mut self, value: &Value, set: Set<Vec<IpAddr>>) -> Effect {
        if !value.is_array() {
            let Some(text) = self.text(value) else { return Effect::None };
            return self.store(addresses::ip(text).map(|ip| vec![ip]), set);
        }
        let ips: Vec<IpAddr> =
            self.parse_list(value, addresses::ip).into_iter().map(|(ip, _)| ip).collect();
        let v4 = ips.iter().filter(|ip| ip.is_ipv4()).count();
        if v4 > 1 || ips.len() - v4 > 1 {
            return self.reject("at most one address of each family; remove the others");
        }
        let is_some = !ips.is_empty();
        self.store(Ok(ips), set).only_if(is_some)
    }

    fn store_list<T>(&mut self, value: &Value, parse: Parse<T>, set: Set<Vec<T>>) -> Effect {
        let mut valid = Vec::new();
        self.each_entry(value, &mut |text, _| {
            valid.push(parse(text)?);
            Ok(())
        });
        let is_some = !valid.is_empty();
        self.store(Ok(valid), set).only_if(is_some)
    }

    /// The valid elements of a list with their offsets. Reports each of the others.
    pub(super) fn parse_list<T>(&mut self, value: &Value, parse: Parse<T>) -> Vec<(T, usize)> {
        let mut valid = Vec::new();
        self.each_entry(value, &mut |text, at| {
            valid.push((parse(text)?, at));
            Ok(())
        });
        valid
    }

    /// Calls `take` for each element of a list, with its offset, and reports its errors. Not
    /// generic, so that it is compiled once for all kinds of elements.
    fn each_entry(
        &mut self,
        value: &Value,
        take: &mut dyn FnMut(&str, usize) -> Result<(), &'static str>,
    ) {
        let Some(array) = value.as_array() else {
            self.reject("must be a list of strings in quotes, such as [\"A\", \"B\"]");
            return;
        };
        for (index, element) in array.iter().enumerate() {
            let at = start(element.span(), self.at);
            let text = element.as_str().ok_or(NOT_A_STRING);
            if let Err(fault) = text.and_then(|text| take(text, at)) {
                let text = format!("{}, entry {}: {fault}", self.key.path, index + 1);
                self.report.error(at, text);
            }
        }
    }

    fn secret(&mut self, value: &Value) -> Effect {
        let Some(text) = self.text(value) else { return Effect::None };
        self.draft.has_secret = true;
        match secret::Secret::parse(text) {
            Ok(secret) => {
                self.draft.secret = Some(LocatedSecret { secret, at: self.at });
                Effect::Some
            }
            Err(fault) => self.reject(&fault.to_string()),
        }
    }
}

pub(super) const NOT_A_STRING: &str = "must be a string in quotes";
const NOT_A_FLAG: &str = "must be true or false, without quotes";
const NOT_A_NUMBER: &str = "must be a whole number from 0 to 65535, without quotes";
