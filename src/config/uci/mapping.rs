//! From sections to TOML. An option of the section of type `mtbox` is called as its key, with `_`
//! for `.` and `-`; each section of type `user` is a user.

use crate::config::addresses;
use crate::config::edit::{is_name, quoted, quoted_always};
use crate::config::keys::{KEYS, Key};
use crate::config::report::printable_name;
use crate::config::suggest;
use crate::config::uci::grammar::{UciOption, UciSection};
use crate::config::value::ValueKind;

/// The TOML of a file, and where its lines come from.
#[derive(Debug, Default)]
pub struct TomlWriter {
    /// What the loader reads.
    pub toml: String,
    /// What cannot be written as TOML at all: `SECTION, option NAME: what is wrong; what to do`.
    pub errors: Vec<String>,
    /// What will surprise.
    pub warnings: Vec<String>,
    /// What the section with the settings is called.
    main: String,
    lines: usize,
    origins: Vec<LineOrigin>,
}

/// Where a line of the TOML comes from.
#[derive(Debug)]
struct LineOrigin {
    line: usize,
    /// What the loader calls it.
    name: String,
    /// What people call it.
    place: String,
}

impl TomlWriter {
    /// A complaint of the loader in the words of the file that people edit, if it is about a line
    /// that comes from an option.
    pub fn place_of(&self, line: usize, text: &str) -> Option<String> {
        let LineOrigin { name, place, .. } = self.origins.iter().find(|one| one.line == line)?;
        Some([place, ": ", behind(name, text).unwrap_or(text)].concat())
    }

    /// A complaint about a key that stands nowhere.
    pub fn by_key(&self, text: &str) -> String {
        match KEYS.iter().find_map(|key| Some((key, behind(key.path, text)?))) {
            Some((key, rest)) => [&self.main, ", option ", &option_name(key), ": ", rest].concat(),
            None => text.to_owned(),
        }
    }

    fn wrong(&mut self, place: &str, fault: &str) {
        self.errors.push([place, ": ", fault].concat());
    }

    fn warn(&mut self, place: &str, text: &str) {
        self.warnings.push([place, ": ", text].concat());
    }

    fn header(&mut self, table: &str) {
        self.toml.push_str("\n[");
        self.toml.push_str(table);
        self.toml.push_str("]\n");
        self.lines += 2;
    }

    /// Writes one line. `called` is how the loader calls it in complaints.
    fn pair(&mut self, place: String, called: String, name: &str, value: &str) {
        self.toml.push_str(name);
        self.toml.push_str(" = ");
        self.toml.push_str(value);
        self.toml.push('\n');
        self.lines += 1;
        self.origins.push(LineOrigin { line: self.lines, name: called, place });
    }
}

/// What stands behind the name with which a complaint begins.
fn behind<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let rest = text.strip_prefix(name)?;
    rest.strip_prefix(": ").or_else(|| rest.strip_prefix(", "))
}

/// Who may connect.
#[derive(Debug)]
struct UciUser<'a> {
    name: &'a str,
    secret: &'a str,
    place: String,
    is_enabled: bool,
}

/// Writes the TOML of a file.
pub fn write(sections: &[UciSection], file: &str, package: &str) -> TomlWriter {
    let mut page = TomlWriter::default();
    page.toml.push_str(MADE_FROM);
    page.toml.extend(file.chars().map(|c| if c.is_control() { '?' } else { c }));
    page.toml.push_str(" by \"mtbox uci\"; edit that file instead.\n");
    page.lines = 1;
    let mut of_type = sections.iter().filter(|section| section.kind == MAIN);
    // The init script asks for it by name.
    let main = of_type.clone().find(|section| section.name == "main").or_else(|| of_type.next());
    for section in sections {
        let place = label(sections, section);
        match section.kind.as_str() {
            MAIN if !main.is_some_and(|main| std::ptr::eq(main, section)) => {
                page.warn(&place, "has no effect, one section of its type counts; delete it");
            }
            MAIN | USER => {}
            other => page.warn(&place, &strange("type", other, [MAIN, USER].into_iter())),
        }
    }
    let users = users(sections, package, &mut page);
    let empty = UciSection { kind: String::new(), name: String::new(), settings: Vec::new() };
    page.main = main.map_or_else(|| "section 'main'".to_owned(), |main| label(sections, main));
    let main = main.unwrap_or(&empty);
    let is_lonely = users.is_empty() && page.errors.is_empty();
    if is_lonely && !main.settings.iter().any(|one| one.name == "secret") {
        page.errors.push(format!(
            "no user; add one: uci set {package}.NAME={USER}; uci commit {package}; \
             /etc/init.d/{package} restart"
        ));
    } else if !users.is_empty() && !users.iter().any(|user| user.is_enabled) {
        page.warnings.push("every user is disabled, so nobody can connect".to_owned());
    }
    keys(main, &users, &mut page);
    if !users.is_empty() {
        page.header("secrets");
    }
    for UciUser { name, secret, place, .. } in users {
        page.pair(
            place + ", option secret",
            printable_name(name),
            &quoted(name),
            &quoted_always(secret),
        );
    }
    page
}

