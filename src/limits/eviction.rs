//! Who makes room for another one at a limit: the owner who holds most gives up its worst
//! connection.

use std::cmp::Reverse;

/// A connection that may be closed for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionCandidate<K> {
    /// What the caller calls it.
    pub key: K,
    /// Who pays for it: a user, or the network of an unauthenticated client.
    pub owner: u64,
    /// What it holds: 1 for its place, or bytes.
    pub weight: u64,
    /// Counts for its owner, but does not go.
    pub stays: bool,
    /// Among those of one owner, the others go first.
    pub is_spared: bool,
    /// When it last did what it is for, in milliseconds since start. The longest ago goes first.
    pub since_ms: u64,
    /// Its number: many are accepted within one millisecond, and the first of them goes first.
    pub id: u64,
}

/// Sorts the candidates in the order in which they have to go. First goes the worst connection of
/// the owner who holds most; then the worst of the owner who holds most without it, and so on.
/// Keeps at most `most`, and only those whose owners hold more than half of the first one's when
/// they go: meanwhile newcomers may have changed who holds most.
pub fn rank<K>(candidates: &mut Vec<EvictionCandidate<K>>, most: usize) {
    // Worst last, so that the sum at each of them is what its owner holds when it goes.
    candidates
        .sort_unstable_by_key(|one| (one.owner, one.stays, one.is_spared, one.since_ms, one.id));
    let (mut owner, mut held) = (None, 0_u64);
    for one in candidates.iter_mut().rev() {
        held = if owner == Some(one.owner) { held } else { 0 }.saturating_add(one.weight);
        (owner, one.weight) = (Some(one.owner), held);
    }
    candidates.retain(|one| !one.stays);
    candidates
        .sort_unstable_by_key(|one| (Reverse(one.weight), one.is_spared, one.since_ms, one.id));
    let held_most = candidates.first().map_or(0, |one| one.weight);
    let is_kept = |one: &EvictionCandidate<K>| one.weight.saturating_mul(2) > held_most;
    candidates.truncate(candidates.iter().take_while(|one| is_kept(one)).count().min(most));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn one(key: u32, owner: u64, since_ms: u64) -> EvictionCandidate<u32> {
        EvictionCandidate {
            key,
            owner,
            weight: 1,
            stays: false,
            is_spared: true,
            since_ms,
            id: key.into(),
        }
    }

    fn ranked(mut candidates: Vec<EvictionCandidate<u32>>) -> Vec<u32> {
        rank(&mut candidates, usize::MAX);
        candidates.into_iter().map(|one| one.key).collect()
    }

    #[test]
    fn the_oldest_of_the_owner_with_most_goes_first() {
        let mut all = vec![one(0, 7, 1), one(1, 8, 5), one(2, 8, 6), one(3, 8, 4)];
        assert_eq!(ranked(all.clone()), [3, 1], "0 and 2 hold less than half of three");
        all[2].is_spared = false;
        assert_eq!(ranked(all.clone()), [2, 3]);
        all[0].weight = 5;
        assert_eq!(ranked(all.clone()), [0, 2]);
        all[0].stays = true;
        all.push(one(4, 7, 9));
        assert_eq!(ranked(all), [4], "0 counts for the owner of 4");
        assert_eq!(ranked(vec![one(0, 1, 2), one(1, 2, 1), one(2, 3, 3)]), [1, 0, 2]);
    }

    #[test]
    fn the_list_is_cut() {
        let mut all: Vec<_> = (0..9).map(|key| one(key, 1, key.into())).collect();
        rank(&mut Vec::<EvictionCandidate<u32>>::new(), 2);
        rank(&mut all, 2);
        assert_eq!(all.iter().map(|one| one.key).collect::<Vec<_>>(), [0, 1]);
    }

    prop_compose! {
        fn candidates()(
            rows in proptest::collection::vec((0..5u64, 0..20u64, any::<bool>()), 1..40)
        )
            -> Vec<EvictionCandidate<u32>>
        {
            let row = |(key, (owner, since_ms, is_spared)): (usize, (u64, u64, bool))| {
                EvictionCandidate { is_spared, ..one(key as u32, owner, since_ms) }
            };
            rows.into_iter().enumerate().map(row).collect()
        }
    }

    proptest! {
        /// The newest connection of an owner who holds fewer than another one stays.
        #[test]
        fn each_goes_while_its_owner_holds_most(all in candidates()) {
            let mut held = BTreeMap::<u64, u64>::new();
            all.iter().for_each(|one| *held.entry(one.owner).or_default() += 1);
            for key in ranked(all.clone()) {
                let owner = all[key as usize].owner;
                prop_assert_eq!(held[&owner], held.values().copied().max().unwrap());
                held.entry(owner).and_modify(|count| *count -= 1);
            }
        }

        #[test]
        fn within_an_owner_the_spared_go_last_and_the_oldest_first(all in candidates()) {
            let order = ranked(all.clone());
            let place = |key: u32| order.iter().position(|other| *other == key);
            for a in &all {
                for b in all.iter().filter(|b| b.owner == a.owner && place(b.key).is_some()) {
                    if (a.is_spared, a.since_ms) < (b.is_spared, b.since_ms) {
                        prop_assert!(place(a.key).is_some() && place(a.key) < place(b.key));
                    }
                }
            }
        }
    }
}
