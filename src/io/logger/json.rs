//! A log line as one JSON object. Field names and order are those of mtg-multi's log, for programs
//! that parse it (COMPATIBILITY 6.7).

use std::borrow::Cow;

use log::Level;

use crate::io::logger::fields::{LineParts, Value, split};
use crate::util::json::{Fields, Json};

/// One object, without a line end. `message` is the free text, or the event if there is none.
pub fn object(level: Level, line: &str, unix_ms: u64) -> String {
    let LineParts { fields, text } = split(line);
    let get = |key: &str| fields.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
    let event = get("event").map_or("", Value::as_str);
    let context =
        FieldContext { event, has_fallback: get("fallback").is_some(), has_list: is_list(&get) };
    let mut error = get("error");
    let mut bound: Vec<(usize, Cow<'_, str>, &Value<'_>)> = Vec::new();
    for (key, value) in &fields {
        match *key {
            "event" if text.is_empty() => continue,
            "error" => continue,
            "why" if error.is_none() && REASON_IS_ERROR.contains(&event) => {
                error = Some(value);
                continue;
            }
            _ => {}
        }
        let mut name = Cow::Borrowed(context.name(key));
        while RESERVED.contains(&&*name) || bound.iter().any(|(_, other, _)| *other == name) {
            name += "_";
        }
        bound.push((rank(&name), name, value));
    }
    // mtg-multi puts the fields that are bound to the whole connection last.
    bound.sort_by_key(|(rank, _, _)| *rank);

    let level = level.as_str().to_ascii_lowercase();
    let mut object: Fields<'_> = vec![("level", level.into())];
    object.extend(bound.iter().map(|(_, name, value)| (&**name, json_value(name, value))));
    object.push(("logger", context.logger(&get).into()));
    object.extend(error.map(|error| ("error", error.as_str().into())));
    object.push(("timestamp", unix_ms.into()));
    object.push(("message", if text.is_empty() { event } else { text }.into()));
    Json::Object(object).to_string()
}

/// What the name of a field depends on.
struct FieldContext<'a> {
    event: &'a str,
    has_fallback: bool,
    has_list: bool,
}

impl FieldContext<'_> {
    /// mtg-multi's name for a key of ours, if it has a field of the same meaning.
    fn name<'k>(&self, key: &'k str) -> &'k str {
        match key {
            "id" => "stream-id",
            "user" => "secret_name",
            "client" if self.has_list => "ip",
            "client" => "client-ip",
            "host" => "hostname",
            "dc" if self.has_fallback => "original_dc",
            "fallback" => "dc",
            "addr" if BINDING.contains(&self.event) => "bind",
            "source" | "page" if self.event.contains("list") => "filename",
            key => key,
        }
    }

    /// mtg-multi's name for the component that logs such an event; empty if there is none.
    fn logger<'v>(&self, get: &impl Fn(&str) -> Option<&'v Value<'v>>) -> &'static str {
        let is = |start: &&(&str, &str)| self.event.starts_with(start.0);
        if self.has_list {
            let names_allowlist = |key| get(key).is_some_and(|list| list.as_str() == "allowlist");
            return match names_allowlist("list") || names_allowlist("name") {
                true => "allowlist.ipblockist.firehol",
                false => "blocklist.ipblockist.firehol",
            };
        }
        match LOGGERS.iter().find(is) {
            Some((_, logger)) => logger,
            None if ["id", "client", "user"].iter().any(|key| get(key).is_some()) => "proxy",
            None => "",
        }
    }
}

/// Whether the event concerns the blocklist or the allowlist.
fn is_list<'v>(get: &impl Fn(&str) -> Option<&'v Value<'v>>) -> bool {
    let is_name = |value: &Value<'_>| matches!(value.as_str(), "blocklist" | "allowlist");
    get("list").or_else(|| get("name")).is_some_and(is_name)
}

/// Sort key: 0 for fields of the event, higher for fields of the connection.
fn rank(name: &str) -> usize {
    LAST.iter().position(|last| *last == name).map_or(0, |at| at + 1)
}

/// A number or a boolean as such, everything else as a string.
fn json_value<'a>(name: &str, value: &'a Value<'_>) -> Json<'a> {
    match value {
        Value::Bare(text) if !TEXTS.contains(&name) && is_plain(text) => Json::Bare((*text).into()),
        value => value.as_str().into(),
    }
}

/// `true`, `false`, or a JSON number (RFC 8259 6) that a double holds exactly.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let is_number = is_digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && text.len() <= NUMBER_LEN_MAX;
    is_number || matches!(text, "true" | "false")
}

/// Fields that every line has; a key of this name gets an underscore.
const RESERVED: [&str; 5] = ["level", "logger", "error", "timestamp", "message"];
/// Fields of the connection, in their order at the end of the line.
const LAST: [&str; 4] = ["dc", "secret_name", "client-ip", "stream-id"];
/// Fields that are strings even if the value looks like a number.
const TEXTS: [&str; 7] =
    ["stream-id", "bind", "limit", "interval", "hostname", "filename", "secret_name"];
