//! The body of `GET /stats`. The fields have the names and the order of mtg-multi (COMPATIBILITY
//! 6.1); fields of our own follow.

use std::time::{Duration, UNIX_EPOCH};

use crate::accounts::Accounts;
use crate::accounts::users::{User, UserId};
use crate::daemon::admin::rows::RowWriter;
use crate::daemon::admin::view::View;
use crate::daemon::time::Time;
use crate::util::json::{Fields, Json};
use crate::util::memory::Class;

/// Writes one compact JSON object and a newline, one user per row.
#[derive(Default)]
pub(super) struct StatsWriter {
    part: StatsPart,
    /// The next user of this part.
    at: usize,
    /// A user with a cap was written.
    has_caps: bool,
}

/// The parts of the page, in order.
#[derive(Default)]
enum StatsPart {
    #[default]
    Head,
    Caps,
    Outside,
    Users,
}

impl RowWriter for StatsWriter {
    fn write_row(&mut self, view: &View<'_>, out: &mut String) -> bool {
        let id = view.accounts.users.nth(self.at);
        self.at += 1;
        let next = match (&self.part, id) {
            (StatsPart::Head, _) => {
                write_head(out, view);
                if has_throttle(view) { StatsPart::Caps } else { StatsPart::Outside }
            }
            (StatsPart::Caps, Some(id)) => {
                self.write_cap(out, view, id);
                return true;
            }
            (StatsPart::Caps, None) => {
                out.push_str(if self.has_caps { "}" } else { "" });
                if let Some(rate) = &view.limits.rate {
                    push_member(out, "rate_bits_per_second", rate.bits_per_s().into());
                }
                out.push('}');
                StatsPart::Outside
            }
            (StatsPart::Outside, _) => {
                write_outside(out, view);
                out.push_str(",\"users\":{");
                StatsPart::Users
            }
            (StatsPart::Users, Some(id)) => {
                push_member(out, view.accounts.users.get(id).name(), user_object(view, id));
                return true;
            }
            (StatsPart::Users, None) => {
                out.push('}');
                push_member(out, "memory", memory_object(view));
                out.push_str("}\n");
                return false;
            }
        };
        (self.part, self.at) = (next, 0);
        true
    }
}

impl StatsWriter {
    fn write_cap(&mut self, out: &mut String, view: &View<'_>, id: UserId) {
        let users = &view.accounts.users;
        let throttle = view.limits.throttle.as_ref();
        let Some(cap) = throttle.and_then(|throttle| throttle.cap(users.position(id))) else {
            return;
        };
        if !std::mem::replace(&mut self.has_caps, true) {
            out.push_str(",\"caps\":{");
        }
        push_member(out, users.get(id).name(), cap.into());
    }
}

/// Appends the start of the page; the object of the throttle stays open.
fn write_head(out: &mut String, view: &View<'_>) {
    out.push('{');
    push_member(out, "started_at", stamp(view.time, 0).into());
    push_member(out, "uptime_seconds", (view.time.now.0 / 1000).into());
    push_member(out, "total_connections", view.accounts.users.total_connections().into());
    if has_throttle(view) {
        out.push_str(",\"throttle\":{");
    }
    if let Some(throttle) = &view.limits.throttle {
        push_member(out, "active", throttle.is_active().into());
        push_member(out, "limit", throttle.limit().into());
    }
}

fn has_throttle(view: &View<'_>) -> bool {
    view.limits.throttle.is_some() || view.limits.rate.is_some()
}

/// Appends what belongs to no user: the SOCKS proxies and the IP lists.
fn write_outside(out: &mut String, view: &View<'_>) {
    let mut proxies = Vec::new();
    for (address, circuit, proxy) in view.outbound.upstreams.proxies(view.time.now) {
        proxies.push(Json::Object(vec![
            ("address", address.into()),
            ("state", circuit.as_str().into()),
            ("dials", proxy.dials.into()),
            ("failures", proxy.failures.into()),
            ("last_error", proxy.last_error.as_deref().into()),
        ]));
    }
    if !proxies.is_empty() {
        push_member(out, "proxies", Json::List(proxies));
    }
    let mut lists: Fields<'_> = Vec::new();
    for (kind, list) in view.lists.iter() {
        let fields = vec![
            ("entries", Json::Number(list.entries() as u64)),
            ("bad_lines", list.bad_lines().into()),
            ("updated", list.updated().map(rfc_3339).into()),
            ("refused", list.refused.into()),
        ];
        lists.push((kind.as_str(), Json::Object(fields)));
    }
    if !lists.is_empty() {
        push_member(out, "lists", Json::Object(lists));
    }
    let mut advice = Vec::new();
    for one in view.fetch.front_probes.advice.iter().flatten() {
        advice.push(Json::Object(vec![
            ("host", one.host.as_str().into()),
            ("what", one.what.into()),
            ("detail", one.detail.as_str().into()),
        ]));
    }
    if !advice.is_empty() {
        push_member(out, "advice", Json::List(advice));
    }
    let counters = &view.telemetry.counters;
    let dials = [
        ("delayed", counters.dials_delayed),
        ("refused", counters.dials_refused),
        ("shortages", view.outbound.shortages),
    ];
    if dials.iter().any(|(_, count)| *count > 0) {
        push_member(
            out,
            "dials",
            Json::Object(dials.map(|(name, count)| (name, count.into())).into()),
        );
    }
    let mut evicted = Vec::new();
    for (who, room, count) in counters.evictions() {
        evicted.push(Json::Object(vec![
            ("who", who.into()),
            ("room", room.as_str().into()),
            ("count", count.into()),
        ]));
    }
    if !evicted.is_empty() {
        push_member(out, "evicted", Json::List(evicted));
    }
}

fn memory_object<'a>(view: &View<'_>) -> Json<'a> {
    let (memory, budget) = (view.memory, &view.buffers.memory.budget);
    let bytes = |bytes: usize| Json::Number(bytes as u64);
    let classes = Class::ALL.map(|class| (class.as_str(), bytes(budget.used_by(class))));
    Json::Object(vec![
        ("level", memory.level().as_str().into()),
        ("limit", memory.limit().into()),
        ("resident", memory.resident.into()),
        ("kernel", memory.kernel.into()),
        ("buffers_limit", bytes(budget.limit())),
        ("buffers", Json::Object(classes.into())),
    ])
}

fn user_object<'a>(view: &View<'a>, id: UserId) -> Json<'a> {
    let (accounts, users) = (view.accounts, &view.accounts.users);
    let user = users.get(id);
    let mut fields: Fields<'_> = vec![
        ("connections", users.connections_of(id).into()),
        ("bytes_in", user.bytes_in.into()),
        ("bytes_out", user.bytes_out.into()),
    ];
    if let Some((total_in, total_out)) = accounts.totals_of(user) {
        fields.push(("total_bytes_in", total_in.into()));
        fields.push(("total_bytes_out", total_out.into()));
    }
    fields.push(("last_seen", last_seen(accounts, user, view.time).map(rfc_3339).into()));
    if user.refused > 0 {
        fields.push(("refused", user.refused.into()));
    }
    if !user.is_enabled() {
        fields.push(("disabled", true.into()));
    }
    Json::Object(fields)
}

/// Appends a member to the object that `out` ends in.
pub(super) fn push_member(out: &mut String, name: &str, value: Json<'_>) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_json(out, &format!("{}:{value}", Json::from(name)));
}

/// Appends JSON, with the escapes of mtg-multi for use in HTML.
pub(super) fn push_json(out: &mut String, json: &str) {
    for c in json.chars() {
        match c {
            '<' | '>' | '&' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
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
