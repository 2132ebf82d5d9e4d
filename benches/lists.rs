//! A list of 100,000 networks: its memory, and how long the loop pauses while it is loaded.
//! `cargo bench --bench lists [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("lists")
}
