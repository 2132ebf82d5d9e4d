//! Writes the sections of an OpenWrt config as TOML. An option of the section of type `mtbox` has
//! the name of its key, with `_` for `.` and `-`; each section of type `user` is a user.

use crate::config::edit::{is_name, quoted, quoted_always};
use crate::config::guard;
use crate::config::key::Key;
use crate::config::keys::KEYS;
use crate::config::report::printable_name;
use crate::config::uci::grammar::{UciOption, UciSection};
use crate::config::value::ValueKind;
use crate::util::host_port;
use crate::util::spelling::nearest;

/// The TOML of a file, and the origin of its lines.
#[derive(Debug, Default)]
pub(super) struct TomlWriter {
    /// The TOML, for the loader.
    pub(super) toml: String,
    /// Values that cannot be written as TOML: `SECTION, option NAME: what is wrong; what to do`.
    pub(super) errors: Vec<String>,
    /// Options without effect, and similar faults.
    pub(super) warnings: Vec<String>,
    /// The label of the section of type `mtbox`.
    main: String,
    /// Number of lines written.
    lines: usize,
    sources: Vec<LineSource>,
}

/// The option that a line of the TOML comes from.
#[derive(Debug)]
struct LineSource {
    line: usize,
    /// The prefix of the loader's diagnostics about the line.
    name: String,
    /// Section and option, for messages.
    place: String,
}

impl TomlWriter {
    /// Translates a diagnostic of the loader to section and option; `None` if no option produced
    /// the line.
    pub(super) fn translate(&self, line: usize, text: &str) -> Option<String> {
        let LineSource { name, place, .. } = self.sources.iter().find(|one| one.line == line)?;
        Some([place, ": ", without_name(name, text).unwrap_or(text)].concat())
    }

    /// Translates a diagnostic about a key that the file does not have.
    pub(super) fn translate_key(&self, text: &str) -> String {
        match KEYS.iter().find_map(|key| Some((key, without_name(key.path, text)?))) {
            Some((key, rest)) => [&self.main, ", option ", &option_name(key), ": ", rest].concat(),
            None => text.to_owned(),
        }
    }

    fn error(&mut self, place: &str, fault: &str) {
        self.errors.push([place, ": ", fault].concat());
    }

    fn warn(&mut self, place: &str, text: &str) {
        self.warnings.push([place, ": ", text].concat());
    }

    /// An option that the table of keys does not have. One that is meant to keep a client out must
    /// not be passed over with a warning (DECISIONS D191).
    fn unknown(&mut self, place: &str, text: &str, is_guard: bool) {
        match is_guard {
            true => self.error(place, &[text, OFF].concat()),
            false => self.warn(place, text),
        }
    }

    fn header(&mut self, table: &str) {
        self.toml.push_str("\n[");
        self.toml.push_str(table);
        self.toml.push_str("]\n");
        self.lines += 2;
    }

    /// Writes one line. `place` and `label` are the fields of [`LineSource`].
    fn pair(&mut self, place: String, label: String, name: &str, value: &str) {
        self.toml.push_str(name);
        self.toml.push_str(" = ");
        self.toml.push_str(value);
        self.toml.push('\n');
        self.lines += 1;
        self.sources.push(LineSource { line: self.lines, name: label, place });
    }
}

/// A diagnostic without the key or user name at its start.
fn without_name<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let rest = text.strip_prefix(name)?;
    rest.strip_prefix(": ").or_else(|| rest.strip_prefix(", "))
}

/// A section of type `user`.
#[derive(Debug)]
struct UciUser<'a> {
    name: &'a str,
    secret: &'a str,
    place: String,
    is_enabled: bool,
}

