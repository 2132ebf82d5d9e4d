//! The replay store: digests of the hellos that were accepted (PROTOCOL 11; DECISIONS D4).
//!
//! Only authentic hellos are stored, so the store fills at the rate of real connections. It keeps
//! 64-bit keyed hashes in two generations of open-addressed tables. Entries are dropped when space
//! runs out, never by age, so a clock that jumps does not open a window for replays. The newest
//! digests survive a restart.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use crate::accounts::totals::SavedReplays;

/// A set of digests of bounded size that drops the oldest ones. It is complete if it also has those
/// that an earlier process of mtbox accepted; otherwise hellos from before its start count as
/// replays (DECISIONS D200).
pub struct Replay {
    young: Generation,
    old: Generation,
    hash: RandomState,
    /// Most slots of one generation.
    max_slots: usize,
    /// The newest digests, [`folded`], and their times, oldest first, for [`Replay::saved`].
    recent: VecDeque<(u64, u32)>,
    recent_max: usize,
    /// The latest time of a hello that is in the store, but not in `recent`; Unix seconds.
    dropped_s: u32,
    /// Hellos from before this time count as replays, in Unix seconds; known from the file.
    valid_from_s: u64,
    /// When the store was begun without the digests before, in milliseconds since start; `None` =
    /// it is complete.
    begun_ms: Option<u64>,
    /// When the secrets were changed last, in Unix seconds; 0 = unknown.
    secrets_s: u64,
}

/// The clocks that a hello is compared with.
#[derive(Debug, Clone, Copy)]
pub struct ReplayClock {
    /// Milliseconds since start.
    pub now_ms: u64,
    /// The wall-clock time of the start, since 1970; `None` = the clock is not set.
    pub started: Option<Duration>,
}

impl Replay {
    /// An empty store of 4 KB that begins at `now_ms`, in milliseconds since start. It grows to at
    /// most `max_bytes` (at least 8 KB), including both copies of a table that is being doubled.
    pub fn new(max_bytes: usize, now_ms: u64) -> Self {
        let (young, old) = (Generation::new(FIRST_SLOTS), Generation::new(0));
        Self {
            young,
            old,
            hash: RandomState::new(),
            max_slots: slots_within(max_bytes),
            recent: VecDeque::new(),
            recent_max: 0,
            dropped_s: 0,
            valid_from_s: 0,
            begun_ms: Some(now_ms),
            secrets_s: 0,
        }
    }

    /// Changes the bound of [`Replay::new`]. Generations that fit in the new bound are kept.
    pub fn set_max_bytes(&mut self, max_bytes: usize, now_ms: u64) {
        self.max_slots = slots_within(max_bytes);
        for generation in [&mut self.old, &mut self.young] {
            if generation.slots.len() > self.max_slots {
                *generation = Generation::new(0);
                self.begun_ms = Some(now_ms);
            }
        }
        if self.young.slots.is_empty() {
            self.young = Generation::new(FIRST_SLOTS);
        }
    }

    /// Sets when the secrets were changed last, in Unix seconds. No process has accepted a hello
    /// from long before that.
    pub fn set_secrets_time(&mut self, unix_s: u64) {
        self.secrets_s = unix_s;
    }

    /// From now on, the newest digests are kept for [`Replay::saved`]: 8 KB.
    pub fn keep_recent(&mut self) {
        self.recent_max = RECENT_MAX;
    }

    /// What to write at the end of the process, at this Unix time in seconds. `None` = neither the
    /// digests before nor the time are known.
    pub fn saved(&self, started: Option<Duration>, unix_s: u64) -> Option<SavedReplays> {
        let begun_s = match self.begun_ms {
            Some(begun_ms) => begun_s(started?, begun_ms),
            None => 0,
        };
        // A client whose clock is ahead must not lock out the others.
        let unsaved_s = (u64::from(self.dropped_s) + 1).min(unix_s);
        Some(SavedReplays {
            digests: self.recent.iter().map(|(digest, _)| *digest).collect(),
            valid_from_s: unsaved_s.max(begun_s).max(self.valid_from_s),
        })
    }

    /// Adds what the process before has saved, at this Unix time in seconds. The store is complete
    /// then.
    pub fn restore(&mut self, saved: &SavedReplays, unix_s: u64) {
        let stamp_s = u32::try_from(unix_s).unwrap_or(u32::MAX);
        for digest in &saved.digests {
            self.insert(*digest, stamp_s);
        }
        self.valid_from_s = saved.valid_from_s;
        self.begun_ms = None;
    }

