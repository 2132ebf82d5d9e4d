//! A hierarchical timer wheel. Each key has at most one deadline. Setting and clearing take
//! constant time and do not allocate; a few bit operations find the next deadline.
//!
//! Four levels of 64 slots with a resolution of 1 ms cover 64 ms, 4.1 s, 4.4 min and 4.7 h. A later
//! deadline is put into the last slot and inserted again when that slot expires.

use crate::io::clock::Tick;

/// Deadlines by key. Entries are in a vector indexed by key, so keys should be small.
pub struct Wheel {
    entries: Vec<WheelEntry>,
    /// First entry of each slot's list.
    heads: [[u32; SLOTS]; LEVELS],
    /// One bit per slot: set if the slot is not empty.
    occupied: [u64; LEVELS],
    /// First entry of the list of due entries.
    due: u32,
    /// First entry of the list of those that became due while due entries were being taken.
    deferred: u32,
    /// The time up to which due entries are being taken; `None` = [`Wheel::pop_due`] has returned
    /// `None` since.
    taking: Option<u64>,
    /// All deadlines up to this tick have been moved to `due`.
    now: u64,
}

#[derive(Clone, Copy)]
struct WheelEntry {
    at: u64,
    next: u32,
    prev: u32,
    /// Level and slot, or [`IDLE`], [`DUE`] or [`DEFERRED`].
    place: u16,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// An empty wheel at tick 0.
    pub fn new() -> Self {
        let heads = [[NONE; SLOTS]; LEVELS];
        Self {
            entries: Vec::new(),
            heads,
            occupied: [0; LEVELS],
            due: NONE,
            deferred: NONE,
            taking: None,
            now: 0,
        }
    }

    /// Sets or replaces the deadline of a key. A deadline in the past is due at once; if it is set
    /// while due keys are being taken, then when the next ones are taken. Uses 24 bytes for each
    /// key up to the largest one ever set.
    pub fn set(&mut self, key: u32, at: Tick) {
        if self.entries.len() <= key as usize {
            let idle = WheelEntry { at: 0, next: NONE, prev: NONE, place: IDLE };
            self.entries.resize(key as usize + 1, idle);
        }
        self.unlink(key);
        self.entries[key as usize].at = at.0;
        match self.taking {
            Some(now) if at.0 <= now => self.push(key, DEFERRED),
            _ => self.link(key),
        }
    }

    /// Removes the deadline of a key.
    pub fn clear(&mut self, key: u32) {
        if self.is_set(key) {
            self.unlink(key);
        }
    }

    /// Whether a key has a deadline.
    pub fn is_set(&self, key: u32) -> bool {
        self.entries.get(key as usize).is_some_and(|entry| entry.place != IDLE)
    }

    /// A time not later than the first deadline, at which to call [`Wheel::pop_due`]; `None` = no
    /// deadline is set.
    pub fn next(&self) -> Option<Tick> {
        if self.due != NONE || self.deferred != NONE {
            return Some(Tick(self.now));
        }
        (0..LEVELS).filter_map(|level| self.next_slot(level)).map(|(at, _)| Tick(at)).min()
    }

    /// Removes and returns a key whose deadline is at or before `now`, earliest first. Call it
    /// until `None`: this ends, since a key that is set to `now` or earlier in between is not
    /// returned before the `None`.
    pub fn pop_due(&mut self, now: Tick) -> Option<u32> {
        self.taking = Some(now.0);
        loop {
            if self.due != NONE {
                let key = self.due;
                self.unlink(key);
                return Some(key);
            }
            let soonest = (0..LEVELS)
                .filter_map(|level| self.next_slot(level).map(|(at, slot)| (at, level, slot)))
                // Of slots that begin at the same tick, the coarsest must be redistributed first.
                .min_by_key(|(at, level, _)| (*at, LEVELS - level));
            let Some((at, level, slot)) = soonest.filter(|(at, ..)| *at <= now.0) else {
                self.now = self.now.max(now.0);
                self.taking = None;
                while self.deferred != NONE {
                    let key = self.deferred;
                    self.unlink(key);
                    self.link(key);
                }
                return None;
            };
            self.now = self.now.max(at);
            while self.heads[level][slot] != NONE {
                let key = self.heads[level][slot];
                self.unlink(key);
                self.link(key);
            }
        }
    }

