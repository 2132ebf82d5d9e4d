//! `keys.json`: every key of the config file, one object per line, for programs that are not
//! written in Rust. The test of LuCI's form reads it.

use mtbox::config::key::Key;
use mtbox::config::keys::KEYS;
use mtbox::config::value::ValueKind;

/// The text of the file.
pub fn render() -> String {
    let rows: Vec<String> = KEYS.iter().map(row).collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

/// `default` is absent if there is none, `words` for all but choices, `least_ms` for all but
/// durations with a least value. The Debug text of a string
/// without control characters is JSON, and so is the TOML text of each default.
fn row(key: &Key) -> String {
    let Key { path, kind, instead, .. } = key;
    let mut row =
        format!("{{\"key\":{path:?},\"type\":{:?},\"list\":{}", kind.name(), kind.is_list());
    if let Some(default) = kind.default() {
        row.push_str(&format!(",\"default\":{default}"));
    }
    if let ValueKind::Choice(_, words) = kind {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        row.push_str(&format!(",\"words\":{words:?}"));
    }
    if let Some(least) = key.least() {
        row.push_str(&format!(",\"least_ms\":{}", least.as_millis()));
    }
    row + &format!(",\"old\":{}}}", instead.is_some())
}
