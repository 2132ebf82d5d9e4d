//! Whether a client may connect (COMPATIBILITY 7.2).

use std::net::IpAddr;
use std::time::Duration;

use crate::accounts::recorder::Cause;
use crate::daemon::admin::probe_summary::ProbeKind;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::ip_lists::lists::{IpLists, SourceState};
use crate::daemon::upstream::addresses::is_private;
use crate::io::clock::Tick;

/// Whether a client may connect; a refusal is counted and logged. The allowlist comes first. While
/// no source is loaded, an allowlist refuses all clients and logs that once a minute; a blocklist
/// refuses none. The caller closes the connection of a refused client.
pub fn may_connect(
    lists: &mut IpLists,
    addr: IpAddr,
    now: Tick,
    telemetry: &mut Telemetry,
) -> bool {
    if !is_allowed(lists, addr, now, telemetry) {
        telemetry.record_client(addr, Cause::NotAllowlisted);
        return false;
    }
    if is_blocked(lists, addr, telemetry) {
        telemetry.record_client(addr, Cause::Blocklisted);
        return false;
    }
    true
}

fn is_allowed(lists: &mut IpLists, addr: IpAddr, now: Tick, telemetry: &mut Telemetry) -> bool {
    let Some(list) = &mut lists.allow else { return true };
    if list.find(addr).is_some() {
        return true;
    }
    list.refused += 1;
    if !list.is_loaded() {
        if list.warned_at.is_none_or(|at| now >= at + WARN_EVERY) {
            list.warned_at = Some(now);
            log::warn!(
                "event=allowlist-empty refused={} hint=\"no source is loaded yet, so no client \
                 may connect; see event=list-failed, or add a file as a source\"",
                list.refused
            );
        }
        telemetry.count_probe(ProbeKind::Listed, addr);
        return false;
    }
    let hint = "private networks must be on the list too; add a file that contains them";
    report(addr, "event=refused list=allowlist", hint, telemetry);
    false
}

fn is_blocked(lists: &mut IpLists, addr: IpAddr, telemetry: &mut Telemetry) -> bool {
    let Some(list) = &mut lists.block else { return false };
    let Some(source) = list.find(addr).map(SourceState::label) else { return false };
    list.refused += 1;
    // Such as level 1 of FireHOL.
    let hint = "this list contains private networks; use a list or a copy without them";
    report(addr, &format!("event=refused list=blocklist source={source:?}"), hint, telemetry);
    true
}

/// Logs a refused client. One from a private network is probably the operator's own device, so it
/// is logged at level info and does not count as a probe.
fn report(addr: IpAddr, line: &str, hint: &str, telemetry: &mut Telemetry) {
    let client = telemetry.shown(addr);
    if is_private(addr) {
        telemetry.info(format_args!("{line} client={client} hint={hint:?}"));
    } else {
        log::debug!("{line} client={client}");
        telemetry.count_probe(ProbeKind::Listed, addr);
    }
}

const WARN_EVERY: Duration = Duration::from_secs(60);
