//! The parts of the daemon that a dial uses.

use std::io;

use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::Buffers;
use crate::daemon::session::key::SessionKey;
use crate::daemon::upstream::outbound::Outbound;
use crate::io::egress;
use crate::util::drbg::Drbg;

/// The parts of the daemon that a dial uses.
pub struct DialContext<'a, N> {
    /// Counters and records.
    pub accounting: Accounting<'a>,
    /// Timeouts and socket options.
    pub settings: &'a Settings,
    /// The scratch block and the pool.
    pub buffers: &'a mut Buffers,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
    /// Host names, addresses and upstreams.
    pub outbound: &'a mut Outbound,
    /// The network.
    pub net: &'a mut N,
    /// The key of the session, for the tokens of its sockets.
    pub key: SessionKey,
    /// The number of the connection in the log.
    pub id: u64,
}

/// Warns when the system refuses the configured egress. Returns whether that was the error.
pub(super) fn warn_if_egress_refused(error: &io::Error, telemetry: &mut Telemetry) -> bool {
    let is_refused = egress::is_refused(error);
    if is_refused {
        telemetry.warn(format_args!("event=egress-refused error={:?}", error.to_string()));
    }
    is_refused
}
