//! Parser of a log line: `event=NAME key=value key="quoted value"`, then free text. Accepts every
//! line; what is not a field is text.

/// The parts of a log line.
#[derive(Debug, PartialEq, Eq)]
pub struct LineParts<'a> {
    /// Keys and values, in the order of the line.
    pub fields: Vec<(&'a str, Value<'a>)>,
    /// The text after the last field.
    pub text: &'a str,
}

/// The value of a field.
#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A value without quotes.
    Bare(&'a str),
    /// A quoted value, without its quotes and escapes.
    Quoted(String),
}

impl Value<'_> {
    /// The value's text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bare(text) => text,
            Self::Quoted(text) => text,
        }
    }
}

/// Splits a line into its fields and the text after them.
pub fn split(line: &str) -> LineParts<'_> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while let Some((key, value)) = key(rest) {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = unquote(quoted);
                (Value::Quoted(value), after)
            }
            None => {
                let end = value.find(' ').unwrap_or(value.len());
                let (value, after) = value.split_at(end);
                (Value::Bare(value), after)
            }
        };
        fields.push((key, value));
        rest = after.trim_start();
    }
    LineParts { fields, text: rest.trim_end() }
}

/// The key at the start of `text`, and the text after its `=`.
fn key(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let is_key = key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(is_word);
    is_key.then_some((key, value))
}

/// Reverts the `{:?}` format up to the closing quote or the end; returns the value and the text
/// after the quote.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some('0') => value.push('\0'),
                Some('u') => {
                    let after = chars.as_str();
                    let code = after.strip_prefix('{').and_then(|code| code.split_once('}'));
                    let c = code.and_then(|(hex, _)| u32::from_str_radix(hex, 16).ok());
                    match c.and_then(char::from_u32) {
                        Some(c) => {
                            value.push(c);
                            chars.find(|(_, c)| *c == '}');
                        }
                        None => value.push_str("\\u"),
                    }
                }
                Some(c @ ('"' | '\\' | '\'')) => value.push(c),
                // `{:?}` of a path writes a byte that is not UTF-8 as `\xNN`; keep it.
                Some(c) => value.extend(['\\', c]),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare<'a>(key: &'a str, value: &'a str) -> (&'a str, Value<'a>) {
        (key, Value::Bare(value))
    }

    #[test]
    fn fields_are_split_from_the_free_text_after_them() {
        let parts = split("event=config  user=\"al ice\" dc=2 /etc/a.toml:3:1: x = \"y\" b=c ");
        let user = ("user", Value::Quoted("al ice".to_owned()));
        assert_eq!(parts.fields, [bare("event", "config"), user, bare("dc", "2")]);
        assert_eq!(parts.text, "/etc/a.toml:3:1: x = \"y\" b=c");
        for text in ["", "  ", "words alone", "=x", "Key=x", "/etc/a=b.toml:1: no", "é=1"] {
            let parts = split(text);
            assert_eq!((parts.fields.len(), parts.text), (0, text.trim()), "{text:?}");
        }
        assert_eq!(split("a=").fields, [bare("a", "")]);
    }

    #[test]
    fn a_quoted_value_is_restored() {
        let hostile = [
            "a\" error=\"x",
            "\\",
            "\\\"",
            "line\nfeed\r\0\t\u{1b}[31m",
            "ü\u{202e}\u{10ffff}'",
            "}{u{1}\\u{41}",
            "",
        ];
        for text in hostile {
            let line = format!("event=x user={text:?} dc=2");
            let parts = split(&line);
            let user = ("user", Value::Quoted(text.to_owned()));
            assert_eq!(parts.fields, [bare("event", "x"), user, bare("dc", "2")], "{line}");
            assert_eq!(parts.text, "");
            // A cut line must be accepted too.
            for end in (0..line.len()).filter(|end| line.is_char_boundary(*end)) {
                split(&line[..end]);
            }
        }
    }

    #[test]
    fn unknown_escapes_are_kept() {
        for (quoted, value) in
            [("\\xff", "\\xff"), ("\\u{110000}", "\\u{110000}"), ("\\uzz", "\\uzz"), ("\\", "\\")]
        {
            assert_eq!(unquote(quoted), (value.to_owned(), ""), "{quoted}");
        }
    }
}
