//! Generates man pages, completions and a list of keys from the program's tables:
//! `cargo run --example docs` writes them to `packaging`, `cargo run --example docs -- DIR` to
//! another directory. Not part of the mtbox binary.

mod generator;

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let packaging = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging"));
    let dir = env::args_os().nth(1).map_or_else(packaging, PathBuf::from);
    for (name, text) in generator::files() {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
