//! From how a connection went to what its owner is told: which cause a refusal or the end of a
//! session is, for the recorder.

use std::net::IpAddr;

use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::UserId;
use crate::daemon::session::{CloseReason, Session, Stage};
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::proto::client_hello::Reject;

/// A hello that was not answered by us.
pub fn of_hello(world: &mut World, addr: IpAddr, why: Reject, user: Option<UserId>) {
    let (cause, detail) = match why {
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
    };
    match user {
        Some(user) => world.record_user(user, cause, detail),
        None => world.telemetry.record_client(addr, cause),
    }
}

/// The end of a session, before its counts are given back. What went well is no cause, and what
/// has been told where it happened is not told again.
pub fn of_end<W>(session: &Session<W>, world: &mut World, why: CloseReason) {
    let Some(user) = session.user else {
        if why == CloseReason::Pressure {
            world.telemetry.record_client(session.addr, Cause::Pressure);
        }
        return;
    };
    let cause = match (why, &session.stage) {
        (CloseReason::Idle, _) => Cause::Idle,
        (CloseReason::Stalled, _) => Cause::Stalled,
        (CloseReason::Pressure, _) => Cause::Pressure,
        (CloseReason::Revoked, _) => Cause::Revoked,
        (CloseReason::Garbled, _) => Cause::Garbled,
        (CloseReason::Handshake | CloseReason::Gone | CloseReason::Reset, Stage::AwaitFrame(_)) => {
            Cause::Silent
        }
        _ => return,
    };
    world.record_user(user, cause, Detail::None);
}

/// Telegram's end has finished, or broken, before a byte of it came and before the client's did.
/// After a while that is how a connection ends that nobody used.
pub fn of_hang_up(user: Option<UserId>, born: Tick, world: &mut World) {
    if let Some(user) = user
        && world.time.now.0 < born.0 + SOON_MS
    {
        world.record_user(user, Cause::DcHungUp, Detail::None);
    }
}

/// Telegram answers within a second, even over bad lines within a few.
const SOON_MS: u64 = 10_000;
