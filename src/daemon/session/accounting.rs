//! The counters and records of a session.

use std::net::IpAddr;

use crate::accounts::Accounts;
use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::{UserId, Users};
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::session::capacity::Capacity;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::time::Time;
use crate::io::clock::Tick;
use crate::io::logger::{fields, is_enabled};
use crate::util::log_settings::LogLevel;

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

    /// Records how a connection was refused or ended: its counter, the probe summary, and the cause
    /// for a user or for the network of an unauthenticated client. No other function does.
    pub fn record(&mut self, user: Option<UserId>, addr: IpAddr, outcome: Outcome) {
        let Self { now, users, telemetry, .. } = self;
        if let Some(counter) = outcome.counter(&mut telemetry.counters) {
            *counter += 1;
        }
        // A summary that the level suppresses must not wake the loop.
        if let Some(bucket) = outcome.summary_bucket()
            && is_enabled(LogLevel::Info)
        {
            telemetry.probes.count(bucket, addr, *now);
        }
        let Some((cause, mut detail)) = outcome.cause() else { return };
        match user {
            Some(user) if cause.is_refusal() => users.get_mut(user).refused += 1,
            Some(_) => {}
            None if !cause.is_refusal() => return,
            // A failure of the front concerns all unauthenticated clients.
            None if outcome.is_of_server() || matches!(detail, Detail::Sender(_)) => {}
            None => detail = Detail::network(addr),
        }
        let is_new = telemetry.recorder.note(user, cause, detail, now.0);
        if is_new && cause.is_about_headers() {
            self.warn_of_headers(cause, addr);
        }
    }

    /// Logs once that a relay and the config disagree. Scanners send such headers too, so further
    /// senders are not worth a warning each.
    fn warn_of_headers(&mut self, cause: Cause, sender: IpAddr) {
        let telemetry = &mut *self.telemetry;
        let is_first = telemetry.recorder.iter().filter(|one| one.cause == cause).count() == 1;
        let from = telemetry.shown_sender(sender);
        let fields = fields!(
            "proxy-header", why = %cause.as_str(), sender = %from, hint = ?cause.remedy()
        );
        if is_first { telemetry.warn(fields) } else { telemetry.info(fields) }
    }
}