/// Writes the TOML of a file.
pub(super) fn write(sections: &[UciSection], file: &str, package: &str) -> TomlWriter {
    let mut writer = TomlWriter::default();
    writer.toml.push_str(MADE_FROM);
    writer.toml.extend(file.chars().map(|c| if c.is_control() { '?' } else { c }));
    writer.toml.push_str(" by \"mtbox uci\"; edit that file instead.\n");
    writer.lines = 1;
    let mut of_type = sections.iter().filter(|section| section.kind == MAIN);
    // The init script reads the section `main`; without it, the first one counts.
    let main = of_type.clone().find(|section| section.name == "main").or_else(|| of_type.next());
    for section in sections {
        let place = label(sections, section);
        match section.kind.as_str() {
            MAIN if !main.is_some_and(|main| std::ptr::eq(main, section)) => {
                writer.warn(
                    &place,
                    "has no effect, since only one section of its type is read; remove it",
                );
            }
            MAIN | USER => {}
            other => writer.warn(&place, &unknown("type", other, &mut [MAIN, USER].into_iter())),
        }
    }
    let users = users(sections, package, &mut writer);
    let empty = UciSection { kind: String::new(), name: String::new(), options: Vec::new() };
    writer.main = main.map_or_else(|| "section 'main'".to_owned(), |main| label(sections, main));
    let main = main.unwrap_or(&empty);
    let has_no_user = users.is_empty() && writer.errors.is_empty();
    if has_no_user && !main.options.iter().any(|one| one.name == "secret") {
        writer.errors.push(format!(
            "no user; add one: uci set {package}.NAME={USER}; uci commit {package}; \
             /etc/init.d/{package} restart"
        ));
    } else if !users.is_empty() && !users.iter().any(|user| user.is_enabled) {
        writer.warnings.push("every user is disabled, so no user can connect".to_owned());
    }
    keys(main, &users, &mut writer);
    if !users.is_empty() {
        writer.header("secrets");
    }
    for UciUser { name, secret, place, .. } in users {
        writer.pair(
            place + ", option secret",
            printable_name(name),
            &quoted(name),
            &quoted_always(secret),
        );
    }
    writer
}

fn users<'a>(
    sections: &'a [UciSection],
    package: &str,
    writer: &mut TomlWriter,
) -> Vec<UciUser<'a>> {
    let mut users: Vec<UciUser<'a>> = Vec::new();
    for section in sections.iter().filter(|section| section.kind == USER) {
        let place = label(sections, section);
        for option in section.options.iter().filter(|one| !USER_OPTIONS.contains(&&*one.name)) {
            let text = unknown("option", &option.name, &mut USER_OPTIONS.iter().copied());
            writer.unknown(&place, &text, is_guard(option, true));
        }
        let mut option = |name| {
            let given = section.options.iter().find(|option| option.name == name)?;
            let value = single(given);
            value.map_err(|fault| writer.error(&[&place, ", option ", name].concat(), fault)).ok()
        };
        let name = option("name").unwrap_or(&section.name);
        let secret = option("secret").unwrap_or_default();
        let [enabled, disabled] = ["enabled", "disabled"].map(|name| option(name).map(flag));
        for (name, read) in [("enabled", &enabled), ("disabled", &disabled)] {
            if let Some(Err(fault)) = read {
                writer.error(&[&place, ", option ", name].concat(), fault);
            }
        }
        let is_enabled = enabled != Some(Ok(false)) && disabled != Some(Ok(true));
        if !is_name(name) {
            let fault = "a name must have 1 to 64 bytes and no control characters; set this option";
            writer.error(&(place + ", option name"), fault);
        } else if secret.is_empty() {
            let id = id(sections, section);
            let fault = format!(
                "missing; the next start or reload of the service creates one. To create one \
                 now: uci set {package}.{id}.secret=$(mtbox generate-secret --hex HOST); \
                 uci commit {package}"
            );
            writer.error(&(place + ", option secret"), &fault);
        } else if users.iter().any(|user| user.name == name) {
            writer.error(
                &(place + ", option name"),
                "another user has this name; choose another one",
            );
        } else {
            users.push(UciUser { name, secret, place, is_enabled });
        }
    }
    users
}