    /// The first occupied slot of a level at or after `now`, and the tick at which it begins.
    fn next_slot(&self, level: usize) -> Option<(u64, usize)> {
        let shift = BITS * level as u32;
        let here = self.now >> shift;
        let rotated = self.occupied[level].rotate_right((here % SLOTS as u64) as u32);
        (rotated != 0).then(|| {
            let ahead = u64::from(rotated.trailing_zeros());
            let begins = (here + ahead) << shift;
            (begins.max(self.now), ((here + ahead) % SLOTS as u64) as usize)
        })
    }

    fn link(&mut self, key: u32) {
        let at = self.entries[key as usize].at;
        let place = if at <= self.now {
            DUE
        } else {
            let (level, slot) = self.slot_of(at);
            self.occupied[level] |= 1 << slot;
            (level * SLOTS + slot) as u16
        };
        self.push(key, place);
    }

    /// Puts an entry that is in no list at the beginning of one.
    fn push(&mut self, key: u32, place: u16) {
        let next = std::mem::replace(self.head(place), key);
        if let Some(other) = self.entries.get_mut(next as usize) {
            other.prev = key;
        }
        let entry = &mut self.entries[key as usize];
        (entry.next, entry.prev, entry.place) = (next, NONE, place);
    }

    /// The first entry of the list of a place.
    fn head(&mut self, place: u16) -> &mut u32 {
        match place {
            DUE => &mut self.due,
            DEFERRED => &mut self.deferred,
            slot => &mut self.heads[usize::from(slot) / SLOTS][usize::from(slot) % SLOTS],
        }
    }

    /// The finest level whose range includes the deadline. There the deadline cannot fall into the
    /// current slot, which would delay it by a full rotation.
    fn slot_of(&self, at: u64) -> (usize, usize) {
        for level in 0..LEVELS {
            let shift = BITS * level as u32;
            if (at >> shift) - (self.now >> shift) < SLOTS as u64 {
                return (level, ((at >> shift) % SLOTS as u64) as usize);
            }
        }
        let shift = BITS * (LEVELS as u32 - 1);
        (LEVELS - 1, (((self.now >> shift) + SLOTS as u64 - 1) % SLOTS as u64) as usize)
    }

    fn unlink(&mut self, key: u32) {
        let WheelEntry { next, prev, place, .. } = self.entries[key as usize];
        if place == IDLE {
            return;
        }
        if let Some(other) = self.entries.get_mut(next as usize) {
            other.prev = prev;
        }
        match self.entries.get_mut(prev as usize) {
            Some(other) => other.next = next,
            None => {
                *self.head(place) = next;
                if next == NONE && place < DEFERRED {
                    let (level, slot) = (usize::from(place) / SLOTS, usize::from(place) % SLOTS);
                    self.occupied[level] &= !(1 << slot);
                }
            }
        }
        self.entries[key as usize].place = IDLE;
    }
}

