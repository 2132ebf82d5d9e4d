//! Loads a config file: from its text to [`Settings`], with line and column in every diagnostic.
//! Keys are matched in any case (COMPATIBILITY 3.1). An unknown key is a warning; one that is meant
//! to keep a client out is an error (DECISIONS D191).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid};
use toml_edit::Document;

use crate::config::draft::SettingsDraft;
use crate::config::field::{Effect, Field};
use crate::config::guard;
use crate::config::key::Key;
use crate::config::keys;
use crate::config::report::{Diagnostic, Diagnostics, printable_name};
use crate::config::settings::Settings;
use crate::config::suggest::{self, Hint};
use crate::config::toml_fault;
use crate::config::toml_item::{TomlEntry, TomlItem, TomlTable, start};
use crate::config::value::ValueKind;

/// A file that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The warnings, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a whole file of at most [`FILE_MAX`] bytes. Special files, such as a pipe, are read to
/// their end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|fault| match fault.kind() {
        io::ErrorKind::PermissionDenied => with_account(&fault),
        _ => fault,
    })?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        let text = format!("larger than {} KiB, the limit for a config file", FILE_MAX >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Says whose permission is missing: in a container, few files belong to the account of mtbox.
pub fn with_account(fault: &io::Error) -> io::Error {
    let (user, group) = (Uid::effective(), Gid::effective());
    let text = format!(
        "{fault}; this is user {user}: run the command as root or as the account of the service; \
         in a container, chown the file to {user}:{group}"
    );
    io::Error::new(fault.kind(), text)
}

/// Loads the content of a file; `file` is its name in diagnostics.
///
/// # Errors
/// All diagnostics, including the warnings, in the order of the file.
pub fn load(bytes: &[u8], file: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let mut report = Diagnostics::default();
    let (text, settings) = match str::from_utf8(bytes) {
        Ok(text) => {
            let settings = parse(text, &mut report);
            (text.to_string(), settings.filter(|one| has_own_files(one, file, &mut report)))
        }
        Err(fault) => {
            report.error(fault.valid_up_to(), "not UTF-8; save the file as UTF-8");
            (String::from_utf8_lossy(bytes).into_owned(), None)
        }
    };
    let diagnostics = report.into_diagnostics(file, &text);
    match settings {
        Some(settings) => Ok(Loaded { settings, warnings: diagnostics }),
        None => Err(diagnostics),
    }
}

/// Whether no file that is written is the config itself.
fn has_own_files(settings: &Settings, file: &str, report: &mut Diagnostics) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let Some(own) = id(Path::new(file)) else { return true };
    let state = settings.state.as_ref().map(|state| &state.path);
    for (key, path) in [("pid-file", settings.pid_file.as_ref()), ("state-file", state)] {
        if path.is_some_and(|path| id(path) == Some(own)) {
            report.error_at_key(key, "this is the config itself; name another path");
        }
    }
    !report.has_errors()
}

fn parse(text: &str, report: &mut Diagnostics) -> Option<Settings> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(fault) => {
            // The Display of the error prints the line, which may contain a secret.
            let message = fault.message().replace('\n', "; ");
            let at = start(fault.span(), 0);
            let remedy = toml_fault::remedy(text, at);
            let remedy = remedy.as_deref().unwrap_or("correct this line");
            report.error(at, format!("invalid TOML: {message}; {remedy}"));
            return None;
        }
    };
    let mut walk = ConfigWalk { draft: keys::defaults(), report };
    walk.table(TomlTable::Standard(document.as_table()), "");
    let ConfigWalk { draft, report } = walk;
    draft.finish(report)
}

struct ConfigWalk<'a> {
    draft: SettingsDraft,
    report: &'a mut Diagnostics,
}

