//! How a connection was refused or ended: one value. The word in the log, the cause for
//! `mtbox explain`, the counter and the bucket of the probe summary follow from it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::admin::counters::Counters;
use crate::daemon::session::standing::{Room, Standing};
use crate::daemon::upstream::proxies::UpstreamId;
use crate::proto::client_hello::Reject;

/// How a connection was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The limit of connections was reached.
    Full,
    /// A list refuses the client's address.
    Listed {
        /// [`Cause::Blocklisted`] or [`Cause::NotAllowlisted`].
        cause: Cause,
        /// The client counts as a probe. One from a private network does not.
        is_probe: bool,
    },
    /// The PROXY protocol header is malformed or did not end in time.
    BadHeader,
    /// A balancer that announces clients in PROXY headers closed without a byte or a client.
    HealthCheck,
    /// A relay at this address and the config disagree about PROXY protocol headers.
    Header(Cause, IpAddr),
    /// The hello is not acceptable; the session goes on to the front.
    Rejected(Reject),
    /// All places for fronted sessions are in use.
    NoRoom,
    /// Too many unauthenticated clients wait for their connection to the front.
    DialLimit,
    /// Closed to make this kind of room.
    Evicted(Standing, Room),
    /// The client's frame did not arrive in time.
    HandshakeTimeout,
    /// The client closed before its frame was complete.
    GoneBeforeFrame,
    /// The client reset the connection before its frame was complete.
    ResetBeforeFrame,
    /// The client sent bytes that violate the protocol.
    Garbled,
    /// The client asked for this unknown data centre.
    UnknownDc(u16),
    /// No address of the data centre could be reached.
    DcUnreachable(Cause, Detail),
    /// No address of the front could be reached.
    FrontUnreachable(Cause, Detail),
    /// The client closed before the server was connected, and perhaps what it had waited for.
    Gone(Option<(Cause, Detail)>),
    /// This address of Telegram took the connection, and closed it or sent no byte in time. The
    /// session ends when the client has closed.
    DcHungUp(SocketAddr),
    /// The proxy of this number has connected Telegram, but no byte came back in time.
    ProxyDown(UpstreamId),
    /// Both sides closed.
    Finished,
    /// A peer reset the connection.
    Reset,
    /// Silence for longer than the idle limit.
    Idle,
    /// A peer accepted no bytes for too long.
    Stalled,
    /// The user was removed, disabled, or given another secret.
    Revoked,
    /// The daemon is shutting down.
    Drained,
}

impl Outcome {
    /// The value of `why` in the log.
    pub fn why(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::DialLimit => "dial-limit",
            Self::Evicted(..) => "evicted",
            Self::Listed { .. } => "unwelcome",
            Self::BadHeader => "bad-proxy-header",
            Self::Header(cause, _) => cause.as_str(),
            Self::HealthCheck | Self::GoneBeforeFrame | Self::Gone(_) => "client-gone",
            Self::Rejected(why) => why.as_str(),
            Self::NoRoom => "pressure",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::ResetBeforeFrame | Self::Reset => "reset",
            Self::Garbled => "garbled",
            Self::UnknownDc(_) => "unknown-dc",
            Self::FrontUnreachable(Cause::FrontLoop, _) => "front-loop",
            Self::FrontUnreachable(Cause::FrontNotPublic, _) => "front-not-public",
            Self::DcUnreachable(..) | Self::FrontUnreachable(..) => "unreachable",
            Self::DcHungUp(_) => "dc-hung-up",
            Self::ProxyDown(_) => "proxy-down",
            Self::Finished => "finished",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
        }
    }

    /// The cause that is recorded; `None` = not a failure.
    pub fn cause(self) -> Option<(Cause, Detail)> {
        let cause = match self {
            Self::Full => Cause::Full,
            Self::Listed { cause, .. } => cause,
            Self::BadHeader => Cause::BadHeader,
            Self::Header(cause, sender) => return Some((cause, Detail::Sender(sender))),
            Self::Rejected(why) => return cause_of_reject(why),
            Self::NoRoom => Cause::Pressure,
            Self::DialLimit => Cause::DialLimit,
            Self::Evicted(Standing::User(_), _) => Cause::OverShare,
            Self::Evicted(..) => Cause::MadeRoom,
            Self::HandshakeTimeout | Self::GoneBeforeFrame | Self::ResetBeforeFrame => {
                Cause::Silent
            }
            Self::Garbled => Cause::Garbled,
            Self::UnknownDc(dc) => return Some((Cause::UnknownDc, Detail::Dc(dc))),
            Self::DcUnreachable(cause, detail) | Self::FrontUnreachable(cause, detail) => {
                return Some((cause, detail));
            }
            Self::Gone(failure) => return failure,
            Self::DcHungUp(addr) => return Some((Cause::DcHungUp, Detail::NoByte(addr))),
            Self::ProxyDown(id) => return Some((Cause::ProxyDown, Detail::Upstream(id.0))),
            Self::Idle => Cause::Idle,
            Self::Stalled => Cause::Stalled,
            Self::Revoked => Cause::Revoked,
            Self::HealthCheck | Self::Finished | Self::Reset | Self::Drained => return None,
        };
        Some((cause, Detail::None))
    }

    /// The counter of the daemon that counts it.
    pub fn counter(self, counters: &mut Counters) -> Option<&mut u64> {
        Some(match self {
            Self::Full => &mut counters.concurrency_limited,
            Self::BadHeader => &mut counters.bad_headers,
            Self::Rejected(Reject::Replay) => &mut counters.replays,
            Self::Rejected(Reject::Throttled) => &mut counters.throttled,
            Self::NoRoom => &mut counters.pressed,
            Self::DialLimit => &mut counters.dials_refused,
            Self::Evicted(who, room) => &mut counters.evicted[room as usize][who.index()],
            Self::DcUnreachable(..) => &mut counters.unreachable,
            _ => return None,
        })
    }

    /// The field of `event=probe-summary` that counts it; `None` = not a probe.
    pub fn summary_bucket(self) -> Option<&'static str> {
        Some(match self {
            Self::Listed { is_probe: true, .. } => "listed",
            Self::BadHeader => "bad_header",
            Self::Header(cause, _) if cause.is_refusal() => "not_tls",
            Self::DialLimit
            | Self::NoRoom
            | Self::Evicted(Standing::Unknown | Standing::Fronted, _) => "no_room",
            Self::Rejected(why) => match why {
                Reject::WrongKey => "wrong_key",
                Reject::NoSni => "no_sni",
                Reject::ForeignSni => "foreign_sni",
                Reject::Truncated | Reject::TooSlow => "unfinished",
                Reject::Silent => "silent",
                Reject::Replay => "replay",
                // A user with a problem sent it.
                Reject::ClockOff { .. } | Reject::Throttled | Reject::Disabled => return None,
                _ => "not_tls",
            },
            _ => return None,
        })
    }

    /// Whether the front failed, or a data centre: not a fault of the client or its network.
    pub fn is_of_server(self) -> bool {
        matches!(self, Self::DcUnreachable(..) | Self::FrontUnreachable(..) | Self::Gone(_))
    }
}

