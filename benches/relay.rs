//! CPU seconds per relayed GB, compared with a plain copy loop in the same run.
//! `cargo bench --bench relay [-- --short] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("relay")
}
