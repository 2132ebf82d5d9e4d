//! The program under test: the build of cargo, or another one from the environment, such as a build
//! for another processor in an emulator.

use std::env;
use std::process::Command;

/// A command, split at spaces: `qemu-mipsel-static -cpu 24KEc /path/to/mtbox`.
const VARIABLE: &str = "MTBOX_TEST_PROGRAM";

/// The words of the command.
pub fn words() -> Vec<String> {
    let words: Vec<_> = match env::var(VARIABLE) {
        Ok(text) => text.split_whitespace().map(str::to_owned).collect(),
        Err(_) => vec![env!("CARGO_BIN_EXE_mtbox").to_owned()],
    };
    assert!(!words.is_empty(), "{VARIABLE} is empty");
    words
}

/// The command without arguments.
pub fn command() -> Command {
    let words = words();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}
