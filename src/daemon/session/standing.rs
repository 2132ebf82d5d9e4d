//! Whose place a session takes, and what it may have to make room for.

use crate::accounts::users::UserId;
use crate::daemon::session::key::SessionKey;

/// Whose place a session takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not known yet, or no longer: the hello is incomplete, or the session is closing.
    Unknown,
    /// An unauthenticated client's, at the front.
    Fronted,
    /// That of this user.
    User(UserId),
}

impl Standing {
    /// The values of `who` in the log and in metrics, by [`Standing::index`].
    pub const NAMES: [&str; 3] = ["unfinished", "fronted", "user"];

    /// The value of `who` in the log and in metrics.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// The index of the kind, from 0.
    pub fn index(self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Fronted => 1,
            Self::User(_) => 2,
        }
    }
}

/// What an eviction makes room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A connection that was accepted.
    Place,
    /// A fronted session.
    Front,
    /// A session of a user.
    User,
    /// Bytes of a session that waits for memory.
    Memory,
}

impl Room {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Place, Self::Front, Self::User, Self::Memory];

    /// The value of `room` in the log and in metrics.
    pub fn as_str(self) -> &'static str {
        ["place", "front", "user", "memory"][self as usize]
    }
}

/// Ranked sessions for each kind of room, the next one last. A list serves several evictions, so
/// that a flood of newcomers does not search all sessions each time.
pub type Victims = [Vec<Victim>; Room::ALL.len()];

/// A session as it was when the list was made.
pub struct Victim {
    /// Its key.
    pub key: SessionKey,
    /// The number of the session: the key may belong to another one now.
    pub id: u64,
    /// Whose place it takes.
    pub standing: Standing,
    /// Since when it has been of no use.
    pub since_ms: u64,
}
