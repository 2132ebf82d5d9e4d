//! What a session is counted in.

use std::net::IpAddr;

use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::{UserId, Users};
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::session::capacity::Capacity;
use crate::io::clock::Tick;

/// The counters and records that a session changes from accept to close.
pub struct Accounting<'a> {
    /// The time of this round.
    pub now: Tick,
    /// Users and their counters.
    pub users: &'a mut Users,
    /// Places for sessions.
    pub capacity: &'a mut Capacity,
    /// What the operator learns.
    pub telemetry: &'a mut Telemetry,
}

impl Accounting<'_> {
    /// Records a cause for a user, or for an unauthenticated client by its network.
    pub fn record(&mut self, user: Option<UserId>, addr: IpAddr, cause: Cause, detail: Detail) {
        match user {
            Some(user) => self.telemetry.record_user(self.users, user, cause, detail),
            None => self.telemetry.record_client(addr, cause),
        }
    }
}