/// Writes all keys except the users.
fn keys(main: &UciSection, users: &[UciUser<'_>], writer: &mut TomlWriter) {
    let section = writer.main.clone();
    let mut known: Vec<(&Key, &UciOption)> = Vec::new();
    let mut port = None;
    for option in &main.options {
        match (key_of(&option.name), option.name.as_str()) {
            (Some(key), _) if !matches!(key.kind, ValueKind::Secrets) => known.push((key, option)),
            (_, "port") => port = Some(option),
            // Options of the init script.
            (_, "enabled" | "host" | "open_port") => {}
            (_, name) => {
                let names: Vec<String> = KEYS.iter().map(option_name).collect();
                let own = ["enabled", "host", "open_port", "port"].into_iter();
                let mut names = names.iter().map(String::as_str).chain(own);
                let text = unknown("option", name, &mut names);
                writer.unknown(&section, &text, is_guard(option, false));
            }
        }
    }
    let mut table = "";
    for key in KEYS {
        let (parent, name) = key.split();
        let given = known.iter().find(|(known, _)| known.path == key.path).map(|(_, given)| *given);
        let option = given.map_or_else(|| option_name(key), |given| given.name.clone());
        let mut place = [&section, ", option ", &option].concat();
        let value = match (key.path, given) {
            ("bind-to", _) => bind_to(given, port, &mut place, writer),
            ("api-bind-to", None) => Ok(quoted_always(API)),
            ("disabled-users", _) => disabled(given, users),
            (_, Some(given)) if key.is_whole_table() => {
                writer.header(key.path);
                data_centres(given, &place, key, writer);
                continue;
            }
            (_, Some(given)) => value(key.kind, given),
            (_, None) => continue,
        };
        if parent != table {
            table = parent;
            writer.header(table);
        }
        match value {
            Ok(value) if value.is_empty() => {}
            Ok(value) => writer.pair(place, key.path.to_owned(), name, &value),
            Err(fault) => writer.error(&place, fault),
        }
    }
}

/// The listeners. `bind_to` overrides `port`.
fn bind_to(
    given: Option<&UciOption>,
    port: Option<&UciOption>,
    place: &mut String,
    writer: &mut TomlWriter,
) -> Result<String, &'static str> {
    let number = port.map_or(Ok(PORT), |port| {
        host_port::port_number(single(port)?).ok_or("not a port; write a number from 1 to 65535")
    });
    let of_port = [&writer.main, ", option port"].concat();
    let Some(given) = given else {
        *place = of_port;
        return Ok(quoted_always(&format!("0.0.0.0:{}", number?)));
    };
    let suffix = number.map(|number| format!(":{number}")).unwrap_or_default();
    if port.is_some() && !entries(given).iter().any(|entry| entry.ends_with(&suffix)) {
        writer.warn(&of_port, "has no effect, since bind_to has another port; remove one");
    }
    Ok(array(&entries(given)))
}

fn disabled(given: Option<&UciOption>, users: &[UciUser<'_>]) -> Result<String, &'static str> {
    let mut names = given.map(entries).unwrap_or_default();
    names.extend(users.iter().filter(|user| !user.is_enabled).map(|user| user.name));
    Ok(if names.is_empty() { String::new() } else { array(&names) })
}

/// Writes `DC=IP:port` entries, one line per data centre.
fn data_centres(given: &UciOption, place: &str, key: &Key, writer: &mut TomlWriter) {
    let entries = entries(given);
    let pairs: Vec<(&str, &str)> =
        entries.iter().filter_map(|entry| entry.split_once('=')).collect();
    if pairs.len() < entries.len() {
        return writer.error(place, "write DC=IP:port, such as 203=192.0.2.1:443");
    }
    for (at, (dc, _)) in pairs.iter().enumerate() {
        if !pairs.iter().take(at).any(|(before, _)| before == dc) {
            let addrs: Vec<&str> =
                pairs.iter().filter(|(other, _)| other == dc).map(|(_, addr)| *addr).collect();
            writer.pair(place.to_owned(), key.path.to_owned(), &quoted(dc), &array(&addrs));
        }
    }
}

/// The value of an option as TOML.
fn value(kind: ValueKind, given: &UciOption) -> Result<String, &'static str> {
    use ValueKind::{Count, ErrorRate, Flag, Number, PageOrNone, Port};
    if kind.is_list() {
        return Ok(array(&entries(given)));
    }
    let text = single(given)?;
    match kind {
        Flag(..) => flag(text).map(|on| if on { "true" } else { "false" }.to_owned()),
        Count(..) | Port(..) | Number(..) => {
            whole(text).ok_or("must be a whole number").map(str::to_owned)
        }
        ErrorRate(_) => number(text).ok_or("must be a number, such as 0.001"),
        // UCI has no empty options.
        PageOrNone(..) if text == "none" => Ok("\"\"".to_owned()),
        _ => Ok(quoted_always(text)),
    }
}

/// The only value of an option.
fn single(given: &UciOption) -> Result<&str, &'static str> {
    match given.values.as_slice() {
        [value] => Ok(value),
        _ => Err("must be one value; write it as an option, not as a list"),
    }
}

