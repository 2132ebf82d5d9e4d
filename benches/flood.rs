//! A running download with 500 wrong hellos per second, compared with the same download alone.
//! `cargo bench --bench flood [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("flood")
}
