//! From how a connection went to what `mtbox explain` reports: the cause of a rejected hello and of
//! the end of a session.

use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::step::CloseReason;
use crate::proto::client_hello::Reject;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before our answer.
    Opening,
    /// Our answer is out; the 64-byte frame of the client has not come.
    AwaitingFrame,
    /// The server is being connected.
    Dialling,
    /// Bytes of a user are forwarded.
    Relaying,
    /// Bytes of an unauthenticated client are forwarded.
    Fronting,
    /// The session has left the counters and is closed gracefully.
    Closing,
}

/// The cause of a hello that we do not answer.
pub fn of_reject(reject: Reject) -> (Cause, Detail) {
    match reject {
        Reject::WrongKey => (Cause::WrongKey, Detail::None),
        Reject::ForeignSni => (Cause::UnknownHost, Detail::None),
        Reject::Truncated | Reject::TooSlow => (Cause::UnfinishedHello, Detail::None),
        Reject::ClockOff { off_s } => {
            let off_s = off_s.clamp(i32::MIN.into(), i32::MAX.into());
            (Cause::ClockOff, Detail::ClockOffset(off_s as i32))
        }
        Reject::Replay => (Cause::Replay, Detail::None),
        Reject::Throttled => (Cause::Throttled, Detail::None),
        Reject::Disabled => (Cause::Disabled, Detail::None),
        _ => (Cause::NotAClient, Detail::None),
    }
}

/// The cause of a user's session that ends. `None` = it went well, or the cause was recorded where
/// it happened.
pub fn of_close(reason: CloseReason, phase: Phase) -> Option<Cause> {
    match (reason, phase) {
        (CloseReason::Idle, _) => Some(Cause::Idle),
        (CloseReason::Stalled, _) => Some(Cause::Stalled),
        (CloseReason::Pressure, _) => Some(Cause::Pressure),
        (CloseReason::Revoked, _) => Some(Cause::Revoked),
        (CloseReason::Garbled, _) => Some(Cause::Garbled),
        (CloseReason::Handshake | CloseReason::Gone | CloseReason::Reset, Phase::AwaitingFrame) => {
            Some(Cause::Silent)
        }
        _ => None,
    }
}

/// Telegram answers within a second, over bad lines within a few. A connection that Telegram
/// closes later without a byte is one that the app did not use.
pub const DC_ANSWERS_WITHIN: Duration = Duration::from_secs(10);
