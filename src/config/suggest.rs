//! Suggestions for unknown keys: similar names, and the table where a known name belongs.

use crate::config::guard;
use crate::config::key::Key;
use crate::config::keys::{self, KEYS};
use crate::util::spelling::nearest;

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
    let hint = exact_key_hint(parent, name);
    if !matches!(hint, Hint::None) {
        return hint;
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

/// The same without the search for misspellings, which is slow.
pub(super) fn exact_key_hint(parent: &str, name: &str) -> Hint {
    // Such as domain-fronting-port below [domain-fronting].
    let short = name.strip_prefix(parent).and_then(|rest| rest.strip_prefix('-'));
    if let Some(short) = short.filter(|short| names_in(parent).contains(short)) {
        return Hint::Move(format!("write {short}"));
    }
    if names_in(parent).contains(&name) {
        return Hint::Nearest(format!("did you mean {name}?"));
    }
    if let Some(meant) = other_word(name) {
        return Hint::Word(meant);
    }
    if name == "bind-to" {
        return Hint::Word(BIND_TO);
    }
    move_hint(name).or_else(|| joined_hint(name)).map_or(Hint::None, Hint::Move)
}

/// What an unknown table may mean; see [`key_hint`].
pub(super) fn table_hint(parent: &str, name: &str) -> Hint {
    if let Some(path) = find_table(name) {
        return Hint::Move(format!("write [{path}]"));
    }
    match table_meant(parent, name) {
        Some(near) => Hint::Nearest(format!("did you mean [{near}]?")),
        None => other_word(name).map_or(Hint::None, Hint::Word),
    }
}

/// What to write instead of a word of another program.
fn other_word(name: &str) -> Option<&'static str> {
    OTHER_WORDS.iter().find(|(words, _)| guard::is_in(words, name)).map(|(_, meant)| *meant)
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

/// Whether the key belongs to the table that was meant by an unknown one, and that keeps no client
/// out, such as `disabled` in `[network.keepalive]`.
pub(super) fn is_of_table(key: &str, parent: &str, name: &str) -> bool {
    table_meant(parent, name)
        .is_some_and(|table| !guard::is_guard(&table) && names_in(&table).contains(&key))
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

/// Words of other programs, in lower case, and what to write instead.
const OTHER_WORDS: [(&str, &str); 8] = [
    (
        "active-users enabled-users only-users",
        "each user of [secrets] is on; write disabled-users to keep one out",
    ),
    ("clients keys user users", "users are lines NAME = \"SECRET\" below [secrets]"),
    (
        "proxies proxy socks socks5 socks5-proxy upstream upstreams",
        "write proxies = [\"socks5://…\"] below [network]",
    ),
    ("dns", "write dns = \"…\" below [network]"),
    ("timeouts", "write [network.timeout]"),
    ("bind listen server", "write bind-to = \"IP:port\" above the first [table]"),
    ("cloak-host tls-domain", "the host is a part of each secret: `mtbox generate-secret HOST`"),
    ("ad-tag adtag", "sponsored channels are not supported; remove it"),
];
const BIND_TO: &str = "for clients, write bind-to above the first [table]; for /stats, api-bind-to \
    there; for metrics, bind-to below [stats.prometheus]";
/// Most tables that a hint names.
const TABLES_MAX: usize = 4;
