//! What users and visitors of the site get while the daemon is attacked.
//! `cargo bench --bench siege [-- --short] [--gate] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("siege")
}
