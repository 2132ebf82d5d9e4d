//! The grammar of `/etc/config` files as libuci reads it (`file.c`): commands `package`, `config`,
//! `option` and `list`, or their first letters, one to a line or with `;` between them. Words may
//! be quoted in parts; a backslash takes the next character as it is, or joins lines; `#` begins a
//! comment, also within a word. Where libuci stumbles over its own buffer (a continuation line that
//! is indented, a `;` at the end of a line), what was meant is read.

use std::str::Chars;

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UciSection {
    /// Its type, the first word behind `config`: visible ASCII characters.
    pub kind: String,
    /// Its name; empty = it has none.
    pub name: String,
    /// What it sets, each name once.
    pub settings: Vec<UciOption>,
}

/// An `option`, or all of a `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UciOption {
    /// Letters, digits and `_`.
    pub name: String,
    /// One, or those of a list; an `option` is never empty, an entry of a list may be.
    pub values: Vec<String>,
    /// It was written as a `list`.
    pub is_list: bool,
}

/// Reads a file.
///
/// # Errors
/// The line, counted from 1, and what is wrong there, without any value.
pub fn parse(text: &str) -> Result<Vec<UciSection>, (usize, &'static str)> {
    let mut reader = UciReader { rest: text.chars(), line: 1 };
    let mut sections = Vec::new();
    let mut current = None;
    let mut entries = 0;
    while reader.next_command() {
        let line = reader.line;
        entries += 1;
        let done = match entries {
            ..=MOST_ENTRIES => command(&mut reader, &mut sections, &mut current),
            _ => Err("more entries than any config has"),
        };
        done.map_err(|fault| (line, fault))?;
    }
    Ok(sections)
}

fn command(
    reader: &mut UciReader<'_>,
    sections: &mut Vec<UciSection>,
    current: &mut Option<usize>,
) -> Result<(), &'static str> {
    let verb = reader.word()?.unwrap_or_default();
    let first = reader.word()?.filter(|word| !word.is_empty());
    let second = reader.word()?.unwrap_or_default();
    if reader.word()?.is_some_and(|word| !word.is_empty()) {
        return Err("too many words; put values with blanks in quotes");
    }
    let Some(first) = first else {
        return Err("something is missing behind the first word");
    };
    match verb.as_str() {
        // The name of the file is that of the package, whatever stands here.
        "package" | "p" => Ok(()),
        "config" | "c" => {
            *current = Some(open(sections, first, second)?);
            Ok(())
        }
        "option" | "o" | "list" | "l" => {
            let section = current.and_then(|at| sections.get_mut(at));
            let section = section.ok_or("stands before the first config line")?;
            set(&mut section.settings, first, second, verb.starts_with('l'))
        }
        _ => Err("unknown command; write config, option or list"),
    }
}

/// Opens a section: a new one, or the one that has the name already.
fn open(sections: &mut Vec<UciSection>, kind: String, name: String) -> Result<usize, &'static str> {
    if !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("types of sections have visible ASCII characters only");
    }
    if !is_plain(&name) {
        return Err("names of sections have letters, digits and _ only");
    }
    let known = sections.iter().position(|one| !name.is_empty() && one.name == name);
    let at = known.unwrap_or(sections.len());
    match sections.get(at) {
        None => sections.push(UciSection { kind, name, settings: Vec::new() }),
        Some(section) if section.kind == kind => {}
        Some(_) => return Err("a section of another type has this name already"),
    }
    Ok(at)
}

fn set(
    settings: &mut Vec<UciOption>,
    name: String,
    value: String,
    is_list: bool,
) -> Result<(), &'static str> {
    if !is_plain(&name) {
        return Err("names of options have letters, digits and _ only");
    }
    let at = settings.iter().position(|one| one.name == name);
    match at.and_then(|at| settings.get_mut(at)) {
        Some(known) => {
            if !is_list {
                known.values.clear();
            }
            known.values.push(value);
            known.is_list = is_list;
        }
        None => settings.push(UciOption { name, values: vec![value], is_list }),
    }
    // An option without a value is none.
    settings.retain(|one| one.is_list || one.values.iter().any(|value| !value.is_empty()));
    Ok(())
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

struct UciReader<'a> {
    rest: Chars<'a>,
    line: usize,
}

impl UciReader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn take(&mut self) -> Option<char> {
        let taken = self.rest.next();
        self.line += usize::from(taken == Some('\n'));
        taken
    }

    /// Goes to where the next command begins. `false` = there is none.
    fn next_command(&mut self) -> bool {
        loop {
            self.skip_blanks();
            match self.peek() {
                Some('\n' | ';') => _ = self.take(),
                other => return other.is_some(),
            }
        }
    }

    /// Skips to a word, or to the end of the command: `\n`, `;`, or the end of the text.
    fn skip_blanks(&mut self) {
        while let Some(next) = self.peek() {
            match next {
                '\n' => return,
                '#' => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.take();
                    }
                }
                '\\' if self.joins() => {}
                _ if is_blank(next) => _ = self.take(),
                _ => return,
            }
        }
    }

    /// Takes a backslash together with the line end behind it, if there is one.
    fn joins(&mut self) -> bool {
        let text = self.rest.as_str();
        let behind = ["\\\n", "\\\r\n"].iter().find_map(|end| text.strip_prefix(end));
        let behind = behind.or((text == "\\").then_some(""));
        if let Some(behind) = behind {
            self.line += usize::from(text != "\\");
            self.rest = behind.chars();
        }
        behind.is_some()
    }

    /// The next word of the command; `None` = there is none.
    fn word(&mut self) -> Result<Option<String>, &'static str> {
        self.skip_blanks();
        let mut word = String::new();
        let mut is_word = false;
        while let Some(next) = self.peek() {
            match next {
                '\n' | ';' | '#' => break,
                _ if is_blank(next) => break,
                '\\' if self.joins() => continue,
                '\'' | '"' => self.quoted(&mut word)?,
                _ => self.one(&mut word)?,
            }
            is_word = true;
        }
        Ok(is_word.then_some(word))
    }

    fn quoted(&mut self, word: &mut String) -> Result<(), &'static str> {
        let quote = self.take();
        loop {
            match self.peek() {
                None => return Err("a quote is opened here and never closed"),
                end if end == quote => {
                    self.take();
                    return Ok(());
                }
                Some('\\') if quote == Some('"') => {
                    if !self.joins() {
                        self.one(word)?;
                    }
                }
                Some(next) => {
                    self.take();
                    word.push(sound(next)?);
                }
            }
        }
    }

    /// Takes one character, which may stand behind a backslash.
    fn one(&mut self, word: &mut String) -> Result<(), &'static str> {
        if self.peek() == Some('\\') {
            self.take();
        }
        if let Some(next) = self.take() {
            word.push(sound(next)?);
        }
        Ok(())
    }
}

fn sound(next: char) -> Result<char, &'static str> {
    if next == '\0' { Err("a zero byte; this is no config") } else { Ok(next) }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}

/// Sections and values together. Who has a thousand users has half of it.
const MOST_ENTRIES: usize = 8192;

#[cfg(test)]
mod tests;
