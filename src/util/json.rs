//! Writer of JSON: fields keep their order, and only what RFC 8259 7 requires is escaped.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// A JSON value. `{}` prints it in one line, `{:#}` with two spaces of indentation.
#[derive(Debug)]
pub enum Json<'a> {
    /// `null`, a boolean or a number, as it is written.
    Bare(Cow<'a, str>),
    /// A number.
    Number(u64),
    /// A string, not escaped.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Fields<'a>),
}

/// The names and values of an object.
pub type Fields<'a> = Vec<(&'a str, Json<'a>)>;

impl<'a> Json<'a> {
    /// A string from the text of any value.
    pub fn text(text: impl ToString) -> Self {
        Self::Text(Cow::Owned(text.to_string()))
    }

    /// Writes the value. The indentation of its elements is `depth` levels.
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Bare(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write_text(f, text),
            Self::List(values) => {
                write_elements(f, depth, ['[', ']'], &mut values.iter().map(|value| ("", value)))
            }
            Self::Object(fields) => {
                let mut fields = fields.iter().map(|(name, value)| (*name, value));
                write_elements(f, depth, ['{', '}'], &mut fields)
            }
        }
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 1)
    }
}

fn write_elements<'a>(
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    [open, close]: [char; 2],
    elements: &mut dyn Iterator<Item = (&'a str, &'a Json<'a>)>,
) -> fmt::Result {
    f.write_char(open)?;
    let mut is_empty = true;
    for (name, value) in elements {
        if !is_empty {
            f.write_char(',')?;
        }
        is_empty = false;
        indent(f, depth)?;
        if open == '{' {
            write_text(f, name)?;
            f.write_str(if f.alternate() { ": " } else { ":" })?;
        }
        value.write(f, depth + 1)?;
    }
    if !is_empty {
        indent(f, depth - 1)?;
    }
    f.write_char(close)
}

fn indent(f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    if f.alternate() { write!(f, "\n{:1$}", "", 2 * depth) } else { Ok(()) }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\u{8}' => f.write_str("\\b")?,
            '\t' => f.write_str("\\t")?,
            '\n' => f.write_str("\\n")?,
            '\u{c}' => f.write_str("\\f")?,
            '\r' => f.write_str("\\r")?,
            '\0'..' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<bool> for Json<'_> {
    fn from(value: bool) -> Self {
        Self::Bare(Cow::Borrowed(if value { "true" } else { "false" }))
    }
}

impl From<u32> for Json<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Json<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<'a, T: Into<Json<'a>>> From<Option<T>> for Json<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Bare(Cow::Borrowed("null")), T::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_and_text_is_not_escaped_for_html() {
        let json = Json::Object(vec![
            ("b", Json::text("<a&b> \"q\" \\ \u{1} ö")),
            ("a", Json::List(vec![Json::Number(1), Json::List(vec![])])),
            ("c", Json::Object(vec![])),
        ]);
        let want = r#"{
  "b": "<a&b> \"q\" \\ \u0001 ö",
  "a": [
    1,
    []
  ],
  "c": {}
}"#;
        assert_eq!(format!("{json:#}"), want);
        let want = r#"{"b":"<a&b> \"q\" \\ \u0001 ö","a":[1,[]],"c":{}}"#;
        assert_eq!(json.to_string(), want);
    }

    #[test]
    fn any_text_is_a_valid_string() {
        let text: String = ('\0'..'\u{a0}').collect();
        let name = text.clone() + "\u{2028}\u{10ffff}";
        let json = Json::Object(vec![(name.as_str(), text.as_str().into())]).to_string();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value[name], text);
    }
}
