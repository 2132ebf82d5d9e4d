//! Counts the payload that a relay has forwarded.

use crate::accounts::users::UserId;
use crate::daemon::admin::counters::DcConnectionId;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::endpoint::Endpoint;
use crate::flow::direction::Direction;

/// The counters for the bytes of a session; both `None` = those of the front.
#[derive(Clone, Copy)]
pub struct TrafficOwner {
    /// The user.
    pub user: Option<UserId>,
    /// The connection to Telegram.
    pub dc_connection: Option<DcConnectionId>,
}

/// Counts payload once the outbox is empty.
pub fn count<W>(
    to: &mut Endpoint<W>,
    owner: TrafficOwner,
    direction: Direction,
    accounting: &mut Accounting<'_>,
) {
    if to.uncounted == 0 || !to.outbox.is_empty() || to.write_failed {
        return;
    }
    let bytes = u64::from(std::mem::take(&mut to.uncounted));
    to.sent += bytes;
    let counters = &mut accounting.telemetry.counters;
    let traffic = match owner.dc_connection {
        Some(connection) => counters.telegram.traffic(connection),
        None => Some(&mut counters.front),
    };
    if let Some(traffic) = traffic {
        match direction {
            Direction::Up => traffic.from_client += bytes,
            Direction::Down => traffic.to_client += bytes,
        }
    }
    let Some(id) = owner.user else { return };
    let user = accounting.users.get_mut(id);
    match direction {
        Direction::Up => user.bytes_in += bytes,
        Direction::Down => user.bytes_out += bytes,
    }
    user.last_seen_ms = Some(accounting.now.0);
}
