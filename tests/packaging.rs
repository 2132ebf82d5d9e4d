//! What is installed beside the program: man pages and completions are what the tables say and
//! work where they are read; the unit, the package and the image hold what they promise. Tools
//! that a machine lacks are passed over, with a line that says so.

#[path = "packaging/completions.rs"]
mod completions;
#[path = "../packaging/generator/mod.rs"]
mod generator;
#[path = "packaging/image.rs"]
mod image;
#[path = "packaging/package.rs"]
mod package;
#[path = "packaging/pages.rs"]
mod pages;
#[path = "packaging/service.rs"]
mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn the_generated_files_are_what_the_tables_say() {
    for (name, text) in generator::files() {
        let path = folder().join(name);
        let is = fs::read_to_string(&path).unwrap_or_default();
        if std::env::var_os("UPDATE").is_some() && is != text {
            fs::write(&path, text).unwrap();
        } else {
            assert!(is == text, "{name} is out of date; run UPDATE=1 cargo test --test packaging");
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// Runs a tool; `None`, with a line for the reader, where the machine does not have it.
fn run(tool: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(tool).args(arguments).current_dir(folder()).output() {
        Ok(output) => Some(output),
        Err(fault) => {
            eprintln!("passed over: {tool}: {fault}");
            None
        }
    }
}

/// Runs a checker, which must find nothing and say nothing.
fn finds_nothing(tool: &str, arguments: &[&str]) {
    let Some(output) = run(tool, arguments) else { return };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{tool} {arguments:?}:\n{said}");
}
