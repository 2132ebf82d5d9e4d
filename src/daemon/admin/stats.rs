//! The body of `GET /stats`. The fields have the names and the order of mtg-multi (COMPATIBILITY
//! 6.1); fields of our own follow.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use miniserde::json;
use miniserde::ser::{Fragment, Map, Serialize};

use crate::accounts::Accounts;
use crate::accounts::users::{User, Users};
use crate::daemon::admin::view::View;
use crate::daemon::time::Time;
use crate::limits::throttle::Throttle;

/// One compact JSON object and a newline.
pub fn body(view: &View<'_>) -> String {
    let users = &view.accounts.users;
    let mut report = JsonObject::default();
    report.put("started_at", stamp(view.time, 0));
    report.put("uptime_seconds", view.time.now.0 / 1000);
    report.put("total_connections", users.total_connections());
    if let Some(throttle) = &view.limits.throttle {
        report.put("throttle", throttle_object(throttle, users));
    }
    let proxies: Vec<JsonObject> = view
        .outbound
        .upstreams
        .proxies(view.time.now)
        .map(|(address, circuit, proxy)| {
            let mut object = JsonObject::default();
            object.put("address", address);
            object.put("state", circuit.as_str());
            object.put("dials", proxy.dials);
            object.put("failures", proxy.failures);
            object.put("last_error", proxy.last_error.as_deref());
            object
        })
        .collect();
    if !proxies.is_empty() {
        report.put("proxies", proxies);
    }
    let mut lists = JsonObject::default();
    for (kind, list) in view.lists.iter() {
        let mut object = JsonObject::default();
        object.put("entries", list.entries());
        object.put("bad_lines", list.bad_lines());
        object.put("updated", list.updated().map(rfc_3339));
        object.put("refused", list.refused);
        lists.put(kind.as_str(), object);
    }
    if !lists.is_empty() {
        report.put("lists", lists);
    }
    report.put("users", users_object(view.accounts, view.time));
    to_line(&report)
}

fn throttle_object<'a>(throttle: &'a Throttle, users: &'a Users) -> JsonObject<'a> {
    let mut object = JsonObject::default();
    object.put("active", throttle.is_active());
    object.put("limit", throttle.limit());
    let mut caps = JsonObject::default();
    for id in users.ids() {
        if let Some(cap) = throttle.cap(users.position(id)) {
            caps.put(users.get(id).name(), cap);
        }
    }
    if !caps.is_empty() {
        object.put("caps", caps);
    }
    object
}

fn users_object<'a>(accounts: &'a Accounts, time: &Time) -> JsonObject<'a> {
    let mut objects = JsonObject::default();
    for (user, connections) in accounts.users.iter() {
        let mut object = JsonObject::default();
        object.put("connections", connections);
        object.put("bytes_in", user.bytes_in);
        object.put("bytes_out", user.bytes_out);
        if let Some((total_in, total_out)) = accounts.totals_of(user) {
            object.put("total_bytes_in", total_in);
            object.put("total_bytes_out", total_out);
        }
        object.put("last_seen", last_seen(accounts, user, time).map(rfc_3339));
        if user.refused > 0 {
            object.put("refused", user.refused);
        }
        if !user.is_enabled() {
            object.put("disabled", true);
        }
        objects.put(user.name(), object);
    }
    objects
}

/// Compact JSON and a newline.
pub(super) fn to_line(report: &JsonObject<'_>) -> String {
    // These occur only inside of strings, where mtg-multi escapes them.
    let mut text = json::to_string(report)
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    text.push('\n');
    text
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

/// A JSON object whose fields keep their order and may be absent; the derive of miniserde offers
/// neither.
#[derive(Default)]
pub(super) struct JsonObject<'a>(Vec<(&'a str, Box<dyn Serialize + 'a>)>);

impl<'a> JsonObject<'a> {
    pub(super) fn put(&mut self, name: &'a str, value: impl Serialize + 'a) {
        self.0.push((name, Box::new(value)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for JsonObject<'_> {
    fn begin(&self) -> Fragment<'_> {
        Fragment::Map(Box::new(JsonFields(self.0.iter())))
    }
}

struct JsonFields<'a>(std::slice::Iter<'a, (&'a str, Box<dyn Serialize + 'a>)>);

impl Map for JsonFields<'_> {
    fn next(&mut self) -> Option<(Cow<'_, str>, &dyn Serialize)> {
        let (name, value) = self.0.next()?;
        Some((Cow::Borrowed(name), &**value))
    }
}
