//! CPU time per handshake: a lone user, a returning user among 1,000, a stranger.
//! `cargo bench --bench handshake [-- --short] [--json FILE]`; method: docs/MEASURING.md.
mod support;

fn main() -> std::process::ExitCode {
    support::main("handshake")
}
