//! Readable JSON: fields keep their order, two spaces of indentation, and only what RFC 8259 7
//! requires is escaped.

/// A JSON value.
#[derive(Debug)]
pub(super) enum Json {
    Text(String),
    Number(u64),
    Bool(bool),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn object<const N: usize>(fields: [(&str, Json); N]) -> Self {
        Self::Object(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// The whole document, with a final newline.
    pub(super) fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 1);
        out.push('\n');
        out
    }

    /// Writes the value. The indentation of its elements is `depth` levels.
    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Text(text) => out.push_str(&miniserde::json::to_string(text)),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(values) => {
                let elements = values.iter().map(|value| (None, value));
                write_elements(out, depth, ('[', ']'), elements);
            }
            Self::Object(fields) => {
                let elements = fields.iter().map(|(name, value)| (Some(name), value));
                write_elements(out, depth, ('{', '}'), elements);
            }
        }
    }
}

fn write_elements<'a>(
    out: &mut String,
    depth: usize,
    (open, close): (char, char),
    elements: impl ExactSizeIterator<Item = (Option<&'a String>, &'a Json)>,
) {
    out.push(open);
    let count = elements.len();
    for (index, (name, value)) in elements.enumerate() {
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
