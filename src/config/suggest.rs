//! What somebody may have meant by a word that is unknown where it stands.

use crate::config::keys::{KEYS, Key};

/// Where a key of this name (in lower case, without its table) belongs, as an instruction; `None`
/// when no key is called so.
pub fn move_hint(name: &str) -> Option<String> {
    let is_called_so = |key: &&Key| key.split().1 == name && key.instead.is_none();
    let mut tables: Vec<&str> = KEYS.iter().filter(is_called_so).map(|key| key.split().0).collect();
    tables.truncate(MOST_HOMES);
    match *tables {
        [] => None,
        ["", ..] => Some("it is a global key: move it above the first [table]".to_string()),
        _ => {
            let places: Vec<String> = tables.iter().map(|table| format!("[{table}]")).collect();
            Some(format!("move it below {}", places.join(" or ")))
        }
    }
}

/// The full path of the table whose last part is `name`, in lower case.
pub fn find_table(name: &str) -> Option<&'static str> {
    let tables = KEYS.iter().map(|key| if key.is_whole_table() { key.path } else { key.split().0 });
    tables.filter(|table| !table.is_empty()).find(|table| table.rsplit('.').next() == Some(name))
}

/// The names that may stand in a table (empty = above all tables): keys and further tables.
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

/// The candidate that a slip of the finger may have meant: at most a third of it differs, and no
/// more than three letters. The first of equals wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(word, &mut candidates.into_iter())
}

/// Compiled once, whatever the candidates come from.
fn nearest_of<'a>(word: &str, candidates: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let bound = (candidate.chars().count() / 3).clamp(1, MOST);
        if let Some(distance) = distance(word, candidate)
            && distance <= bound
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How many letters to insert, drop, change, or swap with their neighbour (optimal string
/// alignment). `None` when the lengths alone put the words too far apart.
fn distance(from: &str, to: &str) -> Option<usize> {
    let from: Vec<char> = from.chars().take(LONGEST).collect();
    let to: Vec<char> = to.chars().collect();
    if from.len().abs_diff(to.len()) > MOST {
        return None;
    }
    // Rows of the classic table, of which only the last two are ever looked at.
    let mut above_that: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut least = above[j] + usize::from(a != b);
            least = least.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(above_that[j - 1] + 1);
            }
            row.push(least);
        }
        above_that = std::mem::replace(&mut above, row);
    }
    above.last().copied()
}

const MOST_HOMES: usize = 4;
const MOST: usize = 3;
/// Longer than any word we know, plus [`MOST`].
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
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
