//! The counters and records of a session.

use std::net::IpAddr;

use crate::accounts::Accounts;
use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::{UserId, Users};
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::session::capacity::Capacity;
use crate::daemon::time::Time;
use crate::io::clock::Tick;

/// The counters and records that a session changes from accept to close.
pub struct Accounting<'a> {
    /// The time of this round.
    pub now: Tick,
    /// Users and their counters.
    pub users: &'a mut Users,
    /// Limits of the number of sessions.
    pub capacity: &'a mut Capacity,
    /// Counters, causes of refusals, and the log.
    pub telemetry: &'a mut Telemetry,
}

impl<'a> Accounting<'a> {
    /// Borrows the parts of the daemon's state that a session is counted in.
    pub fn new(
        time: &Time,
        accounts: &'a mut Accounts,
        capacity: &'a mut Capacity,
        telemetry: &'a mut Telemetry,
    ) -> Self {
        Self { now: time.now, users: &mut accounts.users, capacity, telemetry }
    }

    /// Records a cause for a user, or for the network of an unauthenticated client.
    pub fn record(&mut self, user: Option<UserId>, addr: IpAddr, cause: Cause, detail: Detail) {
        match user {
            Some(user) => self.telemetry.record_user(self.users, user, cause, detail),
            None => self.telemetry.record_client(addr, cause),
        }
    }
}
