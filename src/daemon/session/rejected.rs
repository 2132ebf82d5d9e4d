//! What is logged and recorded about a client that is rejected.

use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::UserId;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::client::Client;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::upstream::connect;
use crate::io::logger::{Maybe, event, fields};
use crate::io::wire::Wire;
use crate::proto::client_hello::Reject;

/// The outcome for a client whose bytes would come back to us: a reset, so that the connection that
/// has brought it ends as well.
pub fn loop_outcome<W: Wire>(client: &mut Client<W>, accounting: &mut Accounting<'_>) -> Outcome {
    accounting.telemetry.warn(fields!("front-loop", hint = ?connect::LOOP_HINT));
    client.endpoint.wire.reset_on_close();
    Outcome::FrontUnreachable(Cause::FrontLoop, Detail::None)
}

/// Counts and logs why a hello is rejected: at level debug for a probe, and at level info for the
/// hello of a user.
pub fn record_reject<W>(
    client: &Client<W>,
    why: Reject,
    user: Option<UserId>,
    outcome: Outcome,
    accounting: &mut Accounting<'_>,
) {
    accounting.record(user, client.addr, outcome);
    let off = match why {
        Reject::ClockOff { off_s } => Some(off_s),
        _ => None,
    };
    let name = accounting.users.name_of(user);
    let (why, from) = (why.as_str(), accounting.telemetry.shown(client.addr));
    event!(
        Debug, "fronted", id = client.id, why = %why, off_s = Maybe(off), user = ?Maybe(name),
        client = %from
    );
    if user.is_some() {
        accounting.telemetry.info(fields!(
            "refused", user = ?Maybe(name), why = %why, off_s = Maybe(off), client = %from
        ));
    }
}
