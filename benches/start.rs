//! Time from the start of the program to its open port, and its memory then.
//! `cargo bench --bench start [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("start")
}
