//! Suggestions for unknown keys: similar names, and the table where a known name belongs.

use crate::config::key::Key;
use crate::config::keys::{self, KEYS};

/// What an unknown key or table may mean.
pub(super) enum Hint {
    /// A known name in the wrong table: what to do.
    Move(String),
    /// A similar known name: a suggestion.
    Nearest(String),
    /// A word of another program: what to do.
    Word(&'static str),
    /// Nothing is known about it.
    None,
}

/// What an unknown key of a table may mean. Names are in lower case, with `-` instead of `_`.
pub(super) fn key_hint(parent: &str, name: &str) -> Hint {
    // Such as domain-fronting-port below [domain-fronting].
    let short = name.strip_prefix(parent).and_then(|rest| rest.strip_prefix('-'));
    if let Some(short) = short.filter(|short| names_in(parent).contains(short)) {
        return Hint::Move(format!("write {short}"));
    }
    if names_in(parent).contains(&name) {
        return Hint::Nearest(format!("did you mean {name}?"));
    }
    if let Some((_, meant)) = OTHER_WORDS.iter().find(|(word, _)| *word == name) {
        return Hint::Word(meant);
    }
    if name == "bind-to" {
        return Hint::Word(BIND_TO);
    }
    if let Some(remedy) = move_hint(name).or_else(|| joined_hint(name)) {
        return Hint::Move(remedy);
    }
    if let Some(near) = nearest(name, names_in(parent)) {
        return Hint::Nearest(format!("did you mean {near}?"));
    }
    let near = nearest(name, KEYS.iter().map(|key| key.split().1));
    match near.and_then(|near| Some((near, move_hint(near)?))) {
        Some((near, remedy)) => Hint::Nearest(format!("if you mean {near}, {remedy}")),
        None => Hint::None,
    }
}

/// What an unknown table may mean; see [`key_hint`].
pub(super) fn table_hint(parent: &str, name: &str) -> Hint {
    if let Some(path) = find_table(name) {
        return Hint::Move(format!("write [{path}]"));
    }
    match table_meant(parent, name) {
        Some(near) => Hint::Nearest(format!("did you mean [{near}]?")),
        None => match OTHER_WORDS.iter().find(|(word, _)| *word == name) {
            Some((_, meant)) => Hint::Word(meant),
            None => Hint::None,
        },
    }
}

/// The instruction for a table and its key in one word, such as blocklist-urls.
fn joined_hint(name: &str) -> Option<String> {
    KEYS.iter().find_map(|key| {
        let (table, last) = key.split();
        let word = table.rsplit('.').next().filter(|word| !word.is_empty())?;
        let is_it = name.strip_prefix(word)?.strip_prefix('-')? == last && key.instead.is_none();
        is_it.then(|| format!("write {last} below [{table}]"))
    })
}

/// The path of the table that was meant by an unknown one.
fn table_meant(parent: &str, name: &str) -> Option<String> {
    let dot = if parent.is_empty() { "" } else { "." };
    let near = || nearest(name, names_in(parent)).map(|near| format!("{parent}{dot}{near}"));
    find_table(name).map(str::to_owned).or_else(near)
}

/// The table that was meant by a table with the name of a value, such as `[secret]`.
pub(super) fn table_near(name: &str) -> Option<&'static str> {
    let is_table = |one: &&str| keys::is_table(one) || find_table(one).is_some();
    nearest(name, names_in("").into_iter().filter(is_table))
}

/// Whether a name is one of a setting that keeps a client out.
pub(super) fn is_guard(name: &str) -> bool {
    let is_verb = |word: &str| VERBS.contains(&word);
    has_word(name, GUARD_WORDS)
        || is_verb(name)
        || (name.split(SEPARATORS).any(is_verb) && has_word(name, OBJECTS))
        || (has_word(name, &["active", "enabled", "only", "permit"]) && has_word(name, PEOPLE))
        || nearest(name, GUARDS.iter().copied()).is_some()
}

/// Whether a name is one of a limit for a person. Below a table of users, it may also be the name
/// of a key of ours.
pub(super) fn is_limit(name: &str, is_of_users: bool) -> bool {
    let is_ours = || KEYS.iter().any(|key| key.split().1 == name.replace('_', "-"));
    has_word(name, LIMIT_WORDS) && has_word(name, COUNTED_WORDS) && (is_of_users || !is_ours())
}

