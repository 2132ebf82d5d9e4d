//! Writes the man pages and the completions, from the tables of the program, into a folder:
//! `cargo run --example docs`, or `-- FOLDER` for another than `packaging`. No part of the router
//! binary.

mod generator;

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let beside_us = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging"));
    let folder = env::args_os().nth(1).map_or_else(beside_us, PathBuf::from);
    for (name, text) in generator::files() {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