/// The values of a list, or of an option with several values separated by blanks.
fn entries(given: &UciOption) -> Vec<&str> {
    match given.is_list {
        true => given.values.iter().map(String::as_str).collect(),
        false => given.values.iter().flat_map(|value| value.split_ascii_whitespace()).collect(),
    }
}

fn array(entries: &[&str]) -> String {
    let mut out = String::from("[");
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        out.push_str(&quoted_always(entry));
    }
    out.push(']');
    out
}

/// Parses a flag as the shell functions of OpenWrt do.
fn flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "on" | "true" | "yes" | "enabled" => Ok(true),
        "0" | "off" | "false" | "no" | "disabled" => Ok(false),
        _ => Err("must be 1 or 0"),
    }
}

/// Parses decimal digits for TOML: without leading zeros, and few enough for its integers.
fn whole(text: &str) -> Option<&str> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    (is_whole && digits.len() <= DIGITS_MAX).then_some(digits)
}

/// Parses decimal digits, with or without a fraction.
fn number(text: &str) -> Option<String> {
    let Some((integer, fraction)) = text.split_once('.') else {
        return whole(text).map(str::to_owned);
    };
    whole(fraction)?;
    Some([whole(integer)?, ".", fraction].concat())
}

/// The label of a section in messages.
fn label(sections: &[UciSection], section: &UciSection) -> String {
    let what = if section.kind == USER { "user " } else { "section " };
    let id = id(sections, section);
    let quote = if id.starts_with('@') { "" } else { "'" };
    [what, quote, &id, quote].concat()
}

/// The address of a section for `uci`: its name, or its index among the sections of its type.
fn id(sections: &[UciSection], section: &UciSection) -> String {
    // A long word may be a misplaced secret.
    let is_short = |word: &str| !printable_name(word).starts_with('(');
    let UciSection { kind, name, .. } = section;
    if !name.is_empty() && is_short(name) {
        return name.clone();
    }
    let before = sections.iter().take_while(|other| !std::ptr::eq(*other, section));
    let index = before.filter(|other| other.kind == *kind).count();
    let kind = if is_short(kind) { kind } else { "?" };
    format!("@{kind}[{index}]")
}

/// The message for an unknown name, with a suggestion if a known name is similar.
fn unknown(what: &str, name: &str, known: &mut dyn Iterator<Item = &str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown {what} {name}; did you mean {near}?"),
        None => format!("unknown {what} {}, so it has no effect; remove it", printable_name(name)),
    }
}

/// Whether an unknown option is meant to keep a client out, and has a value that does.
fn is_guard(option: &UciOption, is_of_users: bool) -> bool {
    let name = option.name.to_ascii_lowercase();
    let has_false = option.values.iter().any(|value| flag(value) == Ok(false));
    let has_effect =
        option.values.iter().any(|value| flag(value) != Ok(false) && !value.is_empty());
    guard::keeps_out(&name, is_of_users, has_effect, has_false)
}

/// The key that an option sets. If an old and a new key have the same option name, the new one.
fn key_of(option: &str) -> Option<&'static Key> {
    let is_it = |key: &&Key| key.path.len() == option.len() && option_name(key) == option;
    KEYS.iter().filter(is_it).min_by_key(|key| key.instead.is_some())
}

/// The option name of a key.
pub(super) fn option_name(key: &Key) -> String {
    key.path.chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c }).collect()
}

/// The start of a generated file; the path of its source follows.
pub const MADE_FROM: &str = "# Made from ";
/// The type of the section with the keys.
const MAIN: &str = "mtbox";
/// The type of the sections of users.
const USER: &str = "user";
const USER_OPTIONS: &[&str] = &["secret", "enabled", "disabled", "name", "host"];
const OFF: &str = "; to keep a user out, set option disabled '1' in its section";
/// The default of `api_bind_to`, for `mtbox stats`; the init script creates the directory.
const API: &str = "unix:/var/run/mtbox/stats.sock";
const PORT: u16 = 443;
/// Digits of the largest number that a key accepts.
const DIGITS_MAX: usize = 10;
