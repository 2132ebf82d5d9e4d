//! Renders the table of keys: `example.config.toml` and the lists in docs/CONFIGURATION.md.

use crate::config::key::Key;
use crate::config::keys::KEYS;

/// The text of `example.config.toml`. Every line is a header or a comment. Without its `#`, the
/// line of a key sets the default, or a sample value if the key has no default.
pub fn example() -> String {
    let mut out = String::from(HEAD);
    let mut table = "";
    for key in KEYS.iter().filter(|key| key.instead.is_none()) {
        if header(key) != table {
            table = header(key);
            out.push_str(&format!("\n[{table}]\n"));
        }
        out.push('\n');
        comment(&mut out, &format!("{}{}", key.text().replace('`', ""), remarks(key)));
        match key.is_whole_table() {
            true => out.push_str(&format!("#{}\n", key.value())),
            false => out.push_str(&format!("#{} = {}\n", key.split().1, key.value())),
        }
    }
    out
}

/// A Markdown section for each TOML table, with its keys, and one for old names.
pub fn markdown() -> String {
    let mut out = String::new();
    let mut table = None;
    for key in KEYS.iter().filter(|key| key.instead.is_none()) {
        if table != Some(header(key)) {
            match header(key) {
                "" => out.push_str("\n### Above all tables\n"),
                header => out.push_str(&format!("\n### `[{header}]`\n")),
            }
            out.push_str("\n| key | type | default | description |\n|---|---|---|---|\n");
            table = Some(header(key));
        }
        let default = match key.is_unset() {
            true => "none".to_string(),
            false => format!("`{}`", key.value()),
        };
        let Key { path, kind, .. } = key;
        let text = key.text();
        out.push_str(&format!("| `{path}` | {} | {default} | {text} |\n", kind.name()));
    }
    out.push_str("\n### Old names\n\n| key | instead |\n|---|---|\n");
    for key in KEYS {
        if let Some(instead) = key.instead {
            out.push_str(&format!("| `{}` | {instead} |\n", key.path));
        }
    }
    out.push('\n');
    out
}

/// The TOML table of the key; empty for a key above all tables.
fn header(key: &Key) -> &'static str {
    if key.is_whole_table() { key.path } else { key.split().0 }
}

fn remarks(key: &Key) -> &'static str {
    let is_sample = key.is_unset() && !key.is_whole_table();
    if is_sample { " For example:" } else { "" }
}

/// Appends the text as comment lines of at most [`COLUMNS`] characters.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

const HEAD: &str = "\
# Every key of mtbox with its default. Where no default exists, the value is an example.
#
# bind-to and one user are required; everything else is optional. To set a key, remove the # before
# its name. Keys without a [table] belong above the first header: TOML assigns every key to the
# header above it.
#
# `mtbox check FILE` reports the mistakes in a file, with line and column.
";
const COLUMNS: usize = 100;
