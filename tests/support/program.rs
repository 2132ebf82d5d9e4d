//! Which program is under test: the one that cargo has just built, or another that the
//! environment names, such as a build for another processor behind an emulator.

use std::env;
use std::process::Command;

/// A command in words between blanks: `qemu-mipsel-static -cpu 24KEc /path/to/mtbox`.
const VARIABLE: &str = "MTBOX_TEST_PROGRAM";

/// The command, in words.
pub fn words() -> Vec<String> {
    let words: Vec<_> = match env::var(VARIABLE) {
        Ok(text) => text.split_whitespace().map(str::to_owned).collect(),
        Err(_) => vec![env!("CARGO_BIN_EXE_mtbox").to_owned()],
    };
    assert!(!words.is_empty(), "{VARIABLE} is empty");
    words
}

/// The command, without arguments so far.
pub fn command() -> Command {
    let words = words();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}
