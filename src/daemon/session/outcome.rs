//! Maps a rejected hello and the end of a session to the cause that `mtbox explain` reports.

use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::step::CloseReason;
use crate::proto::client_hello::Reject;

/// The phase of a session, for counters and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before our answer to the hello.
    Opening,
    /// Our answer is sent; the client's 64-byte frame is not complete.
    AwaitingFrame,
    /// Connecting to Telegram or to the front.
    Dialling,
    /// Bytes of a user are forwarded.
    Relaying,
    /// Bytes of an unauthenticated client are forwarded.
    Fronting,
    /// A graceful close; the session is no longer counted.
    Closing,
}

/// The cause of a rejected hello.
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

/// The cause of the end of a user's session. `None` = no failure, or the failure was recorded
/// earlier.
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

/// Telegram answers within a second, or within a few over a bad network. If Telegram closes a
/// connection later without a byte, the app did not use it.
pub const DC_ANSWERS_WITHIN: Duration = Duration::from_secs(10);
