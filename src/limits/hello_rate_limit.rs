//! Which networks send hellos that fit no key, again and again. Trying every key costs a
//! microsecond each; a network that makes us do it hundreds of times gets only the likely ones
//! tried, until it has been quiet for a while. Time is an argument.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::util::client_prefix::ClientPrefix;

/// Misses per network (/24, /48): a leaky bucket each, in a direct-mapped table of 2 KB. When two
/// networks share a place, the newer one takes it, which errs on the side of trying every key.
pub struct HelloRateLimit {
    buckets: Vec<Bucket>,
    hash: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    tag: u32,
    level: u32,
    /// Low bits of the time of the last miss, in seconds.
    at_s: u32,
}

impl Default for HelloRateLimit {
    fn default() -> Self {
        Self { buckets: Vec::new(), hash: RandomState::new() }
    }
}

impl HelloRateLimit {
    /// Notes a hello from `addr` that fitted none of the keys that were tried.
    pub fn record_failure(&mut self, addr: IpAddr, now_ms: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); BUCKETS];
        }
        let (place, tag) = self.place(addr);
        let now_s = seconds(now_ms);
        let Some(bucket) = self.buckets.get_mut(place) else { return };
        let level = if bucket.tag == tag { bucket.level_at(now_s) } else { 0 };
        *bucket = Bucket { tag, level: (level + 1).min(FULL), at_s: now_s };
    }

    /// Whether the network of `addr` has missed so often lately that only likely keys are tried.
    pub fn is_limited(&self, addr: IpAddr, now_ms: u64) -> bool {
        let (place, tag) = self.place(addr);
        let bucket = self.buckets.get(place).filter(|bucket| bucket.tag == tag);
        bucket.is_some_and(|bucket| bucket.level_at(seconds(now_ms)) > ALLOWED)
    }

    fn place(&self, addr: IpAddr) -> (usize, u32) {
        let hash = self.hash.hash_one(ClientPrefix::of(addr));
        ((hash as usize) % BUCKETS, (hash >> 32) as u32)
    }
}

impl Bucket {
    fn level_at(self, now_s: u32) -> u32 {
        self.level.saturating_sub(now_s.wrapping_sub(self.at_s).saturating_mul(LEAK_PER_S))
    }
}

fn seconds(ms: u64) -> u32 {
    (ms / 1_000) as u32
}

/// Places in the table.
const BUCKETS: usize = 170;
/// Misses that a network may have at once before only likely keys are tried.
const ALLOWED: u32 = 32;
/// Misses forgotten per second.
const LEAK_PER_S: u32 = 4;
/// The level stops here, so that the longest memory is some 32 seconds.
const FULL: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_network_floods_after_many_misses_and_is_forgiven_after_half_a_minute() {
        let mut misses = HelloRateLimit::default();
        for _ in 0..ALLOWED {
            misses.record_failure(HOME, 1_000);
            assert!(!misses.is_limited(HOME, 1_000));
        }
        for _ in 0..10_000 {
            misses.record_failure(HOME, 1_000);
        }
        let neighbour = IpAddr::from([192, 0, 2, 200]);
        assert!(misses.is_limited(neighbour, 20_000), "the whole /24");
        assert!(!misses.is_limited(IpAddr::from([192, 0, 3, 1]), 1_000));
        assert!(!misses.is_limited(HOME, 33_000));
    }

    #[test]
    fn a_few_misses_per_second_are_nobodys_flood() {
        let mut misses = HelloRateLimit::default();
        for n in 0..1_000 {
            misses.record_failure(HOME, n * 250);
            assert!(!misses.is_limited(HOME, n * 250));
        }
    }

    #[test]
    fn a_network_that_shares_a_place_is_not_mistaken_for_the_other() {
        let mut misses = HelloRateLimit::default();
        for _ in 0..100 {
            misses.record_failure(HOME, 0);
        }
        let mut others =
            (0..=255).flat_map(|b| (0..=255).map(move |c| IpAddr::from([10, b, c, 1])));
        assert!(others.all(|other| !misses.is_limited(other, 0)));
        assert!(std::mem::size_of::<Bucket>() * BUCKETS <= 2_048);
    }
}
