//! Limits of the number of sessions, of users' and of fronted ones among them.

/// Limits of the number of sessions, and the current number of fronted ones.
#[derive(Debug, Default)]
pub struct Capacity {
    /// Most sessions at once.
    pub sessions_max: u32,
    /// Most sessions of users at once. The other places are for connections that have not shown
    /// yet whose they are, and for fronted ones.
    pub users_max: u32,
    /// Live fronted sessions.
    pub fronted: u32,
    /// Most fronted sessions at once.
    pub fronted_max: u32,
}

impl Capacity {
    /// Sets the limits for `most` sessions at once. Sessions over them stay until they end.
    pub fn set_sessions_max(&mut self, most: usize) {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.sessions_max = most;
        // An eighth is for newcomers, so that a user who is below the fair share can say so.
        self.users_max = most - most / 8;
        // Half of all sessions may be fronted; if the limit is 16 or less, all of them.
        self.fronted_max = (most / 2).max(most.min(16));
    }

    /// Whether there are more fronted sessions than permitted.
    pub fn is_fronted_exceeded(&self) -> bool {
        self.fronted > self.fronted_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_eight_places_on_a_newcomer_has_one() {
        for most in [1, 2, 7, 8, 9, 480, 4096, usize::MAX] {
            let mut capacity = Capacity::default();
            capacity.set_sessions_max(most);
            let has_place = capacity.users_max < capacity.sessions_max;
            assert_eq!(has_place, most >= 8, "{most}");
            assert!((1..=capacity.sessions_max).contains(&capacity.fronted_max), "{most}");
        }
    }
}
