//! Output of the commands. A closed pipe is no error: `mtbox stats | head` succeeds.

use std::io::Write;

/// Writes to stdout.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes `mtbox: LINE` to stderr.
pub(super) fn report(line: &str) {
    report_bare(&format!("mtbox: {line}"));
}

/// Writes a line to stderr without the name of the program.
pub(super) fn report_bare(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