fn users<'a>(sections: &'a [UciSection], package: &str, page: &mut TomlWriter) -> Vec<UciUser<'a>> {
    let mut users: Vec<UciUser<'a>> = Vec::new();
    for section in sections.iter().filter(|section| section.kind == USER) {
        let place = label(sections, section);
        let names = section.settings.iter().map(|setting| setting.name.as_str());
        for name in names.filter(|name| !OF_USERS.contains(name)) {
            page.warn(&place, &strange("option", name, OF_USERS.iter().copied()));
        }
        let mut option = |name| {
            let given = section.settings.iter().find(|setting| setting.name == name)?;
            let value = single(given);
            value.map_err(|fault| page.wrong(&[&place, ", option ", name].concat(), fault)).ok()
        };
        let name = option("name").unwrap_or(&section.name);
        let secret = option("secret").unwrap_or_default();
        let is_enabled = flag(option("enabled").unwrap_or("1")).unwrap_or_else(|fault| {
            page.wrong(&[&place, ", option enabled"].concat(), fault);
            true
        });
        if !is_name(name) {
            let fault = "a name has 1 to 64 bytes and no control characters; set this option";
            page.wrong(&(place + ", option name"), fault);
        } else if secret.is_empty() {
            let id = id(sections, section);
            let fault = format!(
                "missing; the next start or reload of the service makes one, or by hand: uci set \
                 {package}.{id}.secret=$(mtbox generate-secret --hex HOST); uci commit {package}"
            );
            page.wrong(&(place + ", option secret"), &fault);
        } else if users.iter().any(|user| user.name == name) {
            page.wrong(&(place + ", option name"), "another user is called so already");
        } else {
            users.push(UciUser { name, secret, place, is_enabled });
        }
    }
    users
}

/// Writes all that is not a user.
fn keys(main: &UciSection, users: &[UciUser<'_>], page: &mut TomlWriter) {
    let section = page.main.clone();
    let mut known: Vec<(&Key, &UciOption)> = Vec::new();
    let mut port = None;
    for setting in &main.settings {
        match (key_of(&setting.name), setting.name.as_str()) {
            (Some(key), _) if !matches!(key.kind, ValueKind::Secrets) => known.push((key, setting)),
            (_, "port") => port = Some(setting),
            // For the init script.
            (_, "enabled" | "host" | "open_port") => {}
            (_, name) => {
                let names: Vec<String> = KEYS.iter().map(option_name).collect();
                let own = ["enabled", "host", "open_port", "port"].into_iter();
                let names = names.iter().map(String::as_str).chain(own);
                page.warn(&section, &strange("option", name, names));
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
            ("bind-to", _) => bind_to(given, port, &mut place, page),
            ("api-bind-to", None) => Ok(quoted_always(STATS)),
            ("disabled-users", _) => disabled(given, users),
            (_, Some(given)) if key.is_whole_table() => {
                page.header(key.path);
                data_centres(given, &place, key, page);
                continue;
            }
            (_, Some(given)) => value(key.kind, given),
            (_, None) => continue,
        };
        if parent != table {
            table = parent;
            page.header(table);
        }
        match value {
            Ok(value) if value.is_empty() => {}
            Ok(value) => page.pair(place, key.path.to_owned(), name, &value),
            Err(fault) => page.wrong(&place, fault),
        }
    }
}

/// `bind_to` wins over `port`.
fn bind_to(
    given: Option<&UciOption>,
    port: Option<&UciOption>,
    place: &mut String,
    page: &mut TomlWriter,
) -> Result<String, &'static str> {
    let number = port.map_or(Ok(PORT), |port| {
        addresses::port_number(single(port)?).ok_or("not a port; write a number from 1 to 65535")
    });
    let of_port = [&page.main, ", option port"].concat();
    let Some(given) = given else {
        *place = of_port;
        return Ok(quoted_always(&format!("0.0.0.0:{}", number?)));
    };
    let wanted = number.map(|number| format!(":{number}")).unwrap_or_default();
    if port.is_some() && !entries(given).iter().any(|entry| entry.ends_with(&wanted)) {
        page.warn(&of_port, "has no effect beside bind_to, which names another; delete one");
    }
    Ok(array(&entries(given)))
}

fn disabled(given: Option<&UciOption>, users: &[UciUser<'_>]) -> Result<String, &'static str> {
    let mut names = given.map(entries).unwrap_or_default();
    names.extend(users.iter().filter(|user| !user.is_enabled).map(|user| user.name));
    Ok(if names.is_empty() { String::new() } else { array(&names) })
}

/// `DC=IP:port` entries, those of one data centre on one line.
fn data_centres(given: &UciOption, place: &str, key: &Key, page: &mut TomlWriter) {
    let entries = entries(given);
    let pairs: Vec<(&str, &str)> =
        entries.iter().filter_map(|entry| entry.split_once('=')).collect();
    if pairs.len() < entries.len() {
        return page.wrong(place, "write DC=IP:port, such as 203=192.0.2.1:443");
    }
    for (at, (dc, _)) in pairs.iter().enumerate() {
        if !pairs.iter().take(at).any(|(before, _)| before == dc) {
            let of_it: Vec<&str> =
                pairs.iter().filter(|(other, _)| other == dc).map(|(_, addr)| *addr).collect();
            page.pair(place.to_owned(), key.path.to_owned(), &quoted(dc), &array(&of_it));
        }
    }
}

/// The value of an option as TOML.
fn value(kind: ValueKind, given: &UciOption) -> Result<String, &'static str> {
    use ValueKind::{
        Addresses, Count, ErrorRate, Flag, Ips, ListSources, Names, Networks, Number, PageOrNone,
        Pages, Port, Proxies,
    };
    match kind {
        Addresses(_) | Ips(_) | Networks(_) | Proxies(_) | Pages(..) | Names(_)
        | ListSources(_) => return Ok(array(&entries(given))),
        _ => {}
    }
    let text = single(given)?;
    match kind {
        Flag(_) => flag(text).map(|on| if on { "true" } else { "false" }.to_owned()),
        Count(_) | Port(_) | Number(..) => {
            whole(text).ok_or("must be a whole number").map(str::to_owned)
        }
        ErrorRate => number(text).ok_or("must be a number, such as 0.001"),
        // UCI knows no empty option.
        PageOrNone(..) if text == "none" => Ok("\"\"".to_owned()),
        _ => Ok(quoted_always(text)),
    }
}

/// The value of what takes only one.
fn single(given: &UciOption) -> Result<&str, &'static str> {
    match given.values.as_slice() {
        [value] => Ok(value),
        _ => Err("takes one value; write it as an option, not as a list"),
    }
}

/// The values of a list; an option may hold several with blanks between them.
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

/// What the shell functions of OpenWrt take for a flag.
fn flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "on" | "true" | "yes" | "enabled" => Ok(true),
        "0" | "off" | "false" | "no" | "disabled" => Ok(false),
        _ => Err("must be 1 or 0"),
    }
}