fn has_word(name: &str, words: &[&str]) -> bool {
    name.split(SEPARATORS).any(|word| words.contains(&word))
}

/// Whether a name is one of a setting that lets a client in.
pub(super) fn is_switch(name: &str) -> bool {
    has_word(name, &["active", "enable", "enabled"])
}

/// Whether the key belongs to the table that was meant by an unknown one, and that keeps no client
/// out, such as `disabled` in `[network.keepalive]`.
pub(super) fn is_of_table(key: &str, parent: &str, name: &str) -> bool {
    table_meant(parent, name)
        .is_some_and(|table| !is_guard(&table) && names_in(&table).contains(&key))
}

/// Whether a table of this name has the users of another program. `enabled = false` in it keeps a
/// user out.
pub(super) fn is_of_users(name: &str) -> bool {
    ["access", "accounts", "clients", "secret-limits", "user", "users"].contains(&name)
}

/// The instruction to move a key to the table where it belongs; `None` if no key has this name.
/// `name` is in lower case, without a table. For an old key: what to write instead.
pub(super) fn move_hint(name: &str) -> Option<String> {
    let has_name = |key: &&Key| key.split().1 == name;
    let mut tables: Vec<&str> = KEYS
        .iter()
        .filter(has_name)
        .filter(|key| key.instead.is_none())
        .map(|key| key.split().0)
        .collect();
    tables.truncate(TABLES_MAX);
    match *tables {
        [] => {
            let instead = KEYS.iter().find(has_name)?.instead?;
            Some(instead.trim_start_matches("it has no effect; ").to_owned())
        }
        ["", ..] => Some("it is a global key: move it above the first [table]".to_string()),
        _ => {
            let headers: Vec<String> = tables.iter().map(|table| format!("[{table}]")).collect();
            Some(format!("move it below {}", headers.join(" or ")))
        }
    }
}

/// The full path of the table whose last part is `name`, in lower case.
fn find_table(name: &str) -> Option<&'static str> {
    let tables = KEYS.iter().map(|key| if key.is_whole_table() { key.path } else { key.split().0 });
    tables.filter(|table| !table.is_empty()).find(|table| table.rsplit('.').next() == Some(name))
}

/// The names that a table (empty = the top level) can contain: keys and inner tables.
fn names_in(table: &str) -> Vec<&'static str> {
    let rest = |key: &Key| match table {
        "" => Some(key.path),
        _ => key.path.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')),
    };
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter(|key| key.instead.is_none())
        .filter_map(rest)
        .filter_map(|rest| rest.split('.').next())
        .collect();
    names.dedup();
    names
}

/// The candidate that `word` is most likely a misspelling of: at most a third of its letters
/// differ, and at most three. The first of several with the same distance wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(word, &mut candidates.into_iter())
}

/// Not generic, so that it is compiled once for all kinds of iterators.
fn nearest_of<'a>(word: &str, candidates: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let bound = (candidate.chars().count() / 3).clamp(1, DISTANCE_MAX);
        if let Some(distance) = distance(word, candidate)
            && distance <= bound
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The number of letters to insert, delete, replace, or swap with their neighbour (optimal string
/// alignment distance). `None` if the lengths differ too much.
fn distance(from: &str, to: &str) -> Option<usize> {
    let from: Vec<char> = from.chars().take(WORD_MAX).collect();
    let to: Vec<char> = to.chars().collect();
    if from.len().abs_diff(to.len()) > DISTANCE_MAX {
        return None;
    }
    // The algorithm needs the last two rows of its matrix only.
    let mut older_row: Vec<usize> = Vec::new();
    let mut last_row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut least = last_row[j] + usize::from(a != b);
            least = least.min(last_row[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(older_row[j - 1] + 1);
            }
            row.push(least);
        }
        older_row = std::mem::replace(&mut last_row, row);
    }
    last_row.last().copied()
}

