//! The two directions of a session.

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the data centre or the front.
    Up,
    /// From the data centre or the front to the client.
    Down,
}
