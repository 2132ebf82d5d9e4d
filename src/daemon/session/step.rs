//! The result of one step of a session.

use crate::daemon::session::outcome::Outcome;

/// The result of a step of a stage.
pub enum Step<N> {
    /// The stage stays; the scheduler does what `Turn` says.
    Stay(Turn),
    /// The next stage continues in the same step.
    Next(N),
}

/// The scheduler's action for a session after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Wait for an event or a deadline.
    Wait,
    /// Queue the session again: it has more work.
    Again,
    /// Queue the session when its class has room for this many bytes: it could read, but not keep
    /// what it reads.
    NeedMemory(u32),
    /// Close the session.
    Close(Outcome),
}
