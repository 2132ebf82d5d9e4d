//! Suggestions for unknown keys: similar names, and the table where a known name belongs.

use crate::config::key::Key;
use crate::config::keys::KEYS;

/// The instruction to move a key to the table where it belongs; `None` if no key has this name.
/// `name` is in lower case, without a table.
pub fn move_hint(name: &str) -> Option<String> {
    let has_name = |key: &&Key| key.split().1 == name && key.instead.is_none();
    let mut tables: Vec<&str> = KEYS.iter().filter(has_name).map(|key| key.split().0).collect();
    tables.truncate(TABLES_MAX);
    match *tables {
        [] => None,
        ["", ..] => Some("it is a global key: move it above the first [table]".to_string()),
        _ => {
            let headers: Vec<String> = tables.iter().map(|table| format!("[{table}]")).collect();
            Some(format!("move it below {}", headers.join(" or ")))
        }
    }
}

/// The full path of the table whose last part is `name`, in lower case.
pub fn find_table(name: &str) -> Option<&'static str> {
    let tables = KEYS.iter().map(|key| if key.is_whole_table() { key.path } else { key.split().0 });
    tables.filter(|table| !table.is_empty()).find(|table| table.rsplit('.').next() == Some(name))
}

/// The names that a table (empty = the top level) can contain: keys and inner tables.
pub fn names_in(table: &str) -> Vec<&'static str> {
    let rest = |key: &Key| match table {
        "" => Some(key.path),
        _ => key.path.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')),
    };
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter(|key| key.instead.is_none())
        .filter_map(rest)
        .filter_map(|rest| rest.split('.').next())
        .collect();
    names.dedup();
    names
}

/// The candidate that `word` is most likely a misspelling of: at most a third of its letters differ,
/// and at most three. The first of several with the same distance wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(word, &mut candidates.into_iter())
}

/// Not generic, so that it is compiled once for all kinds of iterators.
fn nearest_of<'a>(word: &str, candidates: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let bound = (candidate.chars().count() / 3).clamp(1, DISTANCE_MAX);
        if let Some(distance) = distance(word, candidate)
            && distance <= bound
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The number of letters to insert, delete, replace, or swap with their neighbour (optimal string
/// alignment distance). `None` if the lengths differ too much.
fn distance(from: &str, to: &str) -> Option<usize> {
    let from: Vec<char> = from.chars().take(WORD_MAX).collect();
    let to: Vec<char> = to.chars().collect();
    if from.len().abs_diff(to.len()) > DISTANCE_MAX {
        return None;
    }
    // The algorithm needs the last two rows of its matrix only.
    let mut older_row: Vec<usize> = Vec::new();
    let mut last_row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut least = last_row[j] + usize::from(a != b);
            least = least.min(last_row[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(older_row[j - 1] + 1);
            }
            row.push(least);
        }
        older_row = std::mem::replace(&mut last_row, row);
    }
    last_row.last().copied()
}

/// Most tables that a hint names.
const TABLES_MAX: usize = 4;
/// Most letters that may differ.
const DISTANCE_MAX: usize = 3;
/// Letters of a word that are compared: more than any known word has, plus [`DISTANCE_MAX`].
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_found_and_other_words_are_not() {
        let words = ["bind-to", "api-bind-to", "debug", "dns", "concurrency"];
        for (word, want) in [
            ("bind_to", Some("bind-to")),
            ("bindto", Some("bind-to")),
            ("dbeug", Some("debug")),
            ("concurency", Some("concurrency")),
            ("dsn", Some("dns")),
            ("nds", Some("dns")),
            ("tls", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), want, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), words), None);
    }

    #[test]
    fn a_swap_counts_as_one_step() {
        assert_eq!(distance("ab", "ba"), Some(1));
        assert_eq!(distance("kitten", "sitting"), Some(3));
        assert_eq!(distance("", "abc"), Some(3));
        assert_eq!(distance("", "abcd"), None);
    }
}
