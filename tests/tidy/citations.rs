//! Every citation resolves: `PROTOCOL 4.2`, `COMPATIBILITY 3.1` and `DECISIONS D4` name an id of a
//! document in `docs/`, and a path in a comment names a file of the repository.

use std::collections::BTreeSet;

use crate::source::{Source, line_of, words};

/// The documents that are cited by name, all in `docs/`.
pub const DOCUMENTS: [&str; 3] = ["PROTOCOL", "COMPATIBILITY", "DECISIONS"];

/// What may stand between two ids of one citation, with one space for any white space.
const JOINTS: [&str; 4] = [", and ", ", ", " and ", " to "];

/// Citations of notes that are not part of the repository.
const OUTSIDE: [&str; 4] = ["spec:", "Spec:", "gotcha", "gotchas"];

/// What can be cited.
#[derive(Default)]
pub struct Library {
    ids: BTreeSet<(&'static str, String)>,
    files: BTreeSet<String>,
}

impl Library {
    /// `files` are paths below the root of the repository.
    pub fn new(files: impl IntoIterator<Item = String>) -> Self {
        Self { ids: BTreeSet::new(), files: files.into_iter().collect() }
    }

    /// Adds the ids of a document: numbers of headings (`## 4.2 Title`), and letter ids of table
    /// rows (`| A1 | …`) and of list entries (`* **D4 Title.** …`).
    pub fn add(&mut self, document: &'static str, text: &str) {
        for line in text.lines() {
            let heading =
                line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim_start());
            let row = line.strip_prefix("| ");
            let entry = line.strip_prefix("* **");
            let Some(rest) = heading.or(row).or(entry) else { continue };
            if let Some(length) = id_length(rest) {
                self.ids.insert((document, rest[..length].to_owned()));
            }
        }
    }

    /// The citations of one text that do not resolve.
    pub fn unresolved(&self, name: &str, text: &str) -> Vec<String> {
        let text =
            if name.ends_with(".rs") { Source::new(name, text).comments } else { text.into() };
        let text = without_marks(&text);
        let mut found = self.unknown_ids(&text);
        let outside = OUTSIDE.iter().flat_map(|word| words(&text, word).map(move |at| (at, *word)));
        found.extend(outside.map(|(at, word)| (at, format!("`{word}`: cite a document of docs/"))));
        found.extend(self.unknown_paths(name, &text));
        found.sort();
        found
            .into_iter()
            .map(|(at, what)| format!("{name}:{}: {what}", line_of(&text, at)))
            .collect()
    }

    fn unknown_ids(&self, text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for document in DOCUMENTS {
            for at in words(text, document) {
                let mut rest = &text[at + document.len()..];
                let mut joints: &[&str] = &[" "];
                while let Some(after) = joints.iter().find_map(|joint| strip_joint(rest, joint))
                    && let Some(length) = id_length(after)
                {
                    let id = &after[..length];
                    if !self.ids.contains(&(document, id.to_owned())) {
                        found.push((at, format!("{document} has no {id}")));
                    }
                    (rest, joints) = (&after[length..], &JOINTS);
                }
            }
        }
        found
    }

    /// In Rust a bare `name.rs` is a file beside the one that names it, below it or above it.
    /// A document may name files of other projects, so only its paths are checked.
    fn unknown_paths(&self, name: &str, text: &str) -> Vec<(usize, String)> {
        let in_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let mut found = Vec::new();
        let mut at = 0;
        for run in text.split(|c| !in_path(c)) {
            let path = run.trim_end_matches(['.', '-']);
            let is_file = path.ends_with(".rs") || path.ends_with(".md");
            let is_plain = path.starts_with(|c: char| c.is_ascii_alphanumeric());
            let is_cited = match name.rsplit_once('.') {
                Some((_, "rs")) => true,
                Some((_, "md")) => path.contains('/'),
                _ => false,
            };
            if is_file && is_plain && is_cited && !self.has_file(name, path) {
                found.push((at, format!("there is no file `{path}`")));
            }
            at += run.len();
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
        found
    }

    fn has_file(&self, from: &str, path: &str) -> bool {
        if path.contains('/') || path.ends_with(".md") {
            let below = format!("/{path}");
            return self.files.iter().any(|file| file == path || file.ends_with(&below));
        }
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        let above = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own = from.trim_end_matches(".rs");
        [folder, above, own].iter().any(|folder| self.files.contains(&format!("{folder}/{path}")))
    }
}

/// The text with comment marks at the beginning of lines replaced by spaces, so that a sentence
/// can be read over the end of a line. Offsets stay.
fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let indented = line.trim_start_matches(|c: char| c.is_whitespace() && c != '\n');
        let body = indented.trim_start_matches(['/', '!', '#']);
        out.extend(std::iter::repeat_n(' ', line.len() - body.len()));
        out.push_str(body);
    }
    out
}

