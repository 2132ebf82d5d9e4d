//! CPU time per handshake: a single user, a returning user of 1,000, a probe.
//! `cargo bench --bench handshake [-- --short] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("handshake")
}
