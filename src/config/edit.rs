//! Edits the users in the text of a config file. Only the lines of the edited user change; all
//! others stay byte for byte (DECISIONS D12). The caller must load the result before it replaces
//! the file.

use std::fmt;
use std::ops::Range;

use toml_edit::{Document, Item, Table, Value};

use crate::config::draft::SINGLE_USER;
use crate::config::report::printable_name;

/// An edit of one user, whose name is the first value.
#[derive(Debug, Clone, Copy)]
pub enum Edit<'a> {
    /// Adds a user with this secret, in hexadecimal or base64.
    Add(&'a str, &'a str),
    /// Removes a user.
    Remove(&'a str),
    /// Replaces the secret of a user.
    Rotate(&'a str, &'a str),
    /// Adds a user to `disabled-users`.
    Disable(&'a str),
    /// Removes a user from `disabled-users`.
    Enable(&'a str),
}

/// Why an edit is not possible. The display is one line without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// The text is not TOML; the parser's message.
    NotToml(String),
    /// The user exists already.
    Exists(String),
    /// There is no such user.
    Unknown(String),
    /// The name of a new user is empty, too long, or has control characters.
    BadName,
    /// The only user cannot be removed.
    LastUser(String),
    /// The user is disabled already.
    Disabled(String),
    /// The user is not disabled.
    NotDisabled(String),
    /// `disabled-users` is not a list.
    DisabledNotAList,
    /// `secrets` is not a table with one line per user, but for example an inline table.
    SecretsNotATable,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotToml(message) => write!(f, "invalid TOML: {message}"),
            Self::Exists(name) => write!(f, "user {} already exists", printable_name(name)),
            Self::Unknown(name) => write!(f, "no user is called {}", printable_name(name)),
            Self::BadName => {
                write!(f, "a name must have 1 to {NAME_MAX} bytes and no control characters")
            }
            Self::LastUser(name) => write!(
                f,
                "{} is the last user, and a proxy needs one; add another first, or disable this \
                 one",
                printable_name(name)
            ),
            Self::Disabled(name) => write!(f, "{} is already disabled", printable_name(name)),
            Self::NotDisabled(name) => write!(f, "{} is not disabled", printable_name(name)),
            Self::DisabledNotAList => {
                f.write_str("disabled-users: must be a list of strings in quotes")
            }
            Self::SecretsNotATable => {
                f.write_str("secrets: write it as a [secrets] table, one line per user")
            }
        }
    }
}

impl std::error::Error for EditError {}

/// Applies an edit to the text of a config file; returns the new text.
pub fn apply(text: &str, edit: Edit<'_>) -> Result<String, EditError> {
    let config = ConfigText::parse(text)?;
    match edit {
        Edit::Add(name, secret) => config.add(name, secret),
        Edit::Remove(name) => {
            let without = config.remove(name)?;
            let config = ConfigText::parse(&without)?;
            // The loader would warn of an unknown name in `disabled-users`.
            if config.is_disabled(name) { config.enable(name) } else { Ok(without) }
        }
        Edit::Rotate(name, secret) => config.rotate(name, secret),
        Edit::Disable(name) => config.disable(name),
        Edit::Enable(name) => config.enable(name),
    }
}

/// The text with its parsed form, which has the offset of every item.
struct ConfigText<'a> {
    text: &'a str,
    document: Document<&'a str>,
}

/// The positions of a key and its value, in bytes.
struct KeyValue {
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> ConfigText<'a> {
    fn parse(text: &'a str) -> Result<Self, EditError> {
        let document = Document::parse(text)
            .map_err(|fault| EditError::NotToml(fault.message().replace('\n', "; ")))?;
        Ok(Self { text, document })
    }