    /// The latest time of a hello that [`Replay::saved`] does not contain, in Unix seconds.
    pub fn latest_unsaved_s(&self) -> u64 {
        self.dropped_s.into()
    }

    /// Adds the digest of a hello and its time in Unix seconds. Returns whether it counts as a
    /// replay: it was in the store before, or a process before may have accepted it.
    pub fn is_replay(&mut self, digest: &[u8; 28], stamp_s: u32, clock: ReplayClock) -> bool {
        let is_known = !self.insert(folded(digest), stamp_s);
        is_known || self.may_be_known(stamp_s.into(), clock)
    }

    /// Whether a process before may have accepted a hello of this time, and its digest is lost.
    fn may_be_known(&self, stamp_s: u64, clock: ReplayClock) -> bool {
        if stamp_s < self.valid_from_s {
            return true;
        }
        let Some(begun_ms) = self.begun_ms else { return false };
        match clock.started {
            // Whole seconds: a client whose clock is right gets in at once.
            Some(started) => {
                stamp_s < begun_s(started, begun_ms)
                    && stamp_s.saturating_add(CLOCKS_DIFFER_S) >= self.secrets_s
            }
            // No time can be compared. A router that never gets the time must work some day.
            None => clock.now_ms < begun_ms.saturating_add(UNSET_WAIT_MS),
        }
    }