fn cause_of_reject(why: Reject) -> Option<(Cause, Detail)> {
    let cause = match why {
        Reject::WrongKey => Cause::WrongKey,
        Reject::ForeignSni => Cause::UnknownHost,
        Reject::Truncated | Reject::TooSlow => Cause::UnfinishedHello,
        Reject::ClockOff { off_s } => {
            let off_s = off_s.clamp(i32::MIN.into(), i32::MAX.into());
            return Some((Cause::ClockOff, Detail::ClockOffset(off_s as i32)));
        }
        Reject::Replay => Cause::Replay,
        Reject::Throttled => Cause::Throttled,
        Reject::Disabled => Cause::Disabled,
        // A port scan or a health check: nothing to explain.
        Reject::Silent => return None,
        _ => Cause::NotAClient,
    };
    Some((cause, Detail::None))
}

/// Telegram answers within a second, or within a few over a bad network. If Telegram closes a
/// connection later without a byte, the app did not use it.
pub const DC_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::admin::probe_summary::BUCKETS;

    #[test]
    fn every_reject_of_a_probe_has_a_bucket_of_the_summary_and_a_cause() {
        let rejects = [
            Reject::NotTls,
            Reject::Version,
            Reject::RecordTooLong,
            Reject::NotHello,
            Reject::HelloTooLong,
            Reject::TooManyRecords,
            Reject::Malformed,
            Reject::Truncated,
            Reject::TooSlow,
            Reject::Silent,
            Reject::NoSni,
            Reject::ForeignSni,
            Reject::NoCipher,
            Reject::WrongKey,
            Reject::Replay,
        ];
        let listed = Outcome::Listed { cause: Cause::Blocklisted, is_probe: true };
        let others = [Outcome::BadHeader, Outcome::NoRoom, listed];
        let probes = rejects.into_iter().map(Outcome::Rejected).chain(others);
        for outcome in probes {
            let bucket = outcome.summary_bucket().unwrap();
            assert!(BUCKETS.contains(&bucket), "{bucket}");
            let is_silent = outcome == Outcome::Rejected(Reject::Silent);
            assert_eq!(outcome.cause().is_none(), is_silent, "{outcome:?}");
        }
        for of_user in [Reject::ClockOff { off_s: 300 }, Reject::Throttled, Reject::Disabled] {
            assert_eq!(Outcome::Rejected(of_user).summary_bucket(), None);
        }
    }

    #[test]
    fn a_clock_offset_beyond_the_range_is_cut() {
        let outcome = Outcome::Rejected(Reject::ClockOff { off_s: i64::MIN });
        assert_eq!(outcome.cause(), Some((Cause::ClockOff, Detail::ClockOffset(i32::MIN))));
    }
}