    fn add(&self, name: &str, secret: &str) -> Result<String, EditError> {
        if self.user(name)?.is_some() || name == SINGLE_USER && self.single_secret().is_some() {
            return Err(EditError::Exists(name.to_owned()));
        }
        if !is_name(name) {
            return Err(EditError::BadName);
        }
        let line = format!("{} = \"{secret}\"", quoted(name));
        let users = self.users()?;
        let last = users.and_then(|(_, table)| end_of(table));
        if let (Some((path, _)), Some(end)) = (users, last) {
            // A dotted table (`secrets.NAME = ..`) has no header, so each line needs the prefix.
            let dotted = if self.has_header() { String::new() } else { format!("{path}.") };
            return Ok(self.insert_after(end, &format!("{dotted}{line}")));
        }
        let mut out = self.text.to_owned();
        let mut lines = vec![line];
        if let Some((pair, text)) = self.single_secret() {
            // It would have no effect with [secrets], so it moves there, under its implicit name.
            lines.insert(0, format!("{SINGLE_USER} = \"{text}\""));
            out.replace_range(self.line_of(&pair), "");
        }
        match self.header_of_users() {
            Some(header) => Ok(self.insert_after(header, &lines.join(self.line_end()))),
            None => {
                let end = self.line_end();
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push_str(end);
                }
                out.push_str(&format!("{end}[secrets]{end}{}{end}", lines.join(end)));
                Ok(out)
            }
        }
    }

    fn remove(&self, name: &str) -> Result<String, EditError> {
        let pair = self.user(name)?.ok_or_else(|| unknown(name))?;
        if self.users()?.is_some_and(|(_, table)| table.len() == 1) {
            return Err(EditError::LastUser(name.to_owned()));
        }
        let mut out = self.text.to_owned();
        out.replace_range(self.line_of(&pair), "");
        Ok(out)
    }

    fn rotate(&self, name: &str, secret: &str) -> Result<String, EditError> {
        let pair = match self.user(name)? {
            Some(pair) => pair,
            None if name == SINGLE_USER && self.users()?.is_none() => {
                self.single_secret().map(|(pair, _)| pair).ok_or_else(|| unknown(name))?
            }
            None => return Err(unknown(name)),
        };
        let mut out = self.text.to_owned();
        out.replace_range(pair.value, &format!("\"{secret}\""));
        Ok(out)
    }

    fn disable(&self, name: &str) -> Result<String, EditError> {
        let is_single =
            name == SINGLE_USER && self.users()?.is_none() && self.single_secret().is_some();
        if self.user(name)?.is_none() && !is_single {
            return Err(unknown(name));
        }
        if self.is_disabled(name) {
            return Err(EditError::Disabled(name.to_owned()));
        }
        let entry = quoted_always(name);
        let Some((_, item)) = self.find_top("disabled-users") else {
            return Ok(self.insert_top(&format!("disabled-users = [{entry}]")));
        };
        let (Some(Value::Array(list)), Some(span)) = (item.as_value(), item.span()) else {
            return Err(EditError::DisabledNotAList);
        };
        let mut out = self.text.to_owned();
        match list.iter().last().and_then(Value::span) {
            Some(last) => out.insert_str(last.end, &format!(", {entry}")),
            None => out.replace_range(span, &format!("[{entry}]")),
        }
        Ok(out)
    }

    fn enable(&self, name: &str) -> Result<String, EditError> {
        let Some((_, Item::Value(Value::Array(list)))) = self.find_top("disabled-users") else {
            return Err(EditError::NotDisabled(name.to_owned()));
        };
        let spans: Vec<(bool, Range<usize>)> =
            list.iter().filter_map(|one| Some((one.as_str() == Some(name), one.span()?))).collect();
        let Some(at) = spans.iter().position(|(is_it, _)| *is_it) else {
            return Err(EditError::NotDisabled(name.to_owned()));
        };
        // With the comma before it; for the first one, with the comma after it.
        let mut removed = spans[at].1.clone();
        if let Some((_, before)) = at.checked_sub(1).and_then(|before| spans.get(before)) {
            removed.start = before.end;
        } else if let Some((_, next)) = spans.get(at + 1) {
            removed.end = next.start;
        }
        let mut out = self.text.to_owned();
        out.replace_range(removed, "");
        Ok(out)
    }

    fn is_disabled(&self, name: &str) -> bool {
        let found = self.find_top("disabled-users").and_then(|(_, item)| item.as_array());
        found.is_some_and(|list| list.iter().any(|one| one.as_str() == Some(name)))
    }

    /// A key at the top level, in any case.
    fn find_top(&self, wanted: &str) -> Option<(&str, &Item)> {
        self.document.as_table().iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))
    }

    /// The table of the users, and its name as the file spells it.
    fn users(&self) -> Result<Option<(&str, &Table)>, EditError> {
        match self.find_top("secrets") {
            None => Ok(None),
            Some((path, Item::Table(table))) => Ok(Some((path, table))),
            Some(_) => Err(EditError::SecretsNotATable),
        }
    }

    /// The position of a user.
    fn user(&self, name: &str) -> Result<Option<KeyValue>, EditError> {
        let Some((_, table)) = self.users()? else { return Ok(None) };
        Ok(table.get_key_value(name).and_then(|(key, item)| pair(key, item)))
    }

    /// The key `secret` and its value.
    fn single_secret(&self) -> Option<(KeyValue, String)> {
        let (name, item) = self.find_top("secret")?;
        let text = item.as_str()?.to_owned();
        let key = self.document.as_table().key(name)?;
        Some((pair(key, item)?, text))
    }

    /// Whether the users are below a `[secrets]` header.
    fn has_header(&self) -> bool {
        matches!(self.users(), Ok(Some((_, table))) if !table.is_dotted())
    }

    /// The offset of the `[secrets]` header, if there is one.
    fn header_of_users(&self) -> Option<usize> {
        let (_, table) = self.users().ok().flatten()?;
        table.span().filter(|_| self.has_header()).map(|span| span.start)
    }

    /// The line ending of the first line.
    fn line_end(&self) -> &'static str {
        let first = self.text.find('\n').and_then(|at| at.checked_sub(1));
        match first.and_then(|at| self.text.as_bytes().get(at)) {
            Some(b'\r') => "\r\n",
            _ => "\n",
        }
    }

    /// The lines of a pair, including their line endings.
    fn line_of(&self, pair: &KeyValue) -> Range<usize> {
        let start = self.text[..pair.key.start].rfind('\n').map_or(0, |at| at + 1);
        start..self.end_of_line(pair.value.end)
    }

    fn end_of_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |length| at + length + 1)
    }

    /// Inserts lines after the line that contains `at`.
    fn insert_after(&self, at: usize, lines: &str) -> String {
        let end = self.end_of_line(at);
        let (before, after) = self.text.split_at(end);
        let gap = if before.is_empty() || before.ends_with('\n') { "" } else { self.line_end() };
        format!("{before}{gap}{lines}{}{after}", self.line_end())
    }

    /// Inserts a line after the last key at the top level; a config that loads has one.
    fn insert_top(&self, line: &str) -> String {
        let table = self.document.as_table();
        let values = table.iter().filter(|(_, item)| item.is_value());
        let ends = values.filter_map(|(_, item)| item.span().map(|span| span.end));
        match ends.max() {
            Some(end) => self.insert_after(end, line),
            None => format!("{line}{}{}", self.line_end(), self.text),
        }
    }
}

/// The end of the last value.
fn end_of(table: &Table) -> Option<usize> {
    table.iter().filter_map(|(_, item)| Some(item.span()?.end)).max()
}

fn pair(key: &toml_edit::Key, item: &Item) -> Option<KeyValue> {
    Some(KeyValue { key: key.span()?, value: item.span()? })
}

/// Whether a new user can have this name.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// A name as a TOML key: without quotes if TOML allows it.
pub fn quoted(name: &str) -> String {
    if is_bare(name) { name.to_owned() } else { quoted_always(name) }
}

/// Whether TOML takes the text as a key without quotes.
pub(super) fn is_bare(name: &str) -> bool {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !name.is_empty() && name.bytes().all(is_bare)
}

/// A TOML basic string, with control characters escaped.
pub(super) fn quoted_always(name: &str) -> String {
    let mut out = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn unknown(name: &str) -> EditError {
    EditError::Unknown(name.to_owned())
}

/// Longest name in bytes, so that log lines stay readable.
const NAME_MAX: usize = 64;

#[cfg(test)]
mod tests;
