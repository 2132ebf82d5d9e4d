//! The users, their counters and totals, and the causes of refusals and broken sessions.
//! Deterministic: time is a parameter.

pub mod recorder;
pub mod totals;
pub mod users;

use std::time::Duration;

use crate::accounts::totals::Totals;
use crate::accounts::users::{User, Users};

/// The users and what is counted for them.
pub struct Accounts {
    /// Names, keys and the counters since this start.
    pub users: Users,
    /// Totals over all restarts, when `state-file` keeps them.
    pub totals: Option<Totals>,
}

impl Accounts {
    /// Bytes from and to a user over all restarts, where `state-file` keeps them.
    pub fn totals_of(&self, user: &User) -> Option<(u64, u64)> {
        let base = self.totals.as_ref()?.base(user.name());
        let add = u64::wrapping_add;
        Some((add(base.bytes_in, user.bytes_in), add(base.bytes_out, user.bytes_out)))
    }

    /// When a user was last admitted or moved bytes, since 1970; includes earlier runs where
    /// `state-file` keeps them. `wall_of` converts milliseconds since start. A clock that is not
    /// set yet does not move the time back.
    pub fn last_seen(&self, user: &User, wall_of: impl Fn(u64) -> Duration) -> Option<Duration> {
        let kept = self.totals.as_ref().map(|totals| totals.base(user.name()).seen_s);
        let kept = kept.filter(|seen_s| *seen_s > 0).map(Duration::from_secs);
        user.last_seen_ms.map(wall_of).max(kept)
    }
}