    /// Adds a digest, [`folded`]. Returns whether it is new.
    fn insert(&mut self, digest: u64, stamp_s: u32) -> bool {
        // 0 marks an empty slot.
        let fingerprint = self.hash.hash_one(digest).max(1);
        if self.young.contains(fingerprint) || self.old.contains(fingerprint) {
            return false;
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
        self.recent.push_back((digest, stamp_s));
        while self.recent.len() > self.recent_max
            && let Some((_, dropped_s)) = self.recent.pop_front()
        {
            self.dropped_s = self.dropped_s.max(dropped_s);
        }
        true
    }

    /// Size of the tables in bytes.
    pub fn bytes(&self) -> usize {
        (self.young.slots.len() + self.old.slots.len()) * size_of::<u64>()
    }
}

/// When a store was begun, in Unix seconds.
fn begun_s(started: Duration, begun_ms: u64) -> u64 {
    (started + Duration::from_millis(begun_ms)).as_secs()
}

/// The words of a digest, XORed.
fn folded(digest: &[u8; 28]) -> u64 {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    digest.chunks(size_of::<u64>()).map(word).fold(0, |one, next| one ^ next)
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
/// Digests that survive a restart. With the default tolerance of two minutes a recorded hello is of
/// use for four, so this is enough for two clients per second.
const RECENT_MAX: usize = 512;
/// Seconds by which the clocks of clients and of files may differ.
const CLOCKS_DIFFER_S: u64 = 30;
/// How long all hellos count as replays if neither the digests before nor the time are known.
const UNSET_WAIT_MS: u64 = 120_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> [u8; 28] {
        let mut digest = [0; 28];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        digest
    }

    /// A store that knows what was accepted before.
    fn complete(max_bytes: usize) -> Replay {
        let mut replay = Replay::new(max_bytes, 0);
        replay.restore(&SavedReplays::default(), START_S);
        replay
    }

    fn seen(replay: &mut Replay, number: u32, stamp_s: u64) -> bool {
        replay.is_replay(&digest(number), stamp_s as u32, clock(500))
    }

    /// The process started half a second after [`START_S`].
    fn clock(now_ms: u64) -> ReplayClock {
        ReplayClock { now_ms, started: Some(Duration::from_millis(START_S * 1000 + 500)) }
    }

    const START_S: u64 = 1_800_000_000;

    #[test]
    fn the_second_time_is_a_replay_and_the_first_is_not() {
        let mut replay = complete(1 << 20);
        assert_eq!(replay.bytes(), 4096);
        for number in 0..10_000 {
            assert!(!seen(&mut replay, number, START_S), "{number}");
        }
        for number in 0..10_000 {
            assert!(seen(&mut replay, number, START_S), "{number}");
        }
        assert!(replay.bytes() <= 256 * 1024, "{}", replay.bytes());
    }

    #[test]
    fn the_store_stays_within_its_bound_and_keeps_the_latest() {
        for max_bytes in [0, 4096, 10_000, 65_536] {
            let mut replay = complete(max_bytes);
            for number in 0..50_000 {
                seen(&mut replay, number, START_S);
                assert!(replay.bytes() <= max_bytes.max(8192));
            }
            assert!((49_700..50_000).all(|number| seen(&mut replay, number, START_S)));
        }
    }

    #[test]
    fn what_was_accepted_before_a_restart_is_a_replay_after_it() {
        let mut before = complete(1 << 20);
        before.keep_recent();
        for number in 0..RECENT_MAX as u32 {
            assert!(!seen(&mut before, number, START_S - 60 + u64::from(number) / 10));
        }
        let saved = before.saved(None, START_S).unwrap();
        assert_eq!((saved.digests.len(), saved.valid_from_s), (RECENT_MAX, 1));
        let mut after = Replay::new(1 << 20, 0);
        after.keep_recent();
        after.restore(&saved, START_S);
        assert!((0..RECENT_MAX as u32).all(|number| seen(&mut after, number, START_S - 60)));
        assert!(!seen(&mut after, 1_000, START_S - 119), "a slow clock");
        // A second restart. The oldest digest has made room for the new one.
        let saved = after.saved(None, START_S + 9).unwrap();
        assert_eq!((saved.digests.len(), saved.valid_from_s), (RECENT_MAX, START_S + 1));
        let mut third = Replay::new(1 << 20, 0);
        third.restore(&saved, START_S + 9);
        assert!(seen(&mut third, 0, START_S - 60) && seen(&mut third, 1_000, START_S + 5));
    }

    #[test]
    fn digests_that_were_not_saved_leave_their_time() {
        let mut before = complete(1 << 20);
        before.keep_recent();
        for number in 0..RECENT_MAX as u32 + 10 {
            seen(&mut before, number, START_S - 600 + u64::from(number));
        }
        let mut after = Replay::new(1 << 20, 0);
        after.restore(&before.saved(None, START_S).unwrap(), START_S);
        // The last one of those that were dropped.
        assert!(seen(&mut after, 9, START_S - 591) && !seen(&mut after, 9_999, START_S - 590));
        // A clock that is far ahead locks no other client out.
        let mut ahead = complete(1 << 20);
        seen(&mut ahead, 0, START_S + 119);
        let saved = ahead.saved(None, START_S).unwrap();
        assert_eq!((ahead.latest_unsaved_s(), saved.valid_from_s), (START_S + 119, START_S));
    }

    #[test]
    fn without_the_digests_before_hellos_from_before_the_start_are_replays() {
        let mut lost = Replay::new(1 << 20, 0);
        assert!(seen(&mut lost, 0, START_S - 1) && seen(&mut lost, 1, START_S - 119));
        assert!(!seen(&mut lost, 2, START_S) && !seen(&mut lost, 3, START_S + 119));
        // The clock is set an hour later: the start moves with it.
        let started = Some(Duration::from_secs(START_S + 3_600));
        let late = ReplayClock { now_ms: 60_000, started };
        assert!(lost.is_replay(&digest(4), (START_S + 3_599) as u32, late));
        assert!(!lost.is_replay(&digest(5), (START_S + 3_600) as u32, late));
        // The loss is remembered over an orderly end.
        let started = clock(0).started;
        assert_eq!(lost.saved(started, START_S + 9).unwrap().valid_from_s, START_S + 9);
        let quiet = Replay::new(1 << 20, 0);
        assert_eq!(quiet.saved(started, START_S + 9).unwrap().valid_from_s, START_S);
        assert_eq!(quiet.saved(None, 9), None);
        // Without a clock all count as replays for two minutes.
        let unset = |now_ms| ReplayClock { now_ms, started: None };
        assert!(lost.is_replay(&digest(6), START_S as u32, unset(119_999)));
        assert!(lost.is_replay(&digest(6), START_S as u32, unset(120_000)), "seen meanwhile");
        assert!(!lost.is_replay(&digest(7), 0, unset(120_000)));
        // A store that is begun by a reload, or that loses its digests.
        for mut begun in [Replay::new(1 << 20, 90_000), complete(1 << 20)] {
            for number in 0..2_000 {
                seen(&mut begun, number, START_S + 80);
            }
            begun.set_max_bytes(0, 90_000);
            assert!(
                seen(&mut begun, 9_998, START_S + 89) && !seen(&mut begun, 9_999, START_S + 90)
            );
        }
    }

    #[test]
    fn no_process_has_accepted_a_hello_from_before_its_secret() {
        let mut first = Replay::new(1 << 20, 0);
        first.set_secrets_time(START_S - 1);
        assert!(!seen(&mut first, 0, START_S - 60), "a slow clock at the first start");
        assert!(seen(&mut first, 1, START_S - 31), "perhaps a clock that is 30 s behind");
    }
}
