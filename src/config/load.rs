//! Loads a config file: from its text to [`Settings`], with line and column in every diagnostic.
//! Keys are matched in any case (COMPATIBILITY 3.1). An unknown key is a warning, never an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml_edit::Document;

use crate::config::draft::SettingsDraft;
use crate::config::field::{Effect, Field};
use crate::config::key::Key;
use crate::config::keys::{self, KEYS};
use crate::config::report::{Diagnostic, Diagnostics, printable_name};
use crate::config::settings::Settings;
use crate::config::suggest;
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
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        let text = format!("larger than {} KiB, the limit for a config file", FILE_MAX >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Loads the content of a file; `file` is its name in diagnostics.
///
/// # Errors
/// All diagnostics, including the warnings, in the order of the file.
pub fn load(bytes: &[u8], file: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let mut report = Diagnostics::default();
    let (text, settings) = match str::from_utf8(bytes) {
        Ok(text) => (text.to_string(), parse(text, &mut report)),
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

fn parse(text: &str, report: &mut Diagnostics) -> Option<Settings> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(fault) => {
            // The Display of the error prints the line, which may contain a secret.
            let message = fault.message().replace('\n', "; ");
            report.error(
                start(fault.span(), 0),
                format!("invalid TOML: {message}; correct this line"),
            );
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
            self.report.warn(at, text);
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
        // The search for a suggestion is slow, and a hostile file may have many unknown keys.
        if self.report.is_at_warning_limit() {
            return;
        }
        let is_table = item.table().is_some() || item.value().is_none();
        let hint = if is_table { table_hint(parent, lower) } else { key_hint(parent, lower) };
        let what = if is_table { "unknown table" } else { "unknown key" };
        let text = match hint {
            LoadHint::Move(remedy) => {
                let here = match parent {
                    "" => "at the top level".to_owned(),
                    _ => format!("in [{parent}]"),
                };
                format!("{}: has no effect {here}; {remedy}", printable_name(name))
            }
            LoadHint::Nearest(guess) => format!("{what} {}; {guess}", printable_name(name)),
            LoadHint::None => {
                format!("{what} {}, so it has no effect; remove it", printable_name(name))
            }
        };
        self.report.warn(at, text);
    }
}

enum LoadHint {
    /// A known name in the wrong table: where to move it.
    Move(String),
    /// A similar known name: a suggestion.
    Nearest(String),
    None,
}

fn key_hint(parent: &str, name: &str) -> LoadHint {
    if let Some(remedy) = suggest::move_hint(name) {
        return LoadHint::Move(remedy);
    }
    if let Some(near) = suggest::nearest(name, suggest::names_in(parent)) {
        return LoadHint::Nearest(format!("did you mean {near}?"));
    }
    match suggest::nearest(name, KEYS.iter().map(|key| key.split().1)) {
        Some(near) => {
            let remedy = suggest::move_hint(near).unwrap_or_default();
            LoadHint::Nearest(format!("if you mean {near}, {remedy}"))
        }
        None => LoadHint::None,
    }
}

fn table_hint(parent: &str, name: &str) -> LoadHint {
    let near = suggest::nearest(name, suggest::names_in(parent));
    match (suggest::find_table(name), near, parent) {
        (Some(path), _, _) => LoadHint::Move(format!("write [{path}]")),
        (None, Some(near), "") => LoadHint::Nearest(format!("did you mean [{near}]?")),
        (None, Some(near), _) => LoadHint::Nearest(format!("did you mean [{parent}.{near}]?")),
        (None, None, _) => LoadHint::None,
    }
}

/// Size limit of a config file in bytes.
pub const FILE_MAX: u64 = 1 << 20;
