//! Limits of the number of sessions, and of fronted ones among them.

/// Limits of the number of sessions, and the current number of fronted ones.
#[derive(Debug, Default)]
pub struct Capacity {
    /// Most sessions at once.
    pub sessions_max: u32,
    /// Live fronted sessions.
    pub fronted: u32,
    /// Most fronted sessions at once.
    pub fronted_max: u32,
}

impl Capacity {
    /// Sets the limit of sessions. Sessions over it stay until they end.
    pub fn set_sessions_max(&mut self, most: usize) {
        self.sessions_max = u32::try_from(most).unwrap_or(u32::MAX);
        // Half of all sessions may be fronted; if the limit is 16 or less, all of them.
        let fronted_max = (most / 2).max(most.min(16));
        self.fronted_max = u32::try_from(fronted_max).unwrap_or(u32::MAX);
    }
}
