//! `GET /explain/NAME` and `GET /stats?explain=NAME`: why a user was refused recently, and
//! what to do about it. The answer is JSON, or plain text with `?text`.

use std::net::SocketAddr;

use crate::accounts::recorder::{Cause, Detail, Incident, Recorder};
use crate::accounts::users::{User, UserId, Users};
use crate::daemon::admin::rows::RowWriter;
use crate::daemon::admin::stats::{last_seen, push_json, rfc_3339, stamp};
use crate::daemon::admin::view::View;
use crate::daemon::fetch::ip_lists::admission::HIDDEN;
use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::upstream::proxies::UpstreamId;
use crate::proto::url::percent_decoded;
use crate::util::json::Json;
use crate::util::spelling::nearest;

/// A request for an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExplainQuery {
    /// `None` = all users, and the clients that did not authenticate.
    name: Option<String>,
    is_text: bool,
}

impl ExplainQuery {
    /// Parses a path and its query; `None` = the request is for another page.
    pub(super) fn parse(path: &str, query: &str) -> Option<Self> {
        let mut parts = query.split('&');
        let is_text = parts.clone().any(|part| part == "text");
        let name = match (path, path.strip_prefix("/explain/")) {
            ("/explain", _) | (_, Some("")) => "",
            (_, Some(name)) => name,
            ("/stats", None) => parts.find_map(|part| part.strip_prefix("explain="))?,
            _ => return None,
        };
        let name = String::from_utf8_lossy(&percent_decoded(name)?).into_owned();
        Some(Self { name: Some(name).filter(|name| !name.is_empty()), is_text })
    }

    /// Whether the answer is plain text; otherwise it is JSON.
    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    /// The user of the query.
    pub(super) fn subject(&self, users: &Users) -> Subject<'_> {
        match &self.name {
            None => Subject::All,
            Some(name) => users.find(name).map_or(Subject::Unknown(name), Subject::One),
        }
    }
}

/// Whom a query is about.
pub(super) enum Subject<'a> {
    /// All users, and the clients that did not authenticate.
    All,
    /// This user.
    One(UserId),
    /// No user has this name.
    Unknown(&'a str),
}

/// The page about one user.
pub(super) fn page_of(view: &View<'_>, id: UserId, is_text: bool) -> String {
    let explained = Explained::new(view, id);
    if is_text { text_of(view, &explained) } else { json_of(view, &explained) }
}

/// Writes the body of a 404 for a name that no user has; each row compares one user's name.
pub(super) struct UnknownUserWriter {
    name: String,
    /// The most similar name so far.
    suggestion: Option<String>,
    at: usize,
}

impl UnknownUserWriter {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), suggestion: None, at: 0 }
    }
}

impl RowWriter for UnknownUserWriter {
    fn write_row(&mut self, view: &View<'_>, out: &mut String) -> bool {
        let users = &view.accounts.users;
        if let Some(id) = users.nth(self.at) {
            // Of equally similar names the first one wins.
            let names = self.suggestion.as_deref().into_iter().chain([users.get(id).name()]);
            self.suggestion = nearest(&self.name, names).map(str::to_owned);
            self.at += 1;
            return true;
        }
        out.push_str(&format!("no user is called {:?}", self.name));
        if let Some(name) = &self.suggestion {
            out.push_str(&format!("; did you mean {name:?}?"));
        }
        out.push('\n');
        false
    }
}

/// Writes the page about all users and the clients that did not authenticate, one incident per row.
pub(super) struct AllWriter {
    is_text: bool,
    /// The users with incidents, by name, and `None` for clients that did not authenticate: first
    /// in JSON, last in text.
    holders: Vec<Option<UserId>>,
    /// The next holder.
    at: usize,
    /// The incidents of the holder before it that are not written yet, the next one last.
    incidents: Vec<Incident>,
    /// A user was written.
    has_users: bool,
}

impl AllWriter {
    pub(super) fn new(view: &View<'_>, is_text: bool) -> Self {
        let users = &view.accounts.users;
        let mut has_incidents = vec![false; users.connections().len()];
        for id in view.telemetry.recorder.iter().filter_map(|incident| incident.user) {
            has_incidents[users.position(id)] = true;
        }
        let named = users.ids().filter(|id| has_incidents[users.position(*id)]);
        let mut holders: Vec<Option<UserId>> = named.map(Some).collect();
        holders.insert(if is_text { holders.len() } else { 0 }, None);
        Self { is_text, holders, at: 0, incidents: Vec::new(), has_users: false }
    }

