//! The body of `GET /stats`, field by field as the reference prints it (spec: stats 1).

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use miniserde::json;
use miniserde::ser::{Fragment, Map, Serialize};

use crate::daemon::shared::World;

/// One compact JSON object and a newline.
pub fn body(world: &World) -> String {
    let mut report = JsonObject::default();
    report.put("started_at", stamp(world, 0));
    report.put("uptime_seconds", world.time.now.0 / 1000);
    report.put("total_connections", world.accounts.users.total_connections());
    if let Some(throttle) = &world.limits.throttle {
        let mut share = JsonObject::default();
        share.put("active", throttle.is_active());
        share.put("limit", throttle.limit());
        let mut caps = JsonObject::default();
        for id in world.accounts.users.ids() {
            if let Some(cap) = throttle.cap(world.accounts.users.position(id)) {
                caps.put(world.accounts.users.get(id).name(), cap);
            }
        }
        if !caps.is_empty() {
            share.put("caps", caps);
        }
        report.put("throttle", share);
    }
    let proxies: Vec<JsonObject> = world
        .outbound
        .upstreams
        .proxies(world.time.now)
        .map(|(address, circuit, way)| {
            let mut state = JsonObject::default();
            state.put("address", address);
            state.put("state", circuit.as_str());
            state.put("dials", way.dials);
            state.put("failures", way.failures);
            state.put("last_error", way.last_error.as_deref());
            state
        })
        .collect();
    if !proxies.is_empty() {
        report.put("proxies", proxies);
    }
    let mut lists = JsonObject::default();
    for (which, list) in world.lists.iter() {
        let mut state = JsonObject::default();
        state.put("entries", list.entries());
        state.put("bad_lines", list.bad_lines());
        state.put("updated", list.updated().map(rfc_3339));
        state.put("refused", list.refused);
        lists.put(which.as_str(), state);
    }
    if !lists.is_empty() {
        report.put("lists", lists);
    }
    let mut users = JsonObject::default();
    for (user, connections) in world.accounts.users.iter() {
        let mut person = JsonObject::default();
        person.put("connections", connections);
        person.put("bytes_in", user.bytes_in);
        person.put("bytes_out", user.bytes_out);
        if let Some((total_in, total_out)) = world.accounts.totals_of(user) {
            person.put("total_bytes_in", total_in);
            person.put("total_bytes_out", total_out);
        }
        person.put(
            "last_seen",
            world.accounts.last_seen(user, |at_ms| world.time.wall_of(at_ms)).map(rfc_3339),
        );
        if user.refused > 0 {
            person.put("refused", user.refused);
        }
        if !user.is_enabled() {
            person.put("disabled", true);
        }
        users.put(user.name(), person);
    }
    report.put("users", users);
    print(&report)
}

/// One line of JSON.
pub(super) fn print(report: &JsonObject<'_>) -> String {
    // These stand only inside strings, where the reference escapes them.
    let mut text = json::to_string(report)
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    text.push('\n');
    text
}

/// RFC 3339 in UTC of a moment on the monotonic clock.
pub(super) fn stamp(world: &World, at_ms: u64) -> String {
    rfc_3339(world.time.wall_of(at_ms))
}

/// RFC 3339 in UTC of a time since 1970.
pub(super) fn rfc_3339(since_1970: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_1970).to_string()
}

/// A JSON object whose fields keep their order and may be absent, which no derive offers.
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
