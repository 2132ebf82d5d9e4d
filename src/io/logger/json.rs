//! A log line as one JSON object. Field names and order are those of mtg-multi's log, for programs
//! that parse it (COMPATIBILITY 6.7).

use std::borrow::Cow;

use crate::io::logger::record::FieldKind;
use crate::util::json::{Fields, Json};
use crate::util::log_settings::LogLevel;

/// One object, without a line end. `message` is the free text, or the event if there is none.
pub fn object<'a>(
    level: LogLevel,
    fields: impl Iterator<Item = (&'a str, FieldKind, &'a str)>,
    unix_ms: u64,
) -> String {
    let fields: Vec<(&str, FieldKind, &str)> = fields.collect();
    let get = |key: &str| fields.iter().find(|(name, ..)| *name == key).map(|(.., value)| *value);
    let (event, text) = (get("event").unwrap_or_default(), get("").unwrap_or_default());
    let context =
        FieldContext { event, has_fallback: get("fallback").is_some(), has_list: is_list(&get) };
    let mut error = get("error");
    let mut bound: Vec<(usize, Cow<'_, str>, FieldKind, &str)> = Vec::new();
    for &(key, kind, value) in &fields {
        match key {
            "event" if text.is_empty() => continue,
            "error" | "" => continue,
            "why" if error.is_none() && REASON_IS_ERROR.contains(&event) => {
                error = Some(value);
                continue;
            }
            _ => {}
        }
        let mut name = Cow::Borrowed(context.name(key));
        while RESERVED.contains(&&*name) || bound.iter().any(|(_, other, ..)| *other == name) {
            name += "_";
        }
        bound.push((rank(&name), name, kind, value));
    }
    let mut object: Fields<'_> = vec![("level", level.as_str().into())];
    // mtg-multi puts the fields that are bound to the whole connection last.
    for rank in 0..=LAST.len() {
        for (_, name, kind, value) in bound.iter().filter(|(of, ..)| *of == rank) {
            let is_text = *kind != FieldKind::Number || TEXTS.contains(&&**name);
            let value = match is_text || value.len() > NUMBER_LEN_MAX {
                true => (*value).into(),
                false => Json::Bare((*value).into()),
            };
            object.push((name, value));
        }
    }
    object.push(("logger", context.logger(&get).into()));
    object.extend(error.map(|error| ("error", error.into())));
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
    fn logger<'v>(&self, get: &impl Fn(&str) -> Option<&'v str>) -> &'static str {
        let is = |start: &&(&str, &str)| self.event.starts_with(start.0);
        if self.has_list {
            let names_allowlist = |key| get(key) == Some("allowlist");
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
fn is_list<'v>(get: &impl Fn(&str) -> Option<&'v str>) -> bool {
    let name = get("list").or_else(|| get("name"));
    matches!(name, Some("blocklist" | "allowlist"))
}

/// Sort key: 0 for fields of the event, higher for fields of the connection.
fn rank(name: &str) -> usize {
    LAST.iter().position(|last| *last == name).map_or(0, |at| at + 1)
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
/// A double holds a number of 15 digits exactly.
const NUMBER_LEN_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::logger::record::{LogFields, Record, fields};

    fn info(fields: LogFields<'_>) -> String {
        object(LogLevel::Info, Record::new(fields).fields(usize::MAX), 1_800_000_000_123)
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
        for (fields, bound, logger, error, message) in [
            (
                fields!(
                    "admitted", id = 7, user = ?"bob", dc = 2, ms = 38, client = %"192.0.2.0/24"
                ),
                r#""ms":38,"dc":2,"secret_name":"bob","client-ip":"192.0.2.0/24","stream-id":"7""#,
                "proxy",
                "",
                "admitted",
            ),
            (
                fields!(
                    "refused", user = ?"7", why = %"clock-off", off_s = -90,
                    client = %"2001:db8:1::/48"
                ),
                r#""off_s":-90,"secret_name":"7","client-ip":"2001:db8:1::/48""#,
                "proxy",
                r#""error":"clock-off""#,
                "refused",
            ),
            (
                fields!("refused", list = %"allowlist", client = %"192.0.2.0/24"),
                r#""list":"allowlist","ip":"192.0.2.0/24""#,
                "allowlist.ipblockist.firehol",
                "",
                "refused",
            ),
            (
                fields!(
                    "list-failed", name = %"blocklist", source = ?"/a b", error = ?"no \"file\""
                ),
                r#""name":"blocklist","filename":"/a b""#,
                "blocklist.ipblockist.firehol",
                r#""error":"no \"file\"""#,
                "list-failed",
            ),
            (
                fields!("unknown-dc", dc = 9, fallback = 2),
                r#""original_dc":9,"dc":2"#,
                "",
                "",
                "unknown-dc",
            ),
            (
                fields!("throttle", active = true, limit = 3),
                r#""active":true,"limit":"3""#,
                "proxy",
                "",
                "throttle",
            ),
            (
                fields!("listening", addr = %"0.0.0.0:443"),
                r#""bind":"0.0.0.0:443""#,
                "",
                "",
                "listening",
            ),
            (
                fields!("config"; "/a.toml:3:1: unknown key \"x\""),
                r#""event":"config""#,
                "",
                "",
                "/a.toml:3:1: unknown key \"x\"",
            ),
        ] {
            assert_eq!(info(fields), expected(bound, logger, error, message));
        }
    }

    #[test]
    fn a_hostile_name_stays_one_value() {
        let name = "x\",\"level\":\"error\"}\n{\u{0}\u{1b}\u{2028}\\ error=1";
        let text = info(fields!("refused", user = ?name, why = %"replay", client = %"a"));
        assert!(!text.contains(['\n', '\0', '\u{1b}']), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["secret_name"], name);
        assert_eq!((&value["level"], &value["error"]), (&"info".into(), &"replay".into()));
        assert_eq!(value.as_object().unwrap().len(), 7);
    }

    #[test]
    fn no_name_occurs_twice() {
        let text = info(fields!(
            "a",
            level = 1,
            message = 2,
            timestamp = 3,
            logger = 4,
            a = 5,
            a = 6,
            a = 7,
            client = 8,
            ip = 9
        ));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (name, number) in [("level_", 1), ("message_", 2), ("timestamp_", 3), ("a__", 7)] {
            assert_eq!(value[name], number, "{text}");
        }
        assert_eq!(value["message"], "a");
        assert_eq!(text.matches("\":").count(), value.as_object().unwrap().len());
    }

    #[test]
    fn what_only_looks_like_a_number_is_a_string() {
        let text = info(fields!(
            "a", number = 100_000_000_000_000_u64, long = 1_000_000_000_000_000_u64, word = %"7",
            text = ?"7", flag = true, limit = 3
        ));
        let want = "\"number\":100000000000000,\"long\":\"1000000000000000\",\"word\":\"7\",\
                    \"text\":\"7\",\"flag\":true,\"limit\":\"3\"";
        assert_eq!(text, expected(want, "", "", "a"));
    }
}