const LEVELS: usize = 4;
const SLOTS: usize = 64;
/// log2 of [`SLOTS`].
const BITS: u32 = 6;
/// End of a list.
const NONE: u32 = u32::MAX;
/// Place of a key without a deadline.
const IDLE: u16 = u16::MAX;
/// Place of an entry in the due list.
const DUE: u16 = u16::MAX - 1;
/// Place of an entry that becomes due when the present due entries have been taken. The largest
/// place of a slot is below it.
const DEFERRED: u16 = u16::MAX - 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_wheel_has_no_deadline() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.next(), None);
        assert_eq!(wheel.pop_due(Tick(1 << 40)), None);
    }

    #[test]
    fn a_distant_deadline_fires_on_time() {
        let mut wheel = Wheel::new();
        let day = 86_400_000;
        wheel.set(3, Tick(day));
        let mut now = 0;
        while let Some(next) = wheel.next() {
            assert!(next.0 > now && next.0 <= day, "{next:?} after {now}");
            now = next.0;
            if wheel.pop_due(Tick(now)).is_some() {
                assert_eq!(now, day);
                return;
            }
        }
        panic!("the deadline was lost");
    }

    #[test]
    fn a_key_that_is_set_again_while_due_keys_are_taken_is_due_in_the_next_round() {
        let mut wheel = Wheel::new();
        wheel.set(1, Tick(1));
        wheel.set(2, Tick(900));
        for round in 1_000..1_003 {
            for _ in 0..2 {
                let key = wheel.pop_due(Tick(round)).unwrap();
                wheel.set(key, Tick(round - u64::from(key)));
                assert!(wheel.is_set(key));
            }
            assert_eq!(wheel.pop_due(Tick(round)), None, "both were set again");
            assert_eq!(wheel.next(), Some(Tick(round)), "the next round is due at once");
        }
        assert!(wheel.pop_due(Tick(1_003)).is_some());
        wheel.set(1, Tick(0));
        wheel.set(2, Tick(0));
        wheel.clear(1);
        assert!(!wheel.is_set(1), "a deferred key can be cleared");
        wheel.set(2, Tick(2_000));
        assert_eq!(wheel.pop_due(Tick(1_003)), None);
        assert_eq!(wheel.pop_due(Tick(1_999)), None, "a deferred key can be postponed");
        assert_eq!(wheel.pop_due(Tick(2_000)), Some(2));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Set(u32, u64),
        Clear(u32),
        Pass(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let span = prop_oneof![0..70u64, 0..5_000u64, 0..300_000u64, 0..40_000_000u64];
        let act = prop_oneof![
            (0..20u32, span.clone()).prop_map(|(key, after)| Act::Set(key, after)),
            (0..20u32).prop_map(Act::Clear),
            span.prop_map(Act::Pass),
        ];
        proptest::collection::vec(act, 1..80)
    }

    proptest! {
        /// Each handler sets timers of its own and of others, in the past, now and in the future.
        #[test]
        fn taking_due_keys_ends_whatever_their_handlers_set(
            deadlines in proptest::collection::vec(0..5_000u64, 1..20),
            set in proptest::collection::vec((0..20u32, 0..6_000u64), 1..40),
            rounds in proptest::collection::vec(0..2_000u64, 1..8),
        ) {
            let mut wheel = Wheel::new();
            for (key, at) in (0..).zip(&deadlines) {
                wheel.set(key, Tick(*at));
            }
            let (mut now, mut sets) = (0, set.iter().cycle());
            for pause in rounds {
                now += pause;
                let mut taken = Vec::new();
                while let Some(key) = wheel.pop_due(Tick(now)) {
                    prop_assert!(!taken.contains(&key), "{} is returned twice", key);
                    taken.push(key);
                    for (other, at) in sets.by_ref().take(2) {
                        wheel.set(*other, Tick(*at));
                    }
                    wheel.set(key, Tick(now));
                }
                for key in taken {
                    prop_assert!(wheel.is_set(key), "{} is lost", key);
                }
            }
        }

        #[test]
        fn the_wheel_agrees_with_a_sorted_list(acts in acts()) {
            let (mut wheel, mut list, mut now) = (Wheel::new(), BTreeMap::new(), 0);
            for act in acts {
                match act {
                    Act::Set(key, after) => {
                        wheel.set(key, Tick(now + after));
                        list.insert(key, now + after);
                    }
                    Act::Clear(key) => {
                        wheel.clear(key);
                        list.remove(&key);
                    }
                    Act::Pass(time) => {
                        now += time;
                        let (mut fired, mut last) = (Vec::new(), 0);
                        while let Some(key) = wheel.pop_due(Tick(now)) {
                            prop_assert!(list[&key] >= last, "out of order");
                            last = list[&key];
                            fired.push(key);
                        }
                        fired.sort_unstable();
                        let due: Vec<u32> =
                            list.iter().filter(|(_, at)| **at <= now).map(|(k, _)| *k).collect();
                        list.retain(|_, at| *at > now);
                        prop_assert_eq!(fired, due);
                    }
                }
                let first = list.values().min().copied();
                match (wheel.next(), first) {
                    (None, None) => {}
                    (Some(next), Some(first)) => prop_assert!(next.0 <= first.max(now)),
                    (next, first) => prop_assert!(false, "{:?} against {:?}", next, first),
                }
                for key in 0..20 {
                    prop_assert_eq!(wheel.is_set(key), list.contains_key(&key));
                }
            }
        }
    }
}