impl ConfigWalk<'_> {
    /// Reads a table whose path is `parent`, in lower case. The parser bounds the depth.
    fn table(&mut self, table: TomlTable<'_>, parent: &str) {
        for TomlEntry { name, at, item } in table.entries() {
            let lower = name.to_ascii_lowercase();
            let path = if parent.is_empty() { lower.clone() } else { format!("{parent}.{lower}") };
            if let Some(key) = keys::find(&path) {
                self.key(key, item, at);
            } else if !keys::is_table(&path) {
                self.unknown(parent, name, &lower, item, at);
            } else if let Some(inner) = item.table() {
                self.table(inner, &path);
            } else {
                self.report.error(at, format!("{path}: must be a table; write [{path}]"));
            }
        }
    }

    fn key(&mut self, key: &'static Key, item: TomlItem<'_>, at: usize) {
        let value_at = item.start(at);
        if self.report.record_key(key.path, value_at).is_some() {
            let text = format!("{}: duplicate key; the last one wins. Remove one.", key.path);
            match guard::is_guard(key.path) {
                true => self.report.error(at, text),
                false => self.report.warn(at, text),
            }
        }
        let is_table = item.table().is_some() || item.value().is_none();
        if is_table
            && !key.is_whole_table()
            && let Some(near) = suggest::table_near(key.path)
        {
            let text =
                format!("{}: must be a value, not a table; did you mean [{near}]?", key.path);
            self.report.error(at, text);
            return;
        }
        let Self { draft, report } = self;
        let mut field = Field { key, at: value_at, draft, report };
        let effect = match (key.kind, item.table()) {
            (ValueKind::Secrets | ValueKind::DcOverrides, None) => {
                field.reject("must be a table; write names and values below a [header]")
            }
            (ValueKind::Secrets, Some(table)) => {
                field.secrets(table);
                Effect::Some
            }
            (ValueKind::DcOverrides, Some(table)) => {
                field.dc_overrides(table);
                Effect::Some
            }
            _ => field.read(item),
        };
        // An old key with a neutral value does nothing, so there is nothing to replace.
        if let Some(instead) = key.instead.filter(|_| effect == Effect::Some) {
            self.report.warn(at, format!("{}: old name; {instead}", key.path));
        }
    }

    fn unknown(&mut self, parent: &str, name: &str, lower: &str, item: TomlItem<'_>, at: usize) {
        let is_table = item.table().is_some() || item.value().is_none();
        let guard = guard_in(item, lower, guard::is_of_users(parent));
        // The search for a suggestion is slow, and a hostile file may have many unknown keys.
        if self.report.is_at_warning_limit() && guard.is_none() {
            return;
        }
        let lower = lower.replace('_', "-");
        let guard = guard.filter(|guard| !is_table || !suggest::is_of_table(guard, parent, &lower));
        let hint = match is_table {
            true => suggest::table_hint(parent, &lower),
            false => suggest::key_hint(parent, &lower),
        };
        let is_inside = (parent == "defense" || guard::is_guard(parent)) && has_effect(item);
        let guard = guard.or_else(|| is_inside.then(|| name.to_owned()));
        let what = if is_table { "unknown table" } else { "unknown key" };
        let text = match &hint {
            Hint::Move(remedy) => {
                let here = match parent {
                    "" => "at the top level".to_owned(),
                    _ => format!("in [{parent}]"),
                };
                // Not `printable_name`, which leaves out long names: this is a name of ours.
                format!("{name:?}: has no effect {here}; {remedy}")
            }
            Hint::Nearest(guess) => format!("{what} {name:?}; {guess}"),
            Hint::Word(remedy) => format!("{what} {name:?}; {remedy}"),
            Hint::None if guard.is_some() => {
                format!("{what} {name:?}, so it has no effect; {DISABLE}, or remove it")
            }
            Hint::None => {
                format!("{what} {}, so it has no effect; remove it", printable_name(name))
            }
        };
        match guard {
            // Not `printable_name`: the name is nearly one of ours.
            Some(guard) => {
                let text = format!("{text} (now {guard:?} keeps no user out: {MAY_CONNECT})");
                self.report.error(at, text);
            }
            None => self.report.warn(at, text),
        }
        if let (Hint::None | Hint::Word(_), Some(inner)) = (hint, item.table()) {
            self.moved_keys(inner, &lower);
        }
    }

    /// Says where the known keys in an unknown table belong, and what is meant by words of other
    /// programs.
    fn moved_keys(&mut self, table: TomlTable<'_>, parent: &str) {
        for TomlEntry { name, at, item } in table.entries() {
            let lower = name.to_ascii_lowercase().replace('_', "-");
            let hint = match item.table() {
                Some(_) => suggest::table_hint(parent, &lower),
                None => suggest::exact_key_hint(parent, &lower),
            };
            match (hint, item.table()) {
                // Said with the table.
                (_, None) if guard::is_guard(&lower) => {}
                (Hint::Word(_), _) | (Hint::Move(_), None) => {
                    self.unknown(parent, name, &lower, item, at);
                }
                (_, Some(inner)) => self.moved_keys(inner, &lower),
                _ => {}
            }
        }
    }
}

/// The key in an unknown item that is meant to keep a client out and has a value that does. Such a
/// key must not be passed over with a warning.
fn guard_in(item: TomlItem<'_>, name: &str, is_of_users: bool) -> Option<String> {
    let is_of_users = is_of_users || guard::is_of_users(&name.replace('_', "-"));
    let mut inner = item.table().into_iter().flat_map(TomlTable::entries);
    let guard =
        inner.find_map(|entry| guard_in(entry.item, &entry.name.to_ascii_lowercase(), is_of_users));
    let keeps_out = || guard::keeps_out(name, is_of_users, has_effect(item), has_false(item));
    guard.or_else(|| keeps_out().then(|| name.to_owned()))
}

fn has_false(item: TomlItem<'_>) -> bool {
    let mut inner = item.table().into_iter().flat_map(TomlTable::entries);
    item.value().and_then(toml_edit::Value::as_bool) == Some(false)
        || inner.any(|entry| has_false(entry.item))
}

/// Whether the value is none of `false`, zero, an empty string, an empty list, and an empty table.
fn has_effect(item: TomlItem<'_>) -> bool {
    match (item.table(), item.value()) {
        (Some(table), _) => table.entries().into_iter().any(|entry| has_effect(entry.item)),
        (None, Some(value)) => {
            value.as_bool() != Some(false)
                && value.as_integer() != Some(0)
                && value.as_str() != Some("")
                && !value.as_array().is_some_and(toml_edit::Array::is_empty)
        }
        (None, None) => true,
    }
}

const DISABLE: &str = "write disabled-users = [\"NAME\"] to keep a user out";
const MAY_CONNECT: &str = "every user may connect who is not in disabled-users";

/// Size limit of a config file in bytes.
pub const FILE_MAX: u64 = 1 << 20;
