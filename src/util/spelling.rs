//! Finds the word that a misspelt one was meant to be.

/// The candidate that `word` is most likely a misspelling of: at most a third of its letters
/// differ, and at most three. The first of several with the same distance wins.
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
