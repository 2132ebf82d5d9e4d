//! Rules of this repository that the compiler does not check. Each rule is a function over text in
//! `tests/tidy/`, proved there on a bad snippet. This file applies them to the tree.

#[path = "tidy/citations.rs"]
mod citations;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/retired.rs"]
mod retired;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tokens.rs"]
mod tokens;
#[path = "tidy/type_names.rs"]
mod type_names;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use citations::{DOCUMENTS, Library};
use source::Source;

/// Reports the complaints of every rule at once.
#[test]
fn the_sources_keep_the_rules() {
    let mut complaints = Vec::new();
    let sources = sources_below("src");
    for source in &sources {
        complaints.extend(rules::shape(source));
        complaints.extend(rules::layers(source));
        complaints.extend(rules::purity(source));
        complaints.extend(rules::panics(source));
        complaints.extend(rules::simulated(source));
        complaints.extend(rules::unsafety(source));
    }
    assert!(sources.len() > 2, "the walk found only {} files in src", sources.len());
    report(&complaints);
}

/// Tests, benchmarks and generators have the same shape and no `unsafe`.
#[test]
fn tests_and_benchmarks_keep_the_shape() {
    let mut complaints = Vec::new();
    for folder in ["tests", "benches", "packaging", "fuzz"] {
        for source in sources_below(folder) {
            complaints.extend(rules::shape(&source));
            complaints.extend(rules::unsafety(&source));
        }
    }
    report(&complaints);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut complaints = imports::circles("src/", &sources_below("src"));
    complaints.extend(imports::circles("benches/", &sources_below("benches")));
    report(&complaints);
}

#[test]
fn no_two_types_share_a_name() {
    report(&type_names::shared_names(&sources_below("src")));
}

/// The glossary and these rules name the words; history and test vectors are not rewritten.
#[test]
fn no_text_has_a_retired_word() {
    let glossary = fs::read_to_string(root().join("docs/GLOSSARY.md")).expect("the glossary");
    let table = retired::retired_words(&glossary);
    assert!(table.len() >= 20, "the glossary retires only {} words", table.len());
    let exempt = ["docs/GLOSSARY.md", "CHANGELOG.md", "Cargo.lock", "LICENSE"];
    let mut complaints = Vec::new();
    for (name, text) in tracked_texts() {
        let is_exempt = exempt.contains(&&*name)
            || name.starts_with("tests/tidy")
            || name.starts_with("tests/data/");
        if !is_exempt {
            complaints.extend(retired::retired(&name, &text, &table));
        }
    }
    report(&complaints);
}

#[test]
fn every_citation_resolves() {
    let texts = tracked_texts();
    let mut library = Library::new(texts.iter().map(|(name, _)| name.clone()));
    for document in DOCUMENTS {
        let path = format!("docs/{document}.md");
        let (_, text) = texts.iter().find(|(name, _)| *name == path).expect("the document");
        library.add(document, text);
    }
    let endings = [".rs", ".md", ".py", ".sh", ".toml", ".js", ".mjs"];
    let mut complaints = Vec::new();
    for (name, text) in &texts {
        let is_read = endings.iter().any(|ending| name.ends_with(ending));
        if is_read && !name.starts_with("tests/tidy") && name != "CHANGELOG.md" {
            complaints.extend(library.unresolved(name, text));
        }
    }
    report(&complaints);
}

#[test]
fn tracked_text_names_no_home_and_no_unfinished_work() {
    let tracked = tracked_texts();
    assert!(tracked.len() > 5, "only {} tracked files were found", tracked.len());
    let complaints: Vec<String> =
        tracked.iter().flat_map(|(name, text)| rules::leftovers(name, text)).collect();
    report(&complaints);
}

/// The table of defects names tests that exist.
#[test]
fn every_test_that_the_documents_name_exists() {
    let root = root();
    let text = fs::read_to_string(root.join("docs/TESTING.md")).expect("the table of tests");
    let rows = text.lines().filter(|line| line.starts_with("| A") || line.starts_with("| B"));
    assert!(rows.count() >= 18, "the table is missing");
    let files = files_below(&root.join("tests")).into_iter().chain(files_below(&root.join("src")));
    let code: String = files.map(|path| fs::read_to_string(path).expect("UTF-8")).collect();
    let named = text.lines().filter(|line| line.starts_with('|')).flat_map(|line| {
        let cell = line.rsplit('|').nth(1).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_'))
    });
    let missing: Vec<String> =
        named.filter(|name| !code.contains(&format!("fn {name}("))).map(str::to_owned).collect();
    report(&missing);
}

fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder of the repository.
fn sources_below(folder: &str) -> Vec<Source> {
    let root = root();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a Rust file is UTF-8");
        Source::new(&name_below(&root, path), &text)
    };
    files_below(&root.join(folder)).iter().map(read).collect()
}

/// Tracked files with their names. Binary files and files that are deleted but not yet committed
/// are left out.
fn tracked_texts() -> Vec<(String, String)> {
    let root = root();
    let read = |path: PathBuf| {
        let text = String::from_utf8(fs::read(&path).ok()?).ok()?;
        Some((name_below(&root, &path), text))
    };
    tracked_files(&root).into_iter().filter_map(read).collect()
}

/// The path below the root with forward slashes, as the complaints print it.
fn name_below(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).expect("the walk stays below the root");
    below.to_string_lossy().replace('\\', "/")
}

/// Every `*.rs` below `folder`, in a stable order; nothing when the folder is missing.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    walk(folder, &mut all);
    all.retain(|path| path.extension().is_some_and(|ending| ending == "rs"));
    all.sort();
    all
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        let name = path.file_name().unwrap_or_default();
        if !path.is_dir() {
            into.push(path);
        } else if name != "target" && name != ".git" {
            walk(&path, into);
        }
    }
}

/// The files that git tracks; in an unpacked archive without git, every file but build output.
fn tracked_files(root: &Path) -> Vec<PathBuf> {
    let listing = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    if let Ok(output) = listing
        && output.status.success()
        && !output.stdout.is_empty()
    {
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        return names.split_terminator('\0').map(|name| root.join(name)).collect();
    }
    let mut all = Vec::new();
    walk(root, &mut all);
    all
}