/// What follows `joint`; a space in it is any white space.
fn strip_joint<'a>(text: &'a str, joint: &str) -> Option<&'a str> {
    let mut rest = text;
    for c in joint.chars() {
        rest = match c {
            ' ' => Some(rest.trim_start()).filter(|trimmed| trimmed.len() < rest.len())?,
            c => rest.strip_prefix(c)?,
        };
    }
    Some(rest)
}

/// The length of the id at the beginning of a text: `4`, `4.2`, `D13`.
fn id_length(text: &str) -> Option<usize> {
    let letter = usize::from(text.starts_with(|c: char| c.is_ascii_uppercase()));
    let number = text[letter..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let id = text[..text.len() - number.len()].trim_end_matches('.');
    let is_id = id.ends_with(|c: char| c.is_ascii_digit()) && !(letter == 1 && id.contains('.'));
    let is_whole = !number.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (is_id && is_whole).then_some(id.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Library {
        let files = [
            "docs/PROTOCOL.md",
            "docs/DECISIONS.md",
            "src/daemon/mod.rs",
            "src/daemon/session/relay.rs",
            "src/daemon/session/dial/via_proxy.rs",
        ];
        let mut library = Library::new(files.map(str::to_owned));
        library.add("PROTOCOL", "# Protocol\n## 4. The answer\n### 4.2 Key shares\n");
        library
            .add("COMPATIBILITY", "## 3 Names\n| id | x |\n|---|---|\n| A1 | y |\n| B12 | z |\n");
        library.add("DECISIONS", "* **D4 Defaults.** Text.\n* **D6 Keys.** Text\n");
        library
    }

    #[test]
    fn a_citation_that_does_not_resolve_is_refused() {
        for (text, what) in [
            ("// (PROTOCOL 4.3)", "PROTOCOL has no 4.3"),
            ("/// See PROTOCOL\n/// 5.", "PROTOCOL has no 5"),
            ("// PROTOCOL 4.2, 4 and 9", "PROTOCOL has no 9"),
            ("// COMPATIBILITY A1, B12, and B2", "COMPATIBILITY has no B2"),
            ("// DECISIONS D4 to D7; PROTOCOL 4", "DECISIONS has no D7"),
            ("// DECISIONS 4", "DECISIONS has no 4"),
            ("// 1 (spec: protocol 4.2)", "`spec:`: cite a document of docs/"),
            ("// gotcha A1", "`gotcha`: cite a document of docs/"),
            ("// `relay.rs` forwards", "there is no file `relay.rs`"),
            ("//! See docs/GLOSSARY.md.", "there is no file `docs/GLOSSARY.md`"),
            ("// session/relays.rs", "there is no file `session/relays.rs`"),
        ] {
            let found = library().unresolved("src/daemon/mod.rs", text);
            assert_eq!(found, [format!("src/daemon/mod.rs:1: {what}")], "{text}");
        }
        let later = "fn f() {\n\n    g(); // PROTOCOL 9\n}\n";
        assert_eq!(library().unresolved("src/a.rs", later), ["src/a.rs:3: PROTOCOL has no 9"]);
        let found = library().unresolved("docs/A.md", "x\nsee PROTOCOL 7 and `src/x.rs`, `y.rs`");
        let expected =
            ["docs/A.md:2: PROTOCOL has no 7", "docs/A.md:2: there is no file `src/x.rs`"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_citation_that_resolves_is_allowed() {
        for text in [
            "// (PROTOCOL 4.2; RFC 8446 4.1.2)",
            "//! PROTOCOL 4 and 4.2. COMPATIBILITY 3, A1,\n//! B12; DECISIONS D4 to D6",
            "// DECISIONS.md, PROTOCOL and the PROTOCOL 4th",
            "// `session/relay.rs`, docs/PROTOCOL.md. `relay.rs` `mod.rs`",
            "// https://docs.rs/x.rs and tests/*.rs",
            "let x = \"gotcha PROTOCOL 9\";",
        ] {
            let found = library().unresolved("src/daemon/session/dial.rs", text);
            assert_eq!(found, [""; 0], "{text}");
        }
        for name in ["src/daemon/session/dial.rs", "src/daemon/session/dial/x.rs"] {
            assert_eq!(library().unresolved(name, "// `via_proxy.rs`, `relay.rs`"), [""; 0]);
        }
    }
}