    /// Appends what precedes the incidents of a holder.
    fn begin(&mut self, view: &View<'_>, holder: Option<UserId>, out: &mut String) {
        let is_later = self.has_users;
        self.has_users |= holder.is_some();
        match (holder, self.is_text) {
            (Some(id), false) => {
                out.push_str(if is_later { "]," } else { "],\"users\":{" });
                push_json(out, &Json::from(view.accounts.users.get(id).name()).to_string());
                out.push_str(":[");
            }
            (None, false) => out.push_str("{\"strangers\":["),
            (holder, true) => {
                out.push_str(if is_later { "\n" } else { "" });
                match holder {
                    Some(id) => write_hints(out, view, &Explained::new(view, id)),
                    None => out.push_str("unauthenticated clients\n"),
                }
                if holder.is_none() && self.incidents.is_empty() {
                    out.push_str("  none was refused since the start\n");
                }
            }
        }
    }
}

impl RowWriter for AllWriter {
    fn write_row(&mut self, view: &View<'_>, out: &mut String) -> bool {
        if let Some(incident) = self.incidents.pop() {
            if self.is_text {
                write_incident(out, view, &incident);
            } else {
                out.push_str(if out.ends_with('[') { "" } else { "," });
                push_json(out, &incident_object(view, &incident).to_string());
            }
            return true;
        }
        let Some(holder) = self.holders.get(self.at).copied() else {
            if !self.is_text {
                out.push_str(if self.has_users { "]}}\n" } else { "],\"users\":{}}\n" });
            }
            return false;
        };
        self.at += 1;
        let incidents = view.telemetry.recorder.incidents_of(holder);
        self.incidents = incidents.into_iter().rev().cloned().collect();
        if holder.is_none() || !self.incidents.is_empty() {
            self.begin(view, holder, out);
        }
        true
    }
}

/// One user and the causes that were recorded for them.
struct Explained<'a> {
    id: UserId,
    user: &'a User,
    connections: u32,
    incidents: Vec<&'a Incident>,
}

impl<'a> Explained<'a> {
    fn new(view: &View<'a>, id: UserId) -> Self {
        let users = &view.accounts.users;
        let connections = users.connections_of(id);
        let incidents = view.telemetry.recorder.incidents_of(Some(id));
        Self { id, user: users.get(id), connections, incidents }
    }
}

fn json_of(view: &View<'_>, explained: &Explained<'_>) -> String {
    let user = explained.user;
    let hints = hints(view, explained).into_iter().map(Json::from);
    let incidents = explained.incidents.iter().map(|incident| incident_object(view, incident));
    let report = Json::Object(vec![
        ("user", user.name().into()),
        ("enabled", user.is_enabled().into()),
        ("connections", explained.connections.into()),
        ("last_seen", last_seen(view.accounts, user, view.time).map(rfc_3339).into()),
        ("refused", user.refused.into()),
        ("refusals", Json::List(incidents.collect())),
        ("hints", Json::List(hints.collect())),
    ]);
    let mut line = String::new();
    push_json(&mut line, &report.to_string());
    line + "\n"
}

fn incident_object<'a>(view: &View<'_>, incident: &Incident) -> Json<'a> {
    Json::Object(vec![
        ("cause", incident.cause.as_str().into()),
        ("what", incident.cause.description().into()),
        ("detail", detail(view, incident).into()),
        ("count", incident.count.into()),
        ("first", stamp(view.time, incident.first_ms).into()),
        ("last", stamp(view.time, incident.last_ms).into()),
        ("remedy", remedy(view, incident.cause).into()),
    ])
}

