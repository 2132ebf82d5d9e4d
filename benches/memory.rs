//! Memory of the idle daemon and of each idle session.
//! `cargo bench --bench memory [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("memory")
}
