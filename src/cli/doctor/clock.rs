//! Is the clock right? The proxy refuses a hello whose time differs too much from its own. A time
//! server is queried on request only.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, format_us};
use crate::cli::doctor::findings::Section;
use crate::daemon::fetch::standalone::{DatagramReply, since_1970};
use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::time::BUILT_UNIX_S;
use crate::proto::ntp::{self, NtpFault};
use crate::util::host_port::HostPort;
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("clock", "Time skewness");
    if since_1970().as_secs() < BUILT_UNIX_S {
        section.fail("the clock is earlier than the date of this build, so it is not set").remedy(
            "set up time synchronization (NTP); until then mtbox ignores the time in hellos",
        );
    }
    match context.options.ntp.clone() {
        Some(server) => compare(&server, context, &mut section),
        None if section.is_empty() => {
            section.skip("not compared with a time server; use --ntp to compare it");
        }
        None => {}
    }
    vec![section]
}

/// Judges the offset by tenths of the tolerance of the config: 3 are a warning, 7 a failure.
fn compare(server: &HostPort, context: &mut CheckContext, section: &mut Section) {
    let offset_ns = match query(server, context) {
        Ok(offset_ns) => offset_ns,
        Err(e) => {
            section
                .unknown(&format!("time server {server}"), &e.to_string())
                .remedy("choose another server with --ntp-server HOST, or open UDP port 123");
            return;
        }
    };
    let tolerance = context.settings.time_skew;
    let drift_us = offset_ns.unsigned_abs() / 1_000;
    let sign = if offset_ns < 0 { "-" } else { "" };
    let text = format!(
        "time drift is {sign}{}, tolerance is {}",
        format_us(drift_us),
        humantime::format_duration(tolerance)
    );
    let tolerance_us = (tolerance.as_micros() as u64).max(1);
    let finding = match drift_us.saturating_mul(10) / tolerance_us {
        0..3 => section.ok(text),
        3..7 => section.warn(text).remedy("set up time synchronization (NTP)"),
        _ => section.fail(text).remedy(
            "set the clock, or raise tolerate-time-skewness; otherwise clients with a correct \
             clock may be refused",
        ),
    };
    finding.fact("server", Json::text(&server.host)).fact("drift_us", Json::Number(drift_us));
    finding.fact("direction", Json::text(if offset_ns < 0 { "ahead" } else { "behind" }));
}

enum NtpError {
    NotResolved(LookupFault),
    NoAnswer,
    /// The server is not synchronized or refuses.
    NoTime,
    Io(io::Error),
}

impl fmt::Display for NtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotResolved(fault) => write!(f, "its name cannot be resolved: {fault}"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::NoTime => f.write_str("it does not provide the time"),
            Self::Io(e) => e.fmt(f),
        }
    }
}

/// The time of the server minus ours, in nanoseconds. Tries several addresses of the server.
fn query(server: &HostPort, context: &mut CheckContext) -> Result<i64, NtpError> {
    let standalone = &mut context.standalone;
    let deadline = standalone.deadline_after(LIMIT);
    let host = std::slice::from_ref(&server.host);
    let found = standalone.lookup(host, LIMIT).pop().unwrap_or(Err(LookupFault::NoAddress));
    let ips = found.map_err(NtpError::NotResolved)?;
    let mut error = NtpError::NoAnswer;
    for ip in ips.into_iter().take(ADDRESSES_MAX) {
        let left = deadline.0.saturating_sub(standalone.time.now.0);
        if left == 0 {
            break;
        }
        let mut cookie = [0; 8];
        standalone.drbg.fill(&mut cookie);
        let mut offset = None;
        // Returns false to wait for another datagram: this one is not an answer to our request.
        let mut judge = |reply: &DatagramReply<'_>| {
            offset = match ntp::offset_ns(reply.packet, &cookie, reply.asked, reply.answered) {
                Ok(offset) => Some(offset),
                Err(NtpFault::Unusable) => None,
                Err(NtpFault::Unrelated) => return false,
            };
            true
        };
        let limit = Duration::from_millis(left.min(LIMIT_PER_ADDRESS_MS));
        let to = SocketAddr::new(ip, server.port);
        let outcome = standalone.exchange_datagram(to, &ntp::request(&cookie), limit, &mut judge);
        error = match (outcome, offset) {
            (_, Some(offset)) => return Ok(offset),
            (Ok(true), None) => NtpError::NoTime,
            (Ok(false), None) => NtpError::NoAnswer,
            (Err(e), None) => NtpError::Io(e),
        };
    }
    Err(error)
}

const LIMIT: Duration = Duration::from_secs(5);
/// Leaves time for a second address if the first one does not answer.
const LIMIT_PER_ADDRESS_MS: u64 = 2_500;
const ADDRESSES_MAX: usize = 4;