/// The detail of an incident as a phrase.
fn detail(view: &View<'_>, incident: &Incident) -> Option<String> {
    Some(match incident.detail {
        Detail::None if incident.cause == Cause::FrontUnknown => {
            let (host, fault) = view.outbound.unresolved_front.as_ref()?;
            format!("{host}: {fault}")
        }
        Detail::None => return None,
        Detail::ClockOffset(off_s) => {
            let side = if off_s < 0 { "behind" } else { "ahead" };
            format!("the clock of the phone is {} s {side}", off_s.unsigned_abs())
        }
        Detail::Dc(dc) => format!("data centre {dc}"),
        Detail::DialFailed(addr, errno) => dial_error(addr, errno),
        Detail::ViaProxy(addr, fault, number) => {
            let proxy = view.outbound.upstreams.last_error(UpstreamId(number));
            let proxy = proxy.map_or_else(String::new, |(name, _)| format!(" (proxy {name})"));
            format!("{addr}: {}{proxy}", fault.as_str())
        }
        Detail::NoByte(addr) => format!("{addr}: took the connection, and sent no byte"),
        Detail::Upstream(number) => match view.outbound.upstreams.last_error(UpstreamId(number)) {
            Some((name, Some(error))) => format!("{name}: {error}"),
            Some((name, None)) => format!("{name}: no answer"),
            None => "a proxy that is no longer in the config".to_owned(),
        },
        Detail::Network(network) => {
            let is_listed = matches!(incident.cause, Cause::Blocklisted | Cause::NotAllowlisted);
            let from = match view.settings.log_addresses {
                true => format!("around {}", network.addr()),
                false => format!("from {}", view.telemetry.shown(network.addr())),
            };
            match is_listed && view.lists.clients.are_hidden() {
                true => format!("{from}; {HIDDEN}"),
                false => from,
            }
        }
        Detail::Sender(addr) => format!("from {}", view.telemetry.shown_sender(addr)),
    })
}

