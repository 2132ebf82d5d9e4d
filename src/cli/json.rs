//! JSON for people: fields in the order they were put, two blanks of indentation, nothing escaped
//! that need not be (RFC 8259 7).

/// A value.
#[derive(Debug)]
pub enum Json {
    /// A string.
    Text(String),
    /// A number.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A string.
    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// An object with fields whose names are known.
    pub fn object<const N: usize>(fields: [(&str, Json); N]) -> Self {
        Self::Object(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// The whole text, with a line end.
    pub fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 1);
        out.push('\n');
        out
    }

    /// Writes the value; its parts stand at `depth`.
    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Text(text) => out.push_str(&miniserde::json::to_string(text)),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Self::List(values) => {
                let parts = values.iter().map(|value| (None, value));
                write_parts(out, depth, ('[', ']'), parts);
            }
            Self::Object(fields) => {
                let parts = fields.iter().map(|(name, value)| (Some(name), value));
                write_parts(out, depth, ('{', '}'), parts);
            }
        }
    }
}

fn write_parts<'a>(
    out: &mut String,
    depth: usize,
    (open, close): (char, char),
    parts: impl ExactSizeIterator<Item = (Option<&'a String>, &'a Json)>,
) {
    out.push(open);
    let count = parts.len();
    for (index, (name, value)) in parts.enumerate() {
        indent(out, depth);
        if let Some(name) = name {
            out.push_str(&miniserde::json::to_string(name));
            out.push_str(": ");
        }
        value.write(out, depth + 1);
        if index + 1 < count {
            out.push(',');
        }
    }
    if count > 0 {
        indent(out, depth - 1);
    }
    out.push(close);
}

fn indent(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("  "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_and_text_is_not_escaped_for_html() {
        let json = Json::object([
            ("b", Json::text("<a&b> \"q\" \\ \u{1} ö")),
            ("a", Json::List(vec![Json::Number(1), Json::List(vec![])])),
            ("c", Json::object([])),
        ]);
        let want = r#"{
  "b": "<a&b> \"q\" \\ \u0001 ö",
  "a": [
    1,
    []
  ],
  "c": {}
}
"#;
        assert_eq!(json.print(), want);
    }
}