/// Words of other programs for keys of ours, in lower case, and what to write.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("active-users", "each user of [secrets] is on; write disabled-users to keep one out"),
    ("enabled-users", "each user of [secrets] is on; write disabled-users to keep one out"),
    ("only-users", "each user of [secrets] is on; write disabled-users to keep one out"),
    ("clients", "users are lines NAME = \"SECRET\" below [secrets]"),
    ("keys", "users are lines NAME = \"SECRET\" below [secrets]"),
    ("users", "users are lines NAME = \"SECRET\" below [secrets]"),
    ("user", "users are lines NAME = \"SECRET\" below [secrets]"),
    ("proxy", "write proxies = [\"socks5://…\"] below [network]"),
    ("proxies", "write proxies = [\"socks5://…\"] below [network]"),
    ("socks5-proxy", "write proxies = [\"socks5://…\"] below [network]"),
    ("socks", "write proxies = [\"socks5://…\"] below [network]"),
    ("socks5", "write proxies = [\"socks5://…\"] below [network]"),
    ("upstream", "write proxies = [\"socks5://…\"] below [network]"),
    ("upstreams", "write proxies = [\"socks5://…\"] below [network]"),
    ("dns", "write dns = \"…\" below [network]"),
    ("timeouts", "write [network.timeout]"),
    ("listen", "write bind-to = \"IP:port\" above the first [table]"),
    ("bind", "write bind-to = \"IP:port\" above the first [table]"),
    ("server", "write bind-to = \"IP:port\" above the first [table]"),
    ("tls-domain", "the host is a part of each secret: `mtbox generate-secret HOST`"),
    ("cloak-host", "the host is a part of each secret: `mtbox generate-secret HOST`"),
    ("cloak-port", "write port below [domain-fronting]"),
    ("ad-tag", "sponsored channels are not supported; remove it"),
    ("adtag", "sponsored channels are not supported; remove it"),
];
const SEPARATORS: [char; 3] = ['-', '_', '.'];
const BIND_TO: &str = "for clients, write bind-to above the first [table]; for /stats, api-bind-to \
    there; for metrics, bind-to below [stats.prometheus]";
/// Words in the names of settings that keep a client out.
const GUARD_WORDS: &[&str] = &[
    "acl",
    "allowlist",
    "ban",
    "banned",
    "bans",
    "blacklist",
    "blocklist",
    "denied",
    "denylist",
    "expiration",
    "expirations",
    "expire",
    "expired",
    "expires",
    "expiry",
    "firewall",
    "geoip",
    "quota",
    "quotas",
    "revoked",
    "suspended",
    "trusted",
    "until",
    "whitelist",
];
/// Words that keep a client out alone, or beside a word of [`OBJECTS`].
const VERBS: &[&str] = &[
    "allow", "allowed", "block", "blocked", "deny", "disable", "disabled", "drop", "inactive",
    "off", "reject",
];
const PEOPLE: &[&str] = &["clients", "secrets", "users"];
const OBJECTS: &[&str] = &[
    "accounts",
    "address",
    "addresses",
    "asn",
    "cidr",
    "cidrs",
    "client",
    "clients",
    "countries",
    "country",
    "from",
    "ip",
    "ips",
    "list",
    "lists",
    "names",
    "network",
    "networks",
    "secret",
    "secrets",
    "subnets",
    "user",
    "users",
];
/// Words in the names of settings that limit how many may connect, or how much they may use, beside
/// [`COUNTED_WORDS`].
const LIMIT_WORDS: &[&str] = &["limit", "limits", "max", "maximum"];
const COUNTED_WORDS: &[&str] = &[
    "client",
    "clients",
    "conn",
    "connection",
    "connections",
    "conns",
    "devices",
    "ip",
    "ips",
    "sessions",
    "traffic",
    "user",
    "users",
];
/// Names of such settings.
const GUARDS: &[&str] =
    &["disabled-users", "secret-limits", "allowlist", "blocklist", "proxy-protocol-trusted"];
/// Most tables that a hint names.
const TABLES_MAX: usize = 4;
/// Most letters that may differ.
const DISTANCE_MAX: usize = 3;
/// Letters of a word that are compared: more than any known word has, plus [`DISTANCE_MAX`].
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_found_and_other_words_are_not() {
        let words = ["bind-to", "api-bind-to", "debug", "dns", "concurrency"];
        for (word, want) in [
            ("bind_to", Some("bind-to")),
            ("bindto", Some("bind-to")),
            ("dbeug", Some("debug")),
            ("concurency", Some("concurrency")),
            ("dsn", Some("dns")),
            ("nds", Some("dns")),
            ("tls", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), want, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), words), None);
    }

    #[test]
    fn a_swap_counts_as_one_step() {
        assert_eq!(distance("ab", "ba"), Some(1));
        assert_eq!(distance("kitten", "sitting"), Some(3));
        assert_eq!(distance("", "abc"), Some(3));
        assert_eq!(distance("", "abcd"), None);
    }
}
