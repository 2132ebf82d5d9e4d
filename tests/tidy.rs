//! The house test: floors, file sizes, and the words that must not appear. Each rule is a function
//! over text in `tidy/rules.rs`, proved there on a bad snippet; this file applies them to the tree.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use source::Source;

/// Runs every rule over the Rust files of the product and reports all complaints at once.
#[test]
fn the_sources_keep_the_house_rules() {
    let root = root();
    let mut complaints = Vec::new();
    let mut seen = 0;
    for path in files_below(&root.join("src")) {
        let source = read_source(&root, &path);
        seen += 1;
        complaints.extend(rules::shape(&source));
        complaints.extend(rules::layers(&source));
        complaints.extend(rules::purity(&source));
        complaints.extend(rules::panics(&source));
        complaints.extend(rules::unsafety(&source));
    }
    assert!(seen > 2, "the walk found only {seen} files in src");
    report(&complaints);
}

/// Tests, benchmarks and generators are read by people too: same shape, same ban on `unsafe`.
#[test]
fn tests_and_benchmarks_keep_the_shape_of_the_house() {
    let root = root();
    let mut complaints = Vec::new();
    for folder in ["tests", "benches", "packaging", "fuzz"] {
        for path in files_below(&root.join(folder)) {
            let source = read_source(&root, &path);
            complaints.extend(rules::shape(&source));
            complaints.extend(rules::unsafety(&source));
        }
    }
    report(&complaints);
}

/// What is published names no machine it was made on and no work left undone.
#[test]
fn tracked_text_names_no_home_and_no_unfinished_work() {
    let root = root();
    let tracked = tracked_files(&root);
    assert!(tracked.len() > 5, "only {} tracked files were found", tracked.len());
    let mut complaints = Vec::new();
    for path in tracked {
        // A file that is deleted but not yet committed is no concern; binary files hold no prose.
        let Ok(bytes) = fs::read(&path) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        complaints.extend(rules::leftovers(&name_below(&root, &path), &text));
    }
    report(&complaints);
}

/// The table of defects names tests that are there.
#[test]
fn every_test_that_the_documents_name_exists() {
    let root = root();
    let text = fs::read_to_string(root.join("docs/TESTING.md")).expect("the table of tests");
    let rows = text.lines().filter(|line| line.starts_with("| A") || line.starts_with("| B"));
    assert!(rows.count() >= 18, "the table is there");
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

fn read_source(root: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a Rust file is UTF-8");
    Source::new(&name_below(root, path), &text)
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

/// What git tracks; in an unpacked archive, where git knows nothing, every file but build output.
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