/// Events whose `why` is the field `error` in mtg-multi.
const REASON_IS_ERROR: [&str; 5] =
    ["refused", "fronted", "protocol-error", "session-failed", "dc-unreachable"];
/// Events whose `addr` is a listener's address.
const BINDING: [&str; 6] =
    ["listening", "stats", "stats-off", "metrics", "metrics-off", "accept-failed"];
/// The start of an event name, and the component of mtg-multi that logs such events.
const LOGGERS: &[(&str, &str)] = &[
    ("front", "proxy.domain-fronting"),
    ("pacing", "proxy.doppelganger"),
    ("page-timing", "proxy.doppelganger"),
    ("dc-list", "proxy.telegram-updaters.public-config"),
    ("statsd", "statsd"),
    ("throttle", "proxy"),
    ("concurrency-limited", "proxy"),
    ("dial", "proxy"),
    ("closed", "proxy.relay"),
];
/// 2^53 has 16 digits.
const NUMBER_LEN_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn info(line: &str) -> String {
        object(Level::Info, line, 1_800_000_000_123)
    }

    /// An object with these fields, and those that every line has.
    fn expected(bound: &str, logger: &str, error: &str, message: &str) -> String {
        let comma = |text: &str| if text.is_empty() { String::new() } else { format!(",{text}") };
        let (bound, error) = (comma(bound), comma(error));
        format!(
            "{{\"level\":\"info\"{bound},\"logger\":\"{logger}\"{error},\
             \"timestamp\":1800000000123,\"message\":{message:?}}}"
        )
    }

    #[test]
    fn names_and_order_are_those_of_mtg_multi() {
        for (line, bound, logger, error, message) in [
            (
                "event=admitted id=7 user=\"bob\" dc=2 ms=38 client=192.0.2.0/24",
                r#""ms":38,"dc":2,"secret_name":"bob","client-ip":"192.0.2.0/24","stream-id":"7""#,
                "proxy",
                "",
                "admitted",
            ),
            (
                "event=refused user=\"7\" why=clock-off off_s=-90 client=2001:db8:1::/48",
                r#""off_s":-90,"secret_name":"7","client-ip":"2001:db8:1::/48""#,
                "proxy",
                r#""error":"clock-off""#,
                "refused",
            ),
            (
                "event=refused list=allowlist client=192.0.2.0/24",
                r#""list":"allowlist","ip":"192.0.2.0/24""#,
                "allowlist.ipblockist.firehol",
                "",
                "refused",
            ),
            (
                "event=list-failed name=blocklist source=\"/a b\" error=\"no \\\"file\\\"\"",
                r#""name":"blocklist","filename":"/a b""#,
                "blocklist.ipblockist.firehol",
                r#""error":"no \"file\"""#,
                "list-failed",
            ),
            ("event=unknown-dc dc=9 fallback=2", r#""original_dc":9,"dc":2"#, "", "", "unknown-dc"),
            (
                "event=throttle active=true limit=3",
                r#""active":true,"limit":"3""#,
                "proxy",
                "",
                "throttle",
            ),
            ("event=listening addr=0.0.0.0:443", r#""bind":"0.0.0.0:443""#, "", "", "listening"),
            (
                "event=config /a.toml:3:1: unknown key \"x\"",
                r#""event":"config""#,
                "",
                "",
                "/a.toml:3:1: unknown key \"x\"",
            ),
        ] {
            assert_eq!(info(line), expected(bound, logger, error, message), "{line}");
        }
    }

    #[test]
    fn a_hostile_name_stays_one_value() {
        let name = "x\",\"level\":\"error\"}\n{\u{0}\u{1b}\u{2028}\\ error=1";
        let line = format!("event=refused user={name:?} why=replay client=a");
        let text = info(&line);
        assert!(!text.contains(['\n', '\0', '\u{1b}']), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["secret_name"], name);
        assert_eq!((&value["level"], &value["error"]), (&"info".into(), &"replay".into()));
        assert_eq!(value.as_object().unwrap().len(), 7);
    }

    #[test]
    fn no_name_occurs_twice() {
        let text = info("event=a level=1 message=2 timestamp=3 logger=4 a=5 a=6 a=7 client=8 ip=9");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (name, number) in [("level_", 1), ("message_", 2), ("timestamp_", 3), ("a__", 7)] {
            assert_eq!(value[name], number, "{text}");
        }
        assert_eq!(value["message"], "a");
        assert_eq!(text.matches("\":").count(), value.as_object().unwrap().len());
    }

    #[test]
    fn what_only_looks_like_a_number_is_a_string() {
        for text in ["0", "7", "-3", "1.5", "100000000000000", "true", "false"] {
            assert!(is_plain(text), "{text}");
        }
        for text in
            ["", "-", "01", "1.", ".5", "1e5", "1.2.3", "+1", "1_0", "٣", "1000000000000000", "NaN"]
        {
            assert!(!is_plain(text), "{text}");
        }
    }
}
