//! Requests and reloads of the operator with 1,000 users: how long the loop is busy.
//! `cargo bench --bench operator [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("operator")
}
