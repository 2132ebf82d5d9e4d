//! Whether a client may connect (COMPATIBILITY 7.2).

use std::net::IpAddr;
use std::time::Duration;

use crate::accounts::recorder::Cause;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::ip_lists::lists::{IpLists, SourceState};
use crate::daemon::session::outcome::Outcome;
use crate::daemon::upstream::addresses::is_private;
use crate::io::clock::Tick;
use crate::io::logger::{Maybe, event, fields};

/// Checks whether a client may connect; a refusal is counted for the list and logged. The allowlist
/// comes first. While no source is loaded, an allowlist refuses all clients and logs that once a
/// minute; a blocklist refuses none.
///
/// # Errors
/// [`Outcome::Listed`]: the caller records it and closes the connection.
pub fn check(
    lists: &mut IpLists,
    addr: IpAddr,
    now: Tick,
    telemetry: &mut Telemetry,
) -> Result<(), Outcome> {
    lists.clients.note(addr);
    let verdict = check_allowlist(lists, addr, now, telemetry)
        .and_then(|()| check_blocklist(lists, addr, telemetry));
    let is_own_network = matches!(verdict, Err(Outcome::Listed { is_probe: false, .. }));
    if is_own_network && lists.clients.is_first_refusal() {
        let client = telemetry.shown(addr);
        event!(Warn, "clients-hidden", client = %client, hint = ?HIDDEN);
    }
    verdict
}

/// What it often means that a list refuses the only address that clients come from.
pub const HIDDEN: &str = "all clients come from one private address, and a list refuses it: if a \
    relay in front (HAProxy, nginx, a tunnel) hides their addresses, let it send a PROXY header \
    and set proxy-protocol-listener = true; otherwise use a list that accepts private networks";

fn check_allowlist(
    lists: &mut IpLists,
    addr: IpAddr,
    now: Tick,
    telemetry: &mut Telemetry,
) -> Result<(), Outcome> {
    let Some(list) = &mut lists.allow else { return Ok(()) };
    if list.find(addr).is_some() {
        return Ok(());
    }
    list.refused += 1;
    let cause = Cause::NotAllowlisted;
    if !list.is_loaded() {
        if list.warned_at.is_none_or(|at| now >= at + WARN_EVERY) {
            list.warned_at = Some(now);
            event!(
                Warn, "allowlist-empty", refused = list.refused,
                hint = ?"no source is loaded yet, so no client may connect; see event=list-failed, \
                    or add a file as a source"
            );
        }
        return Err(Outcome::Listed { cause, is_probe: true });
    }
    let hint = "private networks must be on the list too; add a file that contains them";
    let is_probe = report(addr, "allowlist", Maybe(None), hint, telemetry);
    Err(Outcome::Listed { cause, is_probe })
}

fn check_blocklist(
    lists: &mut IpLists,
    addr: IpAddr,
    telemetry: &mut Telemetry,
) -> Result<(), Outcome> {
    let Some(list) = &mut lists.block else { return Ok(()) };
    let Some(source) = list.find(addr).map(SourceState::label) else { return Ok(()) };
    list.refused += 1;
    // Such as level 1 of FireHOL.
    let hint = "this list contains private networks; use a list or a copy without them";
    let is_probe = report(addr, "blocklist", Maybe(Some(source)), hint, telemetry);
    Err(Outcome::Listed { cause: Cause::Blocklisted, is_probe })
}

/// Logs a refused client. Returns whether it counts as a probe: one from a private network is
/// probably the operator's own device, so it does not, and is logged at level info.
fn report(
    addr: IpAddr,
    list: &str,
    source: Maybe<String>,
    hint: &str,
    telemetry: &mut Telemetry,
) -> bool {
    let client = telemetry.shown(addr);
    if is_private(addr) {
        telemetry.info(fields!(
            "refused", list = %list, source = ?source, client = %client, hint = ?hint
        ));
        return false;
    }
    event!(Debug, "refused", list = %list, source = ?source, client = %client);
    true
}

const WARN_EVERY: Duration = Duration::from_secs(60);
