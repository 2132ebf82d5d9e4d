//! Limits how much work each client network can cause: hellos that match no key, connections to the
//! front. A network that causes much of it is limited until its rate drops. Time is a parameter.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::util::client_prefix::ClientPrefix;

/// Events per client network (/24 or /48): one leaky bucket each, in a direct-mapped table of 2 KB.
/// When two networks share a slot, the newer one replaces the other; the error is on the side of
/// too few limits.
pub struct NetworkRate {
    buckets: Vec<Bucket>,
    hash: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    tag: u32,
    level: u32,
    /// Low 32 bits of the time of the last event, in seconds.
    at_s: u32,
}

impl Default for NetworkRate {
    fn default() -> Self {
        Self { buckets: Vec::new(), hash: RandomState::new() }
    }
}

impl NetworkRate {
    /// Records an event of the network of `addr`: a hello that matched none of the keys that were
    /// tried, or a connection to the front.
    pub fn record(&mut self, addr: IpAddr, now_ms: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); BUCKETS];
        }
        let (slot, tag) = self.slot(addr);
        let now_s = seconds(now_ms);
        let Some(bucket) = self.buckets.get_mut(slot) else { return };
        let level = if bucket.tag == tag { bucket.level_at(now_s) } else { 0 };
        *bucket = Bucket { tag, level: (level + 1).min(LEVEL_MAX), at_s: now_s };
    }

    /// Whether the network of `addr` is over its limit.
    pub fn is_limited(&self, addr: IpAddr, now_ms: u64) -> bool {
        let (slot, tag) = self.slot(addr);
        let bucket = self.buckets.get(slot).filter(|bucket| bucket.tag == tag);
        bucket.is_some_and(|bucket| bucket.level_at(seconds(now_ms)) > ALLOWED)
    }

    /// The index of the bucket and the tag that distinguishes networks in one slot.
    fn slot(&self, addr: IpAddr) -> (usize, u32) {
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

/// Slots of the table: 170 of 12 bytes fit in 2 KB.
const BUCKETS: usize = 170;
/// Events in a burst before a network is limited.
const ALLOWED: u32 = 32;
/// Events that leak out of a bucket per second.
const LEAK_PER_S: u32 = 4;
/// Upper bound of the level: a full bucket is below [`ALLOWED`] again after 24 seconds.
const LEVEL_MAX: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_network_is_limited_after_many_events_and_free_after_half_a_minute() {
        let mut limit = NetworkRate::default();
        for _ in 0..ALLOWED {
            limit.record(HOME, 1_000);
            assert!(!limit.is_limited(HOME, 1_000));
        }
        for _ in 0..10_000 {
            limit.record(HOME, 1_000);
        }
        let neighbour = IpAddr::from([192, 0, 2, 200]);
        assert!(limit.is_limited(neighbour, 20_000), "the whole /24");
        assert!(!limit.is_limited(IpAddr::from([192, 0, 3, 1]), 1_000));
        assert!(!limit.is_limited(HOME, 33_000));
    }

    #[test]
    fn a_few_events_per_second_are_within_the_limit() {
        let mut limit = NetworkRate::default();
        for n in 0..1_000 {
            limit.record(HOME, n * 250);
            assert!(!limit.is_limited(HOME, n * 250));
        }
    }

    #[test]
    fn networks_that_share_a_slot_are_told_apart() {
        let mut limit = NetworkRate::default();
        for _ in 0..100 {
            limit.record(HOME, 0);
        }
        let mut others =
            (0..=255).flat_map(|b| (0..=255).map(move |c| IpAddr::from([10, b, c, 1])));
        assert!(others.all(|other| !limit.is_limited(other, 0)));
        assert!(std::mem::size_of::<Bucket>() * BUCKETS <= 2_048);
    }
}
