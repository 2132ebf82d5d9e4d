//! The texts of `--help` and `--version`, from the table of commands.

use crate::cli::args::{Argument, Command, Flag};
use crate::cli::commands::COMMANDS;

/// The output of `--version`: one line that starts with the version.
pub fn version() -> String {
    let abi = if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "gnu") {
        "-gnu"
    } else {
        ""
    };
    let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
    // `ARCH` is the same for both byte orders of MIPS.
    let order = if cfg!(all(target_arch = "mips", target_endian = "little")) { "el" } else { "" };
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (rust: {arch}{order}-{system}{abi}, features: {})", FEATURES.join(" "))
}

/// The optional features of this build; the mini flavour has none.
const FEATURES: &[&str] = &[
    #[cfg(feature = "doctor")]
    "doctor",
    #[cfg(feature = "metrics")]
    "metrics",
    #[cfg(feature = "qr")]
    "qr",
    #[cfg(feature = "tls")]
    "tls",
    #[cfg(not(any(feature = "doctor", feature = "metrics", feature = "qr", feature = "tls")))]
    "none",
];

/// The output of `mtbox --help`.
pub fn overview() -> String {
    let mut out = format!(
        "mtbox {}: {}\n\nUsage: mtbox COMMAND [ARGUMENTS]\n\nCommands:\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    let shown = COMMANDS.iter().filter(|command| !command.is_hidden);
    columns(&mut out, &mut shown.map(|command| (call(command), command.about)));
    out.push_str("\nFlags:\n");
    columns(&mut out, &mut EVERYWHERE.iter().map(flag_row));
    out.push_str("\nStart with: mtbox quickstart. Help for a command: mtbox COMMAND --help\n");
    out
}

/// The output of `mtbox COMMAND --help`.
pub fn of(command: &Command) -> String {
    let flags = if command.flags.is_empty() { "" } else { " [FLAGS]" };
    let mut out = format!("{}\n\nUsage: mtbox {}{flags}\n", command.about, call(command));
    if !command.arguments.is_empty() {
        out.push_str("\nArguments:\n");
        let rows = command.arguments.iter();
        columns(&mut out, &mut rows.map(|one| (one.name.to_owned(), one.doc)));
    }
    out.push_str("\nFlags:\n");
    columns(&mut out, &mut command.flags.iter().chain(EVERYWHERE).map(flag_row));
    if !command.notes.is_empty() {
        out.push_str(&format!("\n{}\n", command.notes));
    }
    if !command.examples.is_empty() {
        out.push_str("\nExamples:\n");
        command.examples.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    out
}

fn call(command: &Command) -> String {
    let name = |argument: &Argument| match argument.is_optional {
        true => format!("[{}]", argument.name),
        false => argument.name.to_owned(),
    };
    let names = command.arguments.iter().map(name);
    [command.name.to_owned()].into_iter().chain(names).collect::<Vec<_>>().join(" ")
}

fn flag_row(flag: &Flag) -> (String, &str) {
    let short = flag.short.map_or("    ".to_string(), |short| format!("-{short}, "));
    let value = flag.value.map_or(String::new(), |value| format!(" {value}"));
    (format!("{short}--{}{value}", flag.long), flag.doc)
}

/// Appends two columns. The first is as wide as its widest cell.
fn columns(out: &mut String, rows: &mut dyn Iterator<Item = (String, &str)>) {
    let rows: Vec<(String, &str)> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        out.push_str(&format!("  {left:width$}  {right}\n"));
    }
}

/// Flags of every command.
pub const EVERYWHERE: &[Flag] = &[
    Flag::switch(Some('h'), "help", "print this help"),
    Flag::switch(Some('v'), "version", "print the version"),
];
