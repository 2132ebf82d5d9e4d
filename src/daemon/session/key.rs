//! Keys of sessions: poll tokens and timers.

/// The index of a session in the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKey(u32);

impl SessionKey {
    /// The key of a slab index.
    pub fn of_index(index: usize) -> Self {
        Self(index as u32)
    }

    /// The session and the slot that a poll token belongs to.
    pub fn of_token(token: usize) -> (Self, usize) {
        (Self::of_index(token / SLOTS_PER_SESSION), token % SLOTS_PER_SESSION)
    }

    /// The session that a key of the timer wheel belongs to; `None` = [`TIMER_THROTTLE`].
    pub fn of_timer(timer: u32) -> Option<Self> {
        timer.checked_sub(1).map(Self)
    }

    /// The slab index, as the key in the ready queue.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The slab index.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The poll token of one of the session's sockets: slot [`CLIENT_SLOT`] is the client, the
    /// others are sockets that may be connecting.
    pub fn token(self, slot: usize) -> usize {
        self.index() * SLOTS_PER_SESSION + slot
    }

    /// The session's key in the timer wheel.
    pub fn timer(self) -> u32 {
        self.0 + 1
    }
}

/// The timer of the fair-share throttle; sessions have the other keys of the wheel.
pub const TIMER_THROTTLE: u32 = 0;

/// Poll tokens per session: the client, and two sockets that may be connecting.
pub const SLOTS_PER_SESSION: usize = 4;

/// The slot of the client's socket.
pub const CLIENT_SLOT: usize = 0;

/// The first of the slots for sockets to the server.
pub const SERVER_SLOTS: usize = 1;
