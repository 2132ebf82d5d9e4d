//! No retired word: `docs/GLOSSARY.md` lists words that this project has replaced. Names count:
//! `snake_case` and `CamelCase` are split into words.

use crate::source::line_of;

/// The head of the table in `docs/GLOSSARY.md`.
const HEAD: &str = "| retired | use |";

/// A retired word or phrase, in lower-case words, and what to write.
pub struct Retired {
    words: Vec<String>,
    instead: String,
}

/// The rows of the table; none when there is no table.
pub fn retired_words(glossary: &str) -> Vec<Retired> {
    let rows = glossary.lines().skip_while(|line| *line != HEAD).skip(2);
    rows.map_while(|line| {
        let (old, new) = line.strip_prefix('|')?.strip_suffix('|')?.split_once('|')?;
        let words = split(old).into_iter().map(|(_, word)| word).collect();
        Some(Retired { words, instead: new.trim().to_owned() })
    })
    .filter(|retired| !retired.words.is_empty())
    .collect()
}

/// Every place of `text` with a retired word.
pub fn retired(name: &str, text: &str, table: &[Retired]) -> Vec<String> {
    let words = split(text);
    let mut complaints = Vec::new();
    for start in 0..words.len() {
        for entry in table {
            let here = words[start..].iter().map(|(_, word)| word);
            if here.take(entry.words.len()).eq(&entry.words) {
                let line = line_of(text, words[start].0);
                let phrase = entry.words.join(" ");
                complaints.push(format!("{name}:{line}: `{phrase}`: use {}", entry.instead));
            }
        }
    }
    complaints
}

/// The words of a text in lower case, each with its offset.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut before = ' ';
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter.is_alphabetic() {
            let next_is_small = letters.peek().is_some_and(|(_, next)| next.is_lowercase());
            let is_hump = letter.is_uppercase()
                && (before.is_lowercase() || (before.is_uppercase() && next_is_small));
            if !before.is_alphabetic() || is_hump {
                words.push((at, String::new()));
            }
            if let Some((_, word)) = words.last_mut() {
                word.extend(letter.to_lowercase());
            }
        }
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOSSARY: &str = "# Glossary\n\n| term | meaning |\n|---|---|\n| pool | memory |\n\n\
        | retired | use |\n|---|---|\n| nobody | no user |\n| hop | SOCKS handshake |\n\
        | leaves with | exits with |\n\nMore about | pipes |\n";

    #[test]
    fn a_retired_word_is_refused_in_prose_and_in_names() {
        let table = retired_words(GLOSSARY);
        assert_eq!(table.len(), 3);
        for text in [
            "x\nNobody came.",
            "x\nfn nobody_came() {}",
            "x\nstruct NobodyCame;",
            "x\nconst NOBODY: u8;",
            "x\nlet xNobody2 = 1;",
        ] {
            assert_eq!(retired("a.rs", text, &table), ["a.rs:2: `nobody`: use no user"], "{text}");
        }
        assert_eq!(retired("a.rs", "SocksHop, HTTPHop", &table).len(), 2);
        let phrase = "it leaves\nwith 0";
        assert_eq!(retired("a.md", phrase, &table), ["a.md:1: `leaves with`: use exits with"]);
    }

    #[test]
    fn a_longer_word_is_another_word() {
        let table = retired_words(GLOSSARY);
        for text in ["hops", "workshop", "leaves, without", "a pool of memory", "nobodies"] {
            assert_eq!(retired("a.rs", text, &table), [""; 0], "{text}");
        }
        assert!(
            retired_words("# Glossary\n\n| term | meaning |\n|---|---|\n| a | b |\n").is_empty()
        );
    }
}
