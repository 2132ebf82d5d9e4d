//! Is the clock right? Hellos of apps carry their time, and those too far from ours are refused.
//! A time server is asked only on request.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, joined, spoken_us};
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::daemon::fetch::standalone::{DatagramReply, since_1970};
use crate::daemon::time::BUILT_UNIX_S;
use crate::proto::ntp::{self, NtpFault};

/// Compares the clock with the build's date, and with a time server if one is to be asked.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("clock", "Time skewness");
    if since_1970().as_secs() < BUILT_UNIX_S {
        section.fail("the clock stands before the day of this build: it has not been set").remedy(
            "let the system ask a time server; until then mtbox does not look at the time in \
             hellos",
        );
    }
    match patient.wishes.ntp.clone() {
        Some((host, port)) => compare(&host, port, patient, &mut section),
        None if section.is_empty() => {
            section.skip("not compared with a time server; --ntp asks one");
        }
        None => {}
    }
    vec![section]
}

fn compare(host: &str, port: u16, patient: &mut CheckContext, section: &mut Section) {
    let what = format!("time server {}", joined(host, port));
    let offset_ns = match ask(host, port, patient) {
        Ok(offset_ns) => offset_ns,
        Err(why) => {
            section.unknown(&what, &why).remedy(
                "name another one with --ntp-server HOST, or see whether UDP port 123 is let out",
            );
            return;
        }
    };
    let tolerance = patient.settings.time_skew;
    let drift_us = offset_ns.unsigned_abs() / 1_000;
    let sign = if offset_ns < 0 { "-" } else { "" };
    let text = format!(
        "time drift is {sign}{}, tolerance is {}",
        spoken_us(drift_us),
        humantime::format_duration(tolerance)
    );
    let tolerance_us = (tolerance.as_micros() as u64).max(1);
    let finding = match drift_us.saturating_mul(10) / tolerance_us {
        0..3 => section.ok(text),
        3..7 => section.warn(text).remedy("let the system ask a time server regularly"),
        _ => section.fail(text).remedy(
            "set the clock; until then apps with a right clock may be refused, or raise \
             tolerate-time-skewness",
        ),
    };
    finding.fact("server", Json::text(host)).fact("drift_us", Json::Number(drift_us));
    finding.fact("direction", Json::text(if offset_ns < 0 { "ahead" } else { "behind" }));
}

/// How far the server's clock is ahead of ours.
fn ask(host: &str, port: u16, patient: &mut CheckContext) -> Result<i64, String> {
    let alone = &mut patient.alone;
    let until = alone.from_now(LIMIT);
    let ips = alone.lookup(&[host.to_owned()], LIMIT).pop().unwrap_or_default();
    let mut why = "its name cannot be found".to_owned();
    for ip in ips.into_iter().take(MOST_ADDRESSES) {
        let left = until.0.saturating_sub(alone.time.now.0);
        if left == 0 {
            break;
        }
        let mut cookie = [0; 8];
        alone.drbg.fill(&mut cookie);
        let mut told = None;
        let mut judge = |answer: &DatagramReply<'_>| {
            told = match ntp::offset_ns(answer.packet, &cookie, answer.asked, answer.answered) {
                Ok(offset) => Some(offset),
                Err(NtpFault::Unwilling) => None,
                Err(NtpFault::Stray) => return false,
            };
            true
        };
        // Another address gets its turn where this one is silent.
        let limit = Duration::from_millis(left.min(PER_ADDRESS_MS));
        let to = SocketAddr::new(ip, port);
        let outcome = alone.exchange_datagram(to, &ntp::question(&cookie), limit, &mut judge);
        why = match (outcome, told) {
            (_, Some(offset)) => return Ok(offset),
            (Ok(true), None) => "it does not tell the time".to_owned(),
            (Ok(false), None) => "no answer".to_owned(),
            (Err(e), None) => e.to_string(),
        };
    }
    Err(why)
}

const LIMIT: Duration = Duration::from_secs(5);
const PER_ADDRESS_MS: u64 = 2_500;
const MOST_ADDRESSES: usize = 4;
