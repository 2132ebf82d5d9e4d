//! Parser for `/etc/config` files with the grammar of libuci (`file.c`): commands `package`,
//! `config`, `option` and `list`, or their first letters, one per line or separated by `;`. Parts of
//! a word can be quoted; a backslash escapes the next character, or joins two lines; `#` starts a
//! comment, even inside a word. Where libuci has bugs (an indented continuation line, a `;` at the
//! end of a line), this parser accepts the intended meaning.

use std::str::Chars;

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UciSection {
    /// The type: the first word after `config`, of visible ASCII characters.
    pub kind: String,
    /// The name; empty for an anonymous section.
    pub name: String,
    /// The options, each name once.
    pub options: Vec<UciOption>,
}

/// An `option`, or all entries of a `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UciOption {
    /// The name: letters, digits and `_`.
    pub name: String,
    /// One value, or the entries of a list. The value of an `option` is not empty; a list entry can be.
    pub values: Vec<String>,
    /// Whether it was written as a `list`.
    pub is_list: bool,
}

/// A syntax error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, without values from the file.
    pub fault: &'static str,
}

/// Parses a file.
pub fn parse(text: &str) -> Result<Vec<UciSection>, SyntaxError> {
    let mut reader = UciReader { rest: text.chars(), line: 1 };
    let mut sections = Vec::new();
    let mut current = None;
    let mut commands = 0;
    while reader.skip_to_command() {
        let line = reader.line;
        commands += 1;
        let done = match commands {
            ..=COMMANDS_MAX => command(&mut reader, &mut sections, &mut current),
            _ => Err("too many entries for a config"),
        };
        done.map_err(|fault| SyntaxError { line, fault })?;
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
        return Err("too many words; put a value with blanks in quotes");
    }
    let Some(first) = first else {
        return Err("incomplete command; add a name or a value");
    };
    match verb.as_str() {
        // The package is named by the file, as in libuci.
        "package" | "p" => Ok(()),
        "config" | "c" => {
            *current = Some(open(sections, first, second)?);
            Ok(())
        }
        "option" | "o" | "list" | "l" => {
            let section = current.and_then(|at| sections.get_mut(at));
            let section =
                section.ok_or("an option before the first config line; move it into a section")?;
            set(&mut section.options, first, second, verb.starts_with('l'))
        }
        _ => Err("unknown command; write config, option or list"),
    }
}

/// The index of the section with this name; adds a new section if there is none.
fn open(sections: &mut Vec<UciSection>, kind: String, name: String) -> Result<usize, &'static str> {
    if !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a section type can have visible ASCII characters only");
    }
    if !is_plain(&name) {
        return Err("a section name can have letters, digits and _ only");
    }
    let known = sections.iter().position(|one| !name.is_empty() && one.name == name);
    let at = known.unwrap_or(sections.len());
    match sections.get(at) {
        None => sections.push(UciSection { kind, name, options: Vec::new() }),
        Some(section) if section.kind == kind => {}
        Some(_) => return Err("a section of another type has this name; rename one"),
    }
    Ok(at)
}

fn set(
    options: &mut Vec<UciOption>,
    name: String,
    value: String,
    is_list: bool,
) -> Result<(), &'static str> {
    if !is_plain(&name) {
        return Err("an option name can have letters, digits and _ only");
    }
    let at = options.iter().position(|one| one.name == name);
    match at.and_then(|at| options.get_mut(at)) {
        Some(known) => {
            if !is_list {
                known.values.clear();
            }
            known.values.push(value);
            known.is_list = is_list;
        }
        None => options.push(UciOption { name, values: vec![value], is_list }),
    }
    // In libuci, an option with an empty value does not exist.
    options.retain(|one| one.is_list || one.values.iter().any(|value| !value.is_empty()));
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

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// Skips to the next command. Returns whether there is one.
    fn skip_to_command(&mut self) -> bool {
        loop {
            self.skip_blanks();
            match self.peek() {
                Some('\n' | ';') => _ = self.next(),
                other => return other.is_some(),
            }
        }
    }

    /// Skips blanks and comments, to a word or to the end of the command: `\n`, `;`, or the end of the
    /// text.
    fn skip_blanks(&mut self) {
        while let Some(next) = self.peek() {
            match next {
                '\n' => return,
                '#' => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.next();
                    }
                }
                '\\' if self.skip_line_join() => {}
                _ if is_blank(next) => _ = self.next(),
                _ => return,
            }
        }
    }

    /// Skips a backslash that joins two lines. Returns whether there was one.
    fn skip_line_join(&mut self) -> bool {
        let text = self.rest.as_str();
        let after = ["\\\n", "\\\r\n"].iter().find_map(|end| text.strip_prefix(end));
        let after = after.or((text == "\\").then_some(""));
        if let Some(after) = after {
            self.line += usize::from(text != "\\");
            self.rest = after.chars();
        }
        after.is_some()
    }

    /// The next word of the command; `None` at its end.
    fn word(&mut self) -> Result<Option<String>, &'static str> {
        self.skip_blanks();
        let mut word = String::new();
        let mut is_word = false;
        while let Some(next) = self.peek() {
            match next {
                '\n' | ';' | '#' => break,
                _ if is_blank(next) => break,
                '\\' if self.skip_line_join() => continue,
                '\'' | '"' => self.quoted(&mut word)?,
                _ => self.escaped(&mut word)?,
            }
            is_word = true;
        }
        Ok(is_word.then_some(word))
    }

    fn quoted(&mut self, word: &mut String) -> Result<(), &'static str> {
        let quote = self.next();
        loop {
            match self.peek() {
                None => return Err("a quote is opened and never closed"),
                end if end == quote => {
                    self.next();
                    return Ok(());
                }
                Some('\\') if quote == Some('"') => {
                    if !self.skip_line_join() {
                        self.escaped(word)?;
                    }
                }
                Some(next) => {
                    self.next();
                    word.push(not_zero(next)?);
                }
            }
        }
    }

    /// Appends one character, which may be escaped with a backslash.
    fn escaped(&mut self, word: &mut String) -> Result<(), &'static str> {
        if self.peek() == Some('\\') {
            self.next();
        }
        if let Some(next) = self.next() {
            word.push(not_zero(next)?);
        }
        Ok(())
    }
}

fn not_zero(next: char) -> Result<char, &'static str> {
    if next == '\0' { Err("a zero byte; this is not a config file") } else { Ok(next) }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}

/// Most commands of a file. A config with a thousand users has about half as many.
const COMMANDS_MAX: usize = 8192;

#[cfg(test)]
mod tests;
