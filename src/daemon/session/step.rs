//! The result of one step of a session.

/// The result of a step of a stage.
pub enum Step<S, N> {
    /// The stage stays; the scheduler does what `Turn` says.
    Stay(S, Turn),
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
    /// Queue the session when the pool has a block: it could read, but the pool is empty.
    NeedBlock,
    /// Close the session.
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
    /// The client sent bytes that violate the protocol.
    Garbled,
    /// The client closed before the server was connected.
    Gone,
    /// No address of the data centre or of the front could be reached.
    Unreachable,
    /// The client asked for an unknown data centre.
    UnknownDc,
    /// The front is one of our own listeners.
    Loop,
    /// Buffer memory or slots for fronted sessions were exhausted.
    Pressure,
    /// The user was removed, disabled, or given another secret.
    Revoked,
    /// The daemon is shutting down.
    Drained,
}

impl CloseReason {
    /// The value of `why` in the log.
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
