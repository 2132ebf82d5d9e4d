//! Latency of short messages beside downloads, and the shares of two users.
//! `cargo bench --bench fairness [-- --short] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("fairness")
}
