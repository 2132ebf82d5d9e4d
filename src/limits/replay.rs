//! Hellos that were accepted before (spec: protocol 11; D4).
//!
//! Only authentic hellos enter, so the store fills at the rate of real users. It is exact: 64-bit
//! keyed hashes in two generations of open-addressed tables. Entries leave by space, not by time,
//! so a clock that jumps opens no door.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The store.
pub struct Replay {
    young: Generation,
    old: Generation,
    hash: RandomState,
    most_slots: usize,
}

impl Replay {
    /// An empty store of 4 KB that will use at most `max_bytes`, or 8 KB where that is less. A
    /// table that is being doubled stays within the bound, old and new together.
    pub fn new(max_bytes: usize) -> Self {
        let (young, old) = (Generation::new(FIRST_SLOTS), Generation::new(0));
        Self { young, old, hash: RandomState::new(), most_slots: most_slots(max_bytes) }
    }

    /// Another bound, as for [`Replay::new`]. What is remembered and fits in it stays.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.most_slots = most_slots(max_bytes);
        if self.old.slots.len() > self.most_slots {
            self.old = Generation::new(0);
        }
        if self.young.slots.len() > self.most_slots {
            self.young = Generation::new(FIRST_SLOTS);
        }
    }

    /// Whether this digest was here before; from now on it was.
    pub fn seen_before(&mut self, digest: &[u8; 28]) -> bool {
        // 0 marks an empty slot.
        let print = self.hash.hash_one(digest).max(1);
        if self.young.contains(print) || self.old.contains(print) {
            return true;
        }
        if self.young.is_full() {
            if self.young.slots.len() < self.most_slots {
                self.young.grow();
            } else {
                // The oldest go before the new table comes, so that the bound holds here too.
                self.old = std::mem::replace(&mut self.young, Generation::new(0));
                self.young = Generation::new(self.most_slots);
            }
        }
        self.young.insert(print);
        false
    }

    /// Bytes of the tables.
    pub fn bytes(&self) -> usize {
        (self.young.slots.len() + self.old.slots.len()) * size_of::<u64>()
    }
}

/// Two generations share the bound; a table doubles, so its size is a power of two.
fn most_slots(max_bytes: usize) -> usize {
    let slots = (max_bytes / 2 / size_of::<u64>()).max(FIRST_SLOTS);
    if slots.is_power_of_two() { slots } else { slots.next_power_of_two() / 2 }
}

/// One table, filled to three quarters at most.
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

    fn contains(&self, print: u64) -> bool {
        self.probe(print).is_some_and(|at| self.slots[at] == print)
    }

    fn insert(&mut self, print: u64) {
        if let Some(at) = self.probe(print)
            && self.slots[at] == 0
        {
            self.slots[at] = print;
            self.used += 1;
        }
    }

    fn grow(&mut self) {
        let wider = Self::new(self.slots.len() * 2);
        for print in std::mem::replace(self, wider).slots {
            if print != 0 {
                self.insert(print);
            }
        }
    }

    /// The slot that holds `print`, or the empty one where it would go.
    fn probe(&self, print: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        (0..=mask)
            .map(|step| (print as usize).wrapping_add(step) & mask)
            .find(|at| matches!(self.slots[*at], 0) || self.slots[*at] == print)
    }
}

/// 4 KB.
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
