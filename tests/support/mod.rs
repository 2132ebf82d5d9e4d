//! Building blocks of the end-to-end tests: clients, DCs, fronts and other servers, the program
//! under test, and helpers for time and bytes.

pub mod answer;
pub mod authority;
pub mod blackhole;
pub mod captured;
pub mod client;
pub mod crypto;
pub mod curve;
pub mod dc;
pub mod doctor;
pub mod fixture;
pub mod front;
pub mod hello;
pub mod kernel;
pub mod leaks;
pub mod lists;
pub mod minimal_proxy;
pub mod name_server;
pub mod obfuscated2;
pub mod peer;
pub mod prober;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod proxy_header;
pub mod scripted_front;
pub mod socks;
pub mod stats;
pub mod tls;
pub mod web;

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Limit of every wait in a test. Generous, because two cores run all tests at once.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer must send nothing to count as silent.
pub const QUIET: Duration = Duration::from_millis(250);

/// Polls until `holds` returns `true`. Fails the test after [`TIMEOUT`].
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(TIMEOUT, holds), "not within {TIMEOUT:?}: {what}");
}

/// Polls until `holds` returns `true` or `limit` has passed; `false` = the limit.
pub fn holds_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Raises the limit of open files of this process as far as the system allows.
pub fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a higher soft limit");
}

/// Endless bytes that both ends can generate, so that a test need not store 64 MiB to compare.
pub struct Pattern {
    state: u64,
    left: Vec<u8>,
}

impl Pattern {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, left: Vec::new() }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.left);
        out.reserve(count + 8);
        while out.len() < count {
            // SplitMix64 (Steele, Lea, Flood 2014): short, and its period is 2^64.
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        self.left = out.split_off(count);
        out
    }
}

/// The first `count` bytes of the pattern of `seed`.
pub fn pattern(seed: u64, count: usize) -> Vec<u8> {
    Pattern::new(seed).take(count)
}

/// Random bytes of the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes hex.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}
