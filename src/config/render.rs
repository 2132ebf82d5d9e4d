//! The table of keys as text for people: `example.config.toml`, and the list in the README.

use crate::config::key::Key;
use crate::config::keys::KEYS;

/// The text of `example.config.toml`. Every line that is not a header is a comment; without its
/// `#`, a key says what holds anyway, or shows a sample where nothing does.
pub fn example() -> String {
    let mut out = String::from(HEAD);
    let mut table = "";
    for key in KEYS.iter().filter(|key| key.instead.is_none()) {
        let (parent, name) = key.split();
        let header = if key.is_whole_table() { key.path } else { parent };
        if header != table {
            out.push_str(&format!("\n[{header}]\n"));
            table = header;
        }
        out.push('\n');
        comment(&mut out, &format!("{}{}", key.doc.replace('`', ""), remarks(key)));
        match key.is_whole_table() {
            true => out.push_str(&format!("#{}\n", key.value)),
            false => out.push_str(&format!("#{name} = {}\n", key.value)),
        }
    }
    out
}

/// The list of keys in Markdown, old names included, for the README.
pub fn markdown() -> String {
    let mut out = String::from("| key | value | default | what it does |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = match key.is_unset {
            true => "none".to_string(),
            false => format!("`{}`", key.value),
        };
        let old = |instead| format!(" Old name: {instead}.");
        let remark = key.instead.map(old).unwrap_or_default();
        let Key { path, kind, doc, .. } = key;
        out.push_str(&format!("| `{path}` | {} | {default} | {doc}{remark} |\n", kind.name()));
    }
    out
}

fn remarks(key: &Key) -> &'static str {
    let is_sample = key.is_unset && !key.is_whole_table();
    if is_sample { " No default; for example:" } else { "" }
}

/// Breaks lines between words, so that none is longer than 100 columns.
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
# Every setting of mtbox, with its default.
#
# bind-to and one user are required, everything else may be left out. To set a key, remove the #
# before its name. Keys that belong to no [table] stand above the first one: TOML gives everything
# below a header to that table.
#
# `mtbox check FILE` tells what is wrong with a file and where.
";
const COLUMNS: usize = 100;
