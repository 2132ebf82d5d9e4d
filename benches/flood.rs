//! A running download while strangers knock 500 times a second, against the same download alone.
//! `cargo bench --bench flood [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("flood")
}
