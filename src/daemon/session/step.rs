//! What one step of a session leads to.

/// What a stage returns: it stays, or the next stage takes over in the same step.
pub enum Step<S, N> {
    /// The stage stays; the scheduler does what `Turn` says.
    Stay(S, Turn),
    /// The stage is over.
    Next(N),
}

/// What the scheduler does with a session after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing until an event or a deadline.
    Wait,
    /// Queues the session again: it has more to do at once.
    Again,
    /// Wakes the session when the pool has a block: it wants to read and the pool is empty.
    NeedBlock,
    /// Closes the session.
    Close(CloseReason),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed.
    Finished,
    /// A peer reset the connection.
    Reset,
    /// Silence for longer than the idle limit.
    Idle,
    /// A peer accepted no bytes for too long.
    Stalled,
    /// The client did not finish its handshake in time.
    Handshake,
    /// An allowlist or blocklist refuses the client's address.
    Unwelcome,
    /// A PROXY protocol header is malformed or did not end in time.
    BadHeader,
    /// The client sent bytes that no client of ours sends.
    Garbled,
    /// The client left before the other side was connected.
    Gone,
    /// No address of the data centre or of the front could be reached.
    Unreachable,
    /// The client asked for an unknown data centre.
    UnknownDc,
    /// The front is one of our own listeners.
    Loop,
    /// A limit of ours was reached.
    Pressure,
    /// The user was removed, disabled, or given another secret.
    Revoked,
    /// The daemon is shutting down.
    Drained,
}

impl CloseReason {
    /// The word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Handshake => "handshake-timeout",
            Self::Unwelcome => "unwelcome",
            Self::BadHeader => "bad-proxy-header",
            Self::Garbled => "garbled",
            Self::Gone => "client-gone",
            Self::Unreachable => "unreachable",
            Self::UnknownDc => "unknown-dc",
            Self::Loop => "front-loop",
            Self::Pressure => "pressure",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
        }
    }
}
