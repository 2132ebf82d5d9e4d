//! What the scenarios are told with: the people of the play (client, DC, origin), the proxy under
//! test, and a few words about time and bytes.

pub mod answer;
pub mod authority;
pub mod blackhole;
pub mod captured;
pub mod client;
pub mod crypto;
pub mod curve;
pub mod dc;
pub mod doctor;
pub mod hello;
pub mod leaks;
pub mod lists;
pub mod names;
pub mod obfuscated2;
pub mod origin;
pub mod origins;
pub mod peer;
pub mod prober;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod proxy_header;
pub mod reference;
pub mod socks;
pub mod stage;
pub mod stats;
pub mod tls;
pub mod web;

use std::time::{Duration, Instant};

/// How long anything may take before the test calls it hung: generous, since two cores run it all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a peer is watched when the claim is that it says nothing.
pub const QUIET: Duration = Duration::from_millis(250);

/// Polls until `holds`, and fails the test when it still does not after [`PATIENCE`].
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, holds), "waited {PATIENCE:?} in vain: {what}");
}

/// Polls until `holds` or `limit` passes; says which.
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

/// Endless bytes that both ends can make on their own, so that 64 MiB need not be kept to compare.
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
            // SplitMix64 (Steele, Lea, Flood 2014): short, and no period that tests could meet.
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

/// Bytes nobody can predict, from the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hex.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}
