//! The body of `GET /stats`. The fields have the names and the order of mtg-multi (COMPATIBILITY
//! 6.1); fields of our own follow.

use std::time::{Duration, UNIX_EPOCH};

use crate::accounts::Accounts;
use crate::accounts::users::{User, Users};
use crate::daemon::admin::view::View;
use crate::daemon::time::Time;
use crate::limits::throttle::Throttle;
use crate::util::json::{Fields, Json};

/// One compact JSON object and a newline.
pub fn body(view: &View<'_>) -> String {
    let users = &view.accounts.users;
    let mut report: Fields<'_> = vec![
        ("started_at", stamp(view.time, 0).into()),
        ("uptime_seconds", (view.time.now.0 / 1000).into()),
        ("total_connections", users.total_connections().into()),
    ];
    let mut throttle =
        view.limits.throttle.as_ref().map(|throttle| throttle_fields(throttle, users));
    if let Some(rate) = &view.limits.rate {
        throttle.get_or_insert_default().push(("rate_bits_per_second", rate.bits_per_s().into()));
    }
    report.extend(throttle.map(|fields| ("throttle", Json::Object(fields))));
    let proxies =
        view.outbound.upstreams.proxies(view.time.now).map(|(address, circuit, proxy)| {
            Json::object([
                ("address", address.into()),
                ("state", circuit.as_str().into()),
                ("dials", proxy.dials.into()),
                ("failures", proxy.failures.into()),
                ("last_error", proxy.last_error.as_deref().into()),
            ])
        });
    let proxies: Vec<Json<'_>> = proxies.collect();
    if !proxies.is_empty() {
        report.push(("proxies", Json::List(proxies)));
    }
    let lists = view.lists.iter().map(|(kind, list)| {
        let fields = [
            ("entries", Json::Number(list.entries() as u64)),
            ("bad_lines", list.bad_lines().into()),
            ("updated", list.updated().map(rfc_3339).into()),
            ("refused", list.refused.into()),
        ];
        (kind.as_str(), Json::object(fields))
    });
    let lists: Fields<'_> = lists.collect();
    if !lists.is_empty() {
        report.push(("lists", Json::Object(lists)));
    }
    report.push(("users", users_object(view.accounts, view.time)));
    to_line(report)
}

fn throttle_fields<'a>(throttle: &'a Throttle, users: &'a Users) -> Fields<'a> {
    let mut fields: Fields<'_> =
        vec![("active", throttle.is_active().into()), ("limit", throttle.limit().into())];
    let cap = |id| Some((users.get(id).name(), throttle.cap(users.position(id))?.into()));
    let caps: Fields<'_> = users.ids().filter_map(cap).collect();
    if !caps.is_empty() {
        fields.push(("caps", Json::Object(caps)));
    }
    fields
}

fn users_object<'a>(accounts: &'a Accounts, time: &Time) -> Json<'a> {
    let object = |(user, connections): (&'a User, u32)| {
        let mut fields: Fields<'_> = vec![
            ("connections", connections.into()),
            ("bytes_in", user.bytes_in.into()),
            ("bytes_out", user.bytes_out.into()),
        ];
        if let Some((total_in, total_out)) = accounts.totals_of(user) {
            fields.push(("total_bytes_in", total_in.into()));
            fields.push(("total_bytes_out", total_out.into()));
        }
        fields.push(("last_seen", last_seen(accounts, user, time).map(rfc_3339).into()));
        if user.refused > 0 {
            fields.push(("refused", user.refused.into()));
        }
        if !user.is_enabled() {
            fields.push(("disabled", true.into()));
        }
        (user.name(), Json::Object(fields))
    };
    Json::Object(accounts.users.iter().map(object).collect())
}

/// Compact JSON and a newline.
pub(super) fn to_line(report: Fields<'_>) -> String {
    // These occur only inside of strings, where mtg-multi escapes them.
    let text = Json::Object(report).to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n"
}

/// When a user was last admitted or moved bytes, since 1970.
pub(super) fn last_seen(accounts: &Accounts, user: &User, time: &Time) -> Option<Duration> {
    accounts.last_seen(user, |at_ms| time.wall_of(at_ms))
}

/// RFC 3339 in UTC, of milliseconds since start.
pub(super) fn stamp(time: &Time, at_ms: u64) -> String {
    rfc_3339(time.wall_of(at_ms))
}

/// RFC 3339 in UTC, of a time since 1970.
pub(super) fn rfc_3339(since_1970: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_1970).to_string()
}
