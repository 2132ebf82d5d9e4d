//! Fair share of connections (max-min fairness): when the limit is reached, users with few
//! connections keep them, and users with many share the rest equally (COMPATIBILITY 6.3; DECISIONS
//! D5).

/// Computes the caps as mtg-multi does: a user with at most an equal share of the budget is not
/// capped, and the rest of the budget is shared among the others, until all of them are above the
/// share. `caps` and `counts` are indexed by user and have the same length. Returns whether any
/// user is capped. A cap can be 0.
pub fn fair_share(limit: u32, counts: &[u32], caps: &mut [Option<u32>]) -> bool {
    if total(counts) <= u64::from(limit) {
        caps.fill(None);
        return false;
    }
    // A cap marks a user who still shares the budget: at first every user.
    caps.fill(Some(limit));
    let (mut budget, mut sharers) = (limit, caps.len().min(counts.len()) as u32);
    while let Some(share) = budget.checked_div(sharers) {
        let before = sharers;
        // Each uncapped user takes at most `share`, so the budget cannot fall below 0.
        for (count, cap) in counts.iter().zip(caps.iter_mut()) {
            if cap.is_some() && *count <= share {
                *cap = None;
                budget -= count;
                sharers -= 1;
            }
        }
        if sharers == before {
            caps.iter_mut().flatten().for_each(|cap| *cap = share);
            return true;
        }
    }
    false
}

fn total(counts: &[u32]) -> u64 {
    counts.iter().copied().map(u64::from).sum()
}

/// The caps in force. They hold until they are computed again.
#[derive(Default)]
pub struct Throttle {
    limit: u32,
    caps: Vec<Option<u32>>,
    is_active: bool,
}

impl Throttle {
    /// No caps yet, for `users` users who share `limit` connections.
    pub fn new(limit: u32, users: usize) -> Self {
        Self { limit, caps: vec![None; users], is_active: false }
    }

    /// The number of connections that all users share.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether any user is capped.
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// The caps in force, indexed by user; at least 1 each, so that every user can connect.
    pub fn caps(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.caps.iter().map(|cap| cap.map(|cap| cap.max(1)))
    }

    /// The cap of one user, at least 1; `None` = not capped.
    pub fn cap(&self, user: usize) -> Option<u32> {
        self.caps.get(user).copied().flatten().map(|cap| cap.max(1))
    }

    /// Changes the shared limit; the caps follow at the next computation.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Computes the caps for these live connections, indexed by user. The number of users may
    /// change between calls.
    pub fn recompute(&mut self, counts: &[u32]) {
        self.caps.resize(counts.len(), None);
        self.is_active = fair_share(self.limit, counts, &mut self.caps);
    }

    /// Whether `user` may open one more connection. If that would exceed the limit, the caps are
    /// computed at once, with the new connection counted; otherwise the last caps apply. A user
    /// who is not in `counts` is refused.
    pub fn admit(&mut self, counts: &[u32], user: usize) -> bool {
        let Some(with_new) = counts.get(user).map(|count| count.saturating_add(1)) else {
            return false;
        };
        if total(counts) >= u64::from(self.limit) {
            let mut wanted = counts.to_vec();
            wanted[user] = with_new;
            self.recompute(&wanted);
        }
        match self.caps.get(user).copied().flatten() {
            Some(cap) => with_new <= cap.max(1),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Opens connections for `user` until one is refused or `most` are open.
    fn open(throttle: &mut Throttle, counts: &mut [u32], user: usize, most: u32) {
        while counts[user] < most && throttle.admit(counts, user) {
            counts[user] += 1;
        }
    }

    #[test]
    fn the_example_of_mtg_multi_comes_out_live() {
        let (mut throttle, mut counts) = (Throttle::new(100, 4), [0; 4]);
        for (user, most) in [(2, 90), (0, 1), (1, 1), (3, 110)] {
            open(&mut throttle, &mut counts, user, most);
        }
        assert_eq!(counts, [1, 1, 90, 49]);
        let caps: Vec<_> = throttle.caps().collect();
        assert_eq!(caps, [None, None, Some(49), Some(49)]);
    }

    #[test]
    fn caps_vanish_when_the_total_fits_again() {
        let (mut throttle, mut counts) = (Throttle::new(3, 2), [0, 0]);
        open(&mut throttle, &mut counts, 0, 10);
        assert_eq!((counts[0], throttle.is_active()), (3, true));
        assert!(!throttle.admit(&[3, 0], 0));
        throttle.recompute(&[1, 0]);
        assert!(!throttle.is_active() && throttle.admit(&[1, 0], 0));
    }

    #[test]
    fn more_users_than_connections_still_get_one_each() {
        let (mut throttle, mut counts) = (Throttle::new(2, 5), [0; 5]);
        for user in 0..5 {
            open(&mut throttle, &mut counts, user, 9);
        }
        assert!(counts.iter().all(|count| *count >= 1), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_lone_heavy_user_stops_exactly_at_the_limit(limit in 1..500u32, idle in 0..9usize) {
            let (mut throttle, mut counts) = (Throttle::new(limit, idle + 1), vec![0; idle + 1]);
            open(&mut throttle, &mut counts, idle, 1_000);
            prop_assert_eq!(counts[idle], limit);
        }

        #[test]
        fn a_user_below_the_equal_share_is_always_admitted(
            limit in 1..200u32,
            counts in proptest::collection::vec(0..80u32, 1..12),
            user in 0..12usize,
        ) {
            let user = user % counts.len();
            let mut throttle = Throttle::new(limit, counts.len());
            let share = limit / counts.len() as u32;
            if counts[user] < share.max(1) {
                prop_assert!(throttle.admit(&counts, user));
            }
        }

        #[test]
        fn light_users_and_caps_never_exceed_the_limit(
            limit in 1..200u32,
            counts in proptest::collection::vec(0..80u32, 1..12),
        ) {
            let mut caps = vec![None; counts.len()];
            fair_share(limit, &counts, &mut caps);
            let allowed: u32 =
                counts.iter().zip(&caps).map(|(count, cap)| cap.unwrap_or(*count)).sum();
            prop_assert!(allowed <= limit);
        }
    }
}
