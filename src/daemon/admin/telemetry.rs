//! Data for the operator: counters, causes of refusals, the summary of probes, and rate-limited log
//! lines.

use std::fmt;
use std::net::IpAddr;

use crate::accounts::recorder::Recorder;
use crate::daemon::admin::counters::Counters;
use crate::daemon::admin::probe_summary::ProbeSummary;
use crate::daemon::upstream::addresses::is_private;
use crate::io::clock::{Tick, earliest};
use crate::io::logger::{LogFields, RateLimitedLog};
use crate::util::client_prefix::ClientPrefix;

/// Counters and logs, except for the counters of users.
#[derive(Default)]
pub struct Telemetry {
    /// Counters of the whole daemon.
    pub counters: Counters,
    /// Recent causes of refusals, of users and of unauthenticated clients.
    pub recorder: Recorder,
    /// Probes since the last summary in the log.
    pub probes: ProbeSummary,
    /// Suppresses repeated log lines.
    pub log: RateLimitedLog,
    /// Logs show whole client addresses instead of their /24 or /48.
    pub logs_addresses: bool,
    now: Tick,
}

impl Telemetry {
    /// Empty. `logs_addresses` shows whole client addresses in the log.
    pub fn new(logs_addresses: bool) -> Self {
        Self { logs_addresses, ..Self::default() }
    }

    /// Sets the time of a new round.
    pub fn set_time(&mut self, now: Tick) {
        self.now = now;
    }

    /// The time of this round.
    pub fn now(&self) -> Tick {
        self.now
    }

    /// Logs at level info, unless the same line was logged recently.
    pub fn info(&mut self, fields: LogFields<'_>) {
        self.log.info(self.now, fields);
    }

    /// Logs at level warn, unless the same line was logged recently.
    pub fn warn(&mut self, fields: LogFields<'_>) {
        self.log.warn(self.now, fields);
    }

    /// A client address as it may appear in a log: /24 or /48 unless the operator asked for all.
    pub fn shown(&self, addr: IpAddr) -> ShownAddr {
        match self.logs_addresses {
            true => ShownAddr::Whole(addr),
            false => ShownAddr::Prefix(ClientPrefix::of(addr)),
        }
    }

    /// The address of a relay: whole if it is private, since no client on the internet has it.
    pub fn shown_sender(&self, addr: IpAddr) -> ShownAddr {
        if is_private(addr) { ShownAddr::Whole(addr) } else { self.shown(addr) }
    }

    /// The earliest time at which a summary or a suppressed line must be logged.
    pub fn due(&self) -> Option<Tick> {
        earliest(&[self.log.next_due(), self.probes.due()])
    }

    /// Logs the summaries and suppressed lines that are due.
    pub fn flush_due(&mut self) {
        self.log.flush_due(self.now);
        self.probes.flush_due(self.now);
    }

    /// Logs all pending summaries, at shutdown.
    pub fn flush_all(&mut self) {
        self.log.flush_all(self.now);
        self.probes.flush();
    }
}

/// A client address for the log.
#[derive(Debug, Clone, Copy)]
pub enum ShownAddr {
    /// The operator asked for whole addresses.
    Whole(IpAddr),
    /// The /24 or /48.
    Prefix(ClientPrefix),
}

impl fmt::Display for ShownAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(addr) => addr.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}
