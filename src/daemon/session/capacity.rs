//! How many sessions there may be, and how many of them may be fronted.

/// Limits of the number of sessions, and the fronted ones that count against theirs.
#[derive(Debug, Default)]
pub struct Capacity {
    /// Most sessions at once.
    pub sessions_max: u32,
    /// Fronted sessions that live now.
    pub fronted: u32,
    /// Most fronted sessions at once.
    pub fronted_max: u32,
}

impl Capacity {
    /// Sets the limit of sessions. Sessions over it stay until they end.
    pub fn set_sessions_max(&mut self, most: usize) {
        self.sessions_max = u32::try_from(most).unwrap_or(u32::MAX);
        // Unauthenticated clients may take half of the places, or all of the few that there are.
        let fronted_max = (most / 2).max(most.min(16));
        self.fronted_max = u32::try_from(fronted_max).unwrap_or(u32::MAX);
    }
}
