//! The replay store: digests of the hellos that were accepted (PROTOCOL 11; DECISIONS D4).
//!
//! Only authentic hellos are stored, so the store fills at the rate of real connections. It keeps
//! 64-bit keyed hashes in two generations of open-addressed tables. Entries are dropped when space
//! runs out, never by age, so a clock that jumps does not open a window for replays.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A set of digests of bounded size that drops the oldest ones.
pub struct Replay {
    young: Generation,
    old: Generation,
    hash: RandomState,
    /// Most slots of one generation.
    max_slots: usize,
}

impl Replay {
    /// An empty store of 4 KB. It grows to at most `max_bytes` (at least 8 KB), including both
    /// copies of a table that is being doubled.
    pub fn new(max_bytes: usize) -> Self {
        let (young, old) = (Generation::new(FIRST_SLOTS), Generation::new(0));
        Self { young, old, hash: RandomState::new(), max_slots: slots_within(max_bytes) }
    }

    /// Changes the bound of [`Replay::new`]. Generations that fit in the new bound are kept.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_slots = slots_within(max_bytes);
        if self.old.slots.len() > self.max_slots {
            self.old = Generation::new(0);
        }
        if self.young.slots.len() > self.max_slots {
            self.young = Generation::new(FIRST_SLOTS);
        }
    }

    /// Adds a digest. Returns whether it was in the store before, which makes the hello a replay.
    pub fn seen_before(&mut self, digest: &[u8; 28]) -> bool {
        // 0 marks an empty slot.
        let fingerprint = self.hash.hash_one(digest).max(1);
        if self.young.contains(fingerprint) || self.old.contains(fingerprint) {
            return true;
        }
        if self.young.is_full() {
            if self.young.slots.len() < self.max_slots {
                self.young.grow();
            } else {
                // The old generation is freed before the new table is allocated, so that the
                // bound holds here too.
                self.old = std::mem::replace(&mut self.young, Generation::new(0));
                self.young = Generation::new(self.max_slots);
            }
        }
        self.young.insert(fingerprint);
        false
    }

    /// Size of the tables in bytes.
    pub fn bytes(&self) -> usize {
        (self.young.slots.len() + self.old.slots.len()) * size_of::<u64>()
    }
}

/// Slots of one generation: half of the bound, rounded down to a power of two since tables double.
fn slots_within(max_bytes: usize) -> usize {
    let slots = (max_bytes / 2 / size_of::<u64>()).max(FIRST_SLOTS);
    if slots.is_power_of_two() { slots } else { slots.next_power_of_two() / 2 }
}

/// One open-addressed table with linear probing, at most three quarters full.
struct Generation {
    slots: Vec<u64>,
    used: usize,
}

impl Generation {
    fn new(slots: usize) -> Self {
        Self { slots: vec![0; slots], used: 0 }
    }

    fn is_full(&self) -> bool {
        self.used >= self.slots.len() / 4 * 3
    }

    fn contains(&self, fingerprint: u64) -> bool {
        self.probe(fingerprint).is_some_and(|at| self.slots[at] == fingerprint)
    }

    fn insert(&mut self, fingerprint: u64) {
        if let Some(at) = self.probe(fingerprint)
            && self.slots[at] == 0
        {
            self.slots[at] = fingerprint;
            self.used += 1;
        }
    }

    fn grow(&mut self) {
        let wider = Self::new(self.slots.len() * 2);
        for fingerprint in std::mem::replace(self, wider).slots {
            if fingerprint != 0 {
                self.insert(fingerprint);
            }
        }
    }

    /// The slot of `fingerprint`, or the empty slot where it belongs.
    fn probe(&self, fingerprint: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        (0..=mask)
            .map(|step| (fingerprint as usize).wrapping_add(step) & mask)
            .find(|at| matches!(self.slots[*at], 0) || self.slots[*at] == fingerprint)
    }
}

/// Slots of a new store: 4 KB.
const FIRST_SLOTS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> [u8; 28] {
        let mut digest = [0; 28];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn the_second_time_is_a_replay_and_the_first_is_not() {
        let mut replay = Replay::new(1 << 20);
        assert_eq!(replay.bytes(), 4096);
        for number in 0..10_000 {
            assert!(!replay.seen_before(&digest(number)), "{number}");
        }
        for number in 0..10_000 {
            assert!(replay.seen_before(&digest(number)), "{number}");
        }
        assert!(replay.bytes() <= 256 * 1024, "{}", replay.bytes());
    }

    #[test]
    fn the_store_stays_within_its_bound_and_keeps_the_latest() {
        for max_bytes in [0, 4096, 10_000, 65_536] {
            let mut replay = Replay::new(max_bytes);
            for number in 0..50_000 {
                replay.seen_before(&digest(number));
                assert!(replay.bytes() <= max_bytes.max(8192));
            }
            assert!((49_700..50_000).all(|number| replay.seen_before(&digest(number))));
        }
    }
}