/// What the operator can do, with this config.
fn remedy(view: &View<'_>, cause: Cause) -> &'static str {
    let has_proxies = !view.outbound.upstreams.is_empty();
    match cause {
        Cause::DcUnreachable | Cause::DcHungUp if has_proxies => {
            "check whether each entry of network.proxies reaches Telegram (mtbox doctor), or add \
             another one"
        }
        Cause::FrontUnknown
            if matches!(view.outbound.unresolved_front, Some((_, LookupFault::Server(_)))) =>
        {
            "the name server fails, not the name: mtbox doctor examines it; let it run and answer \
             this machine, or set network.dns to another one"
        }
        cause => cause.remedy(),
    }
}

fn dial_error(addr: SocketAddr, errno: i32) -> String {
    match errno {
        0 => format!("{addr}: no answer"),
        errno => format!("{addr}: {}", std::io::Error::from_raw_os_error(errno)),
    }
}

/// What follows from the state of the user and all recorded causes together.
fn hints(view: &View<'_>, explained: &Explained<'_>) -> Vec<String> {
    let user = explained.user;
    let mut hints = Vec::new();
    if !user.is_enabled() {
        hints.push("the user is disabled, see disabled-users".to_owned());
    }
    match (explained.connections, user.last_seen_ms) {
        (0, None) => hints.push(
            "never seen since the start: the link was not used, or the port is not reachable \
             (firewall, port forwarding)"
                .to_owned(),
        ),
        (0, Some(at)) => hints.push(format!("not connected; last seen {}", stamp(view.time, at))),
        (1, _) => hints.push("connected, one session".to_owned()),
        (sessions, _) => hints.push(format!("connected, {sessions} sessions")),
    }
    if explained.connections == 0 {
        hints.extend(hints_of_unauthenticated(&view.telemetry.recorder));
    }
    hints.extend(hint_of_clock(&view.telemetry.recorder, explained.id));
    if view.time.is_unset() {
        hints.push(
            "the clock of this machine is not set, so client clocks are not checked".to_owned(),
        );
    }
    hints
}

/// Refusals before authentication: any of them may have hit this user.
fn hints_of_unauthenticated(recorder: &Recorder) -> Vec<String> {
    let incidents = recorder.incidents_of(None);
    let count = |cause: Cause| -> u64 {
        incidents.iter().filter(|one| one.cause == cause).map(|one| u64::from(one.count)).sum()
    };
    let mut hints = Vec::new();
    let wrong_key = count(Cause::WrongKey);
    if wrong_key > 0 {
        hints.push(format!(
            "{wrong_key} TLS hellos had a key that matches no user: if this user sent one of \
             them, the link is outdated"
        ));
    }
    let earlier = |cause: &Cause| {
        let count = count(*cause);
        (count > 0).then(|| format!("{} {count}", cause.as_str()))
    };
    let earlier: Vec<String> = BEFORE_THE_KEY.iter().filter_map(earlier).collect();
    if !earlier.is_empty() {
        hints.push(format!(
            "connections were refused before authentication, possibly also connections of this \
             user: {}; see explain without a name",
            earlier.join(", ")
        ));
    }
    hints
}

/// If the clocks of several users are off in the same direction, the clock of this machine is the
/// likely cause.
fn hint_of_clock(recorder: &Recorder, id: UserId) -> Option<String> {
    let is_behind = |incident: &Incident| match incident.detail {
        Detail::ClockOffset(off_s) => Some(off_s < 0),
        _ => None,
    };
    let own = recorder.iter().filter(|one| one.user == Some(id)).find_map(is_behind)?;
    // A user has at most one incident of this kind, so this counts users.
    let users = recorder.iter().filter(|one| is_behind(one) == Some(own)).count();
    (users > 1).then(|| {
        let side = if own { "ahead" } else { "behind" };
        format!(
            "the clocks of {users} users differ in the same direction: the clock of this machine \
             is probably {side}"
        )
    })
}

/// A name as one line of text, without control characters.
fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

fn text_of(view: &View<'_>, explained: &Explained<'_>) -> String {
    let mut text = String::new();
    write_hints(&mut text, view, explained);
    if explained.incidents.is_empty() {
        text.push_str("  nothing went wrong since the start\n");
    }
    explained.incidents.iter().for_each(|incident| write_incident(&mut text, view, incident));
    text
}

fn write_hints(text: &mut String, view: &View<'_>, explained: &Explained<'_>) {
    text.push_str(&printable(explained.user.name()));
    text.push('\n');
    for hint in hints(view, explained) {
        text.push_str(&format!("  {hint}\n"));
    }
}

fn write_incident(text: &mut String, view: &View<'_>, incident: &Incident) {
    let Incident { cause, count, last_ms, .. } = incident;
    let (name, description) = (cause.as_str(), cause.description());
    let last = stamp(view.time, *last_ms);
    text.push_str(&format!("  {name} ({count} times, last {last}): {description}\n"));
    if let Some(detail) = detail(view, incident) {
        text.push_str(&format!("    {detail}\n"));
    }
    text.push_str(&format!("    -> {}\n", remedy(view, *cause)));
}

/// Causes of a refusal before the key of the client is checked: the client can be a user.
const BEFORE_THE_KEY: [Cause; 9] = [
    Cause::UnknownHost,
    Cause::Blocklisted,
    Cause::NotAllowlisted,
    Cause::Full,
    Cause::BadHeader,
    Cause::HeaderOff,
    Cause::HeaderUntrusted,
    Cause::HeaderTwice,
    Cause::Pressure,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn remedies_name_no_key_that_does_not_exist() {
        let is_of_a_key = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        let mut named = 0;
        for cause in Cause::ALL {
            for word in cause.remedy().split(|letter| !is_of_a_key(letter)) {
                let word = word.trim_matches(['.', '-']);
                if word.contains(['.', '-', '_']) && !VALUES.contains(&word) {
                    assert!(keys::find(word).is_some() || keys::is_table(word), "{word}");
                    named += 1;
                }
            }
        }
        assert!(named >= 12, "{named}");
    }

    const VALUES: [&str; 1] = ["only-ipv4"];

    #[test]
    fn names_come_from_the_path_or_the_query_and_may_be_anything() {
        let parse = |path, query| ExplainQuery::parse(path, query);
        let query = |name: &str, is_text| {
            Some(ExplainQuery {
                name: Some(name).filter(|n| !n.is_empty()).map(str::to_owned),
                is_text,
            })
        };
        assert_eq!(parse("/explain/alice", ""), query("alice", false));
        assert_eq!(parse("/explain/a%20b%2Fc", "text"), query("a b/c", true));
        assert_eq!(parse("/explain/a/b", ""), query("a/b", false));
        assert_eq!(parse("/stats", "x=1&explain=zo%C3%A9&text"), query("zo\u{e9}", true));
        for path in ["/explain", "/explain/"] {
            assert_eq!(parse(path, ""), query("", false));
        }
        assert_eq!(parse("/stats", ""), None);
        assert_eq!(parse("/explained", ""), None);
        assert_eq!(parse("/explain/%", ""), None);
    }
}
