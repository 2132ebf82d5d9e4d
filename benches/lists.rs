//! What a list of 100,000 networks costs: memory, and how long the loop pauses while it comes.
//! `cargo bench --bench lists [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("lists")
}
