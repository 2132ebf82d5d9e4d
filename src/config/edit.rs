//! Changes to the users in the text of a config: only the lines concerned change, all others stay
//! as they are, to the last blank (D12). Text in, text out; whoever calls loads the result before
//! it replaces anything.

use std::ops::Range;

use toml_edit::{Document, Item, Table, Value};

use crate::config::partial::SINGLE_USER;
use crate::config::report::printable_name;

/// One change.
#[derive(Debug, Clone, Copy)]
pub enum Edit<'a> {
    /// A new user with this secret, which is the text that goes between the quotes.
    Add(&'a str, &'a str),
    /// This user goes.
    Remove(&'a str),
    /// This user gets another secret.
    Rotate(&'a str, &'a str),
    /// This user may not connect for now.
    Disable(&'a str),
    /// This user may connect again.
    Enable(&'a str),
}

/// Makes the change.
///
/// # Errors
/// One line that says what stands in the way.
pub fn apply(text: &str, edit: Edit<'_>) -> Result<String, String> {
    let page = ConfigText::read(text)?;
    match edit {
        Edit::Add(name, secret) => page.add(name, secret),
        Edit::Remove(name) => {
            let without = page.remove(name)?;
            let page = ConfigText::read(&without)?;
            // Or the name would be an unknown one.
            if page.is_disabled(name) { page.enable(name) } else { Ok(without) }
        }
        Edit::Rotate(name, secret) => page.rotate(name, secret),
        Edit::Disable(name) => page.disable(name),
        Edit::Enable(name) => page.enable(name),
    }
}

/// The text and where things stand in it.
struct ConfigText<'a> {
    text: &'a str,
    document: Document<&'a str>,
}

/// A key with its value, as byte offsets.
struct KeyValue {
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> ConfigText<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let document = Document::parse(text)
            .map_err(|fault| format!("not TOML: {}", fault.message().replace('\n', "; ")))?;
        Ok(Self { text, document })
    }

    fn add(&self, name: &str, secret: &str) -> Result<String, String> {
        if self.user(name)?.is_some() || name == SINGLE_USER && self.lone_secret().is_some() {
            return Err(format!("there is a user called {} already", printable_name(name)));
        }
        if !is_name(name) {
            let text = format!("a name has 1 to {NAME_MAX} bytes and no control characters");
            return Err(text);
        }
        let line = format!("{} = \"{secret}\"", quoted(name));
        let users = self.users()?;
        let last = users.and_then(|(_, table)| pairs(table).last().map(|pair| pair.value.end));
        if let (Some((path, _)), Some(end)) = (users, last) {
            // A dotted table has no header below which a bare name could stand.
            let dotted = if self.has_header() { String::new() } else { format!("{path}.") };
            return Ok(self.insert_behind(end, &format!("{dotted}{line}")));
        }
        let mut out = self.text.to_owned();
        let mut lines = vec![line];
        if let Some((pair, text)) = self.lone_secret() {
            // It has no effect beside [secrets], so it moves there under the name that it had.
            lines.insert(0, format!("{SINGLE_USER} = \"{text}\""));
            out.replace_range(self.line_of(&pair), "");
        }
        match self.header_of_users() {
            Some(header) => Ok(self.insert_behind(header, &lines.join(self.line_end()))),
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

    fn remove(&self, name: &str) -> Result<String, String> {
        let pair = self.user(name)?.ok_or_else(|| nobody(name))?;
        if self.users()?.is_some_and(|(_, table)| table.len() == 1) {
            return Err(format!(
                "{} is the last user, and a proxy needs one; add another first, or disable this \
                 one",
                printable_name(name)
            ));
        }
        let mut out = self.text.to_owned();
        out.replace_range(self.line_of(&pair), "");
        Ok(out)
    }

    fn rotate(&self, name: &str, secret: &str) -> Result<String, String> {
        let pair = match self.user(name)? {
            Some(pair) => pair,
            None if name == SINGLE_USER && self.users()?.is_none() => {
                self.lone_secret().map(|(pair, _)| pair).ok_or_else(|| nobody(name))?
            }
            None => return Err(nobody(name)),
        };
        let mut out = self.text.to_owned();
        out.replace_range(pair.value, &format!("\"{secret}\""));
        Ok(out)
    }

    fn disable(&self, name: &str) -> Result<String, String> {
        let is_lone =
            name == SINGLE_USER && self.users()?.is_none() && self.lone_secret().is_some();
        if self.user(name)?.is_none() && !is_lone {
            return Err(nobody(name));
        }
        if self.is_disabled(name) {
            return Err(format!("{} is disabled already", printable_name(name)));
        }
        let entry = quoted_always(name);
        let Some((_, item)) = self.find_top("disabled-users") else {
            return Ok(self.insert_top(&format!("disabled-users = [{entry}]")));
        };
        let (Some(Value::Array(list)), Some(span)) = (item.as_value(), item.span()) else {
            return Err("disabled-users: must be a list of texts in quotes".to_owned());
        };
        let mut out = self.text.to_owned();
        match list.iter().last().and_then(Value::span) {
            Some(last) => out.insert_str(last.end, &format!(", {entry}")),
            None => out.replace_range(span, &format!("[{entry}]")),
        }
        Ok(out)
    }

    fn enable(&self, name: &str) -> Result<String, String> {
        let Some((_, Item::Value(Value::Array(list)))) = self.find_top("disabled-users") else {
            return Err(format!("{} is not disabled", printable_name(name)));
        };
        let spans: Vec<(bool, Range<usize>)> =
            list.iter().filter_map(|one| Some((one.as_str() == Some(name), one.span()?))).collect();
        let Some(at) = spans.iter().position(|(is_it, _)| *is_it) else {
            return Err(format!("{} is not disabled", printable_name(name)));
        };
        // With the comma before it, or, for the first one, with the one behind it.
        let mut gone = spans[at].1.clone();
        if let Some((_, before)) = at.checked_sub(1).and_then(|before| spans.get(before)) {
            gone.start = before.end;
        } else if let Some((_, next)) = spans.get(at + 1) {
            gone.end = next.start;
        }
        let mut out = self.text.to_owned();
        out.replace_range(gone, "");
        Ok(out)
    }

    fn is_disabled(&self, name: &str) -> bool {
        let found = self.find_top("disabled-users").and_then(|(_, item)| item.as_array());
        found.is_some_and(|list| list.iter().any(|one| one.as_str() == Some(name)))
    }

    /// A key above all tables, in any case.
    fn find_top(&self, wanted: &str) -> Option<(&str, &Item)> {
        self.document.as_table().iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))
    }

    /// The table of the users and how it is spelled.
    fn users(&self) -> Result<Option<(&str, &Table)>, String> {
        match self.find_top("secrets") {
            None => Ok(None),
            Some((path, Item::Table(table))) => Ok(Some((path, table))),
            Some(_) => Err("secrets: write it as a [secrets] table, one line per user".to_owned()),
        }
    }

    /// Where a user stands.
    fn user(&self, name: &str) -> Result<Option<KeyValue>, String> {
        let Some((_, table)) = self.users()? else { return Ok(None) };
        Ok(table.get_key_value(name).and_then(|(key, item)| pair(key, item)))
    }

    /// The secret of a lone user, where nobody else is named.
    fn lone_secret(&self) -> Option<(KeyValue, String)> {
        let (name, item) = self.find_top("secret")?;
        let text = item.as_str()?.to_owned();
        let key = self.document.as_table().key(name)?;
        Some((pair(key, item)?, text))
    }

    /// Whether the users stand below a header of their own.
    fn has_header(&self) -> bool {
        matches!(self.users(), Ok(Some((_, table))) if !table.is_dotted())
    }

    /// Where the header of an empty table of users ends.
    fn header_of_users(&self) -> Option<usize> {
        let (_, table) = self.users().ok().flatten()?;
        table.span().filter(|_| self.has_header()).map(|span| span.start)
    }

    /// `\r\n` where the first line has it.
    fn line_end(&self) -> &'static str {
        let first = self.text.find('\n').and_then(|at| at.checked_sub(1));
        match first.and_then(|at| self.text.as_bytes().get(at)) {
            Some(b'\r') => "\r\n",
            _ => "\n",
        }
    }

    /// The lines on which a pair stands, with their ends.
    fn line_of(&self, pair: &KeyValue) -> Range<usize> {
        let start = self.text[..pair.key.start].rfind('\n').map_or(0, |at| at + 1);
        start..self.end_of_line(pair.value.end)
    }

    fn end_of_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |length| at + length + 1)
    }

    /// Puts lines behind the line on which `at` stands.
    fn insert_behind(&self, at: usize, lines: &str) -> String {
        let end = self.end_of_line(at);
        let (before, behind) = self.text.split_at(end);
        let gap = if before.is_empty() || before.ends_with('\n') { "" } else { self.line_end() };
        format!("{before}{gap}{lines}{}{behind}", self.line_end())
    }

    /// Puts a line behind the last key above all tables; a config that loads has one.
    fn insert_top(&self, line: &str) -> String {
        let table = self.document.as_table();
        let plain = table.iter().filter(|(_, item)| item.is_value());
        let ends = plain.filter_map(|(_, item)| item.span().map(|span| span.end));
        match ends.max() {
            Some(end) => self.insert_behind(end, line),
            None => format!("{line}{}{}", self.line_end(), self.text),
        }
    }
}

fn pairs(table: &Table) -> impl Iterator<Item = KeyValue> + '_ {
    let mut found: Vec<KeyValue> = table
        .iter()
        .filter_map(|(name, item)| table.key(name).and_then(|key| pair(key, item)))
        .collect();
    found.sort_by_key(|pair| pair.value.end);
    found.into_iter()
}

fn pair(key: &toml_edit::Key, item: &Item) -> Option<KeyValue> {
    Some(KeyValue { key: key.span()?, value: item.span()? })
}

/// May a new user be called so?
pub fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// A name as a key: bare where TOML allows it.
pub fn quoted(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_bare = !name.is_empty() && name.bytes().all(is_bare);
    if is_bare { name.to_owned() } else { quoted_always(name) }
}

/// A basic string; control characters, which a file may have put into a name, are escaped.
pub fn quoted_always(name: &str) -> String {
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

fn nobody(name: &str) -> String {
    format!("no user is called {}", printable_name(name))
}

/// What still fits on a line of a log.
const NAME_MAX: usize = 64;

#[cfg(test)]
mod tests;