/// Digits, as TOML takes them: without zeros before them, and few enough for its numbers.
fn whole(text: &str) -> Option<&str> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    (is_whole && digits.len() <= MOST_DIGITS).then_some(digits)
}

/// The same, with or without digits behind a point.
fn number(text: &str) -> Option<String> {
    let Some((before, behind)) = text.split_once('.') else {
        return whole(text).map(str::to_owned);
    };
    whole(behind)?;
    Some([whole(before)?, ".", behind].concat())
}

/// What a section is called in messages.
fn label(sections: &[UciSection], section: &UciSection) -> String {
    let what = if section.kind == USER { "user " } else { "section " };
    let id = id(sections, section);
    let quote = if id.starts_with('@') { "" } else { "'" };
    [what, quote, &id, quote].concat()
}

/// How `uci` addresses a section: by its name, or by its place among those of its type.
fn id(sections: &[UciSection], section: &UciSection) -> String {
    // A long word may be a secret that stands where a name belongs.
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

/// Something unknown, with a guess where it is spelled nearly as something known.
fn strange<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match suggest::nearest(name, known) {
        Some(near) => format!("unknown {what} {name}; did you mean {near}?"),
        None => format!("unknown {what} {}, so it has no effect", printable_name(name)),
    }
}

/// The key that an option sets. Where an old name reads the same as a new one, it is the new one.
fn key_of(option: &str) -> Option<&'static Key> {
    let is_it = |key: &&Key| key.path.len() == option.len() && option_name(key) == option;
    KEYS.iter().filter(is_it).min_by_key(|key| key.instead.is_some())
}

/// What a key is called in UCI.
pub fn option_name(key: &Key) -> String {
    key.path.chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c }).collect()
}

/// How files begin that come from elsewhere; its path follows.
pub const MADE_FROM: &str = "# Made from ";
/// The type of the section with the settings.
const MAIN: &str = "mtbox";
/// The type of the sections of people.
const USER: &str = "user";
const OF_USERS: &[&str] = &["secret", "enabled", "name", "host"];
/// Where the proxy answers `mtbox stats`; the init script makes the folder.
const STATS: &str = "unix:/var/run/mtbox/stats.sock";
const PORT: u16 = 443;
/// Of the largest number that any key takes.
const MOST_DIGITS: usize = 10;
