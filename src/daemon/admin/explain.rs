//! `GET /explain/NAME` and `GET /stats?explain=NAME`: why a user was refused lately, and what
//! helps. As JSON, or as text for people with `?text`.

use std::net::SocketAddr;

use crate::accounts::recorder::{Cause, Detail, Incident};
use crate::accounts::users::UserId;
use crate::config::suggest::nearest;
use crate::daemon::admin::stats::{JsonObject, print, rfc_3339, stamp};
use crate::daemon::shared::World;
use crate::daemon::upstream::proxies::UpstreamId;
use crate::proto::url::percent_decoded;

/// What was asked: about whom, and how to answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ExplainQuery {
    /// `None` = about everybody, strangers included.
    name: Option<String>,
    is_text: bool,
}

impl ExplainQuery {
    /// Reads a path and its query; `None` = another page is asked for.
    pub fn read(path: &str, query: &str) -> Option<Self> {
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

    /// The answer, or that nobody is called so.
    ///
    /// # Errors
    /// One line, for a 404.
    pub fn answer(&self, world: &World) -> Result<(bool, String), String> {
        let Some(name) = &self.name else {
            return Ok((self.is_text, if self.is_text { all_text(world) } else { all(world) }));
        };
        let Some(id) = world.accounts.users.find(name) else {
            let names = world.accounts.users.iter().map(|(user, _)| user.name());
            let guess = nearest(name, names).map(|near| format!("; did you mean {near:?}?"));
            return Err(format!("no user is called {name:?}{}\n", guess.unwrap_or_default()));
        };
        Ok((self.is_text, if self.is_text { text_of(world, id) } else { print(&of(world, id)) }))
    }
}

/// Strangers, and everybody of whom something is known.
fn all(world: &World) -> String {
    let mut report = JsonObject::default();
    report.put("strangers", told(world, None));
    let mut users = JsonObject::default();
    for id in world.accounts.users.ids() {
        if !world.telemetry.recorder.incidents_of(Some(id)).is_empty() {
            users.put(world.accounts.users.get(id).name(), told(world, Some(id)));
        }
    }
    report.put("users", users);
    print(&report)
}

fn of(world: &World, id: UserId) -> JsonObject<'_> {
    let user = world.accounts.users.get(id);
    let mut report = JsonObject::default();
    report.put("user", user.name());
    report.put("enabled", user.is_enabled());
    report.put("connections", connections(world, id));
    report.put(
        "last_seen",
        world.accounts.last_seen(user, |at_ms| world.time.wall_of(at_ms)).map(rfc_3339),
    );
    report.put("refused", user.refused);
    report.put("refusals", told(world, Some(id)));
    report.put("hints", hints(world, id));
    report
}

fn connections(world: &World, id: UserId) -> u32 {
    world.accounts.users.connections().get(world.accounts.users.position(id)).copied().unwrap_or(0)
}

fn told(world: &World, user: Option<UserId>) -> Vec<JsonObject<'_>> {
    let entries = world.telemetry.recorder.incidents_of(user);
    let object = |entry: &Incident| {
        let mut told = JsonObject::default();
        told.put("cause", entry.cause.as_str());
        told.put("what", entry.cause.description());
        told.put("detail", detail(world, entry));
        told.put("count", entry.count);
        told.put("first", stamp(world, entry.first_ms));
        told.put("last", stamp(world, entry.last_ms));
        told.put("remedy", entry.cause.remedy());
        told
    };
    entries.into_iter().map(object).collect()
}

/// What is special about this one, in words.
fn detail(world: &World, entry: &Incident) -> Option<String> {
    Some(match entry.detail {
        Detail::None => return None,
        Detail::ClockOffset(off_s) => {
            let word = if off_s < 0 { "behind" } else { "ahead" };
            format!("the clock of the phone is {} s {word}", off_s.unsigned_abs())
        }
        Detail::Dc(dc) => format!("data centre {dc}"),
        Detail::DialFailed(addr, error) => dialled(addr, error),
        Detail::ViaProxy(addr, fault) => format!("{addr}: {}", fault.as_str()),
        Detail::Upstream(number) => match world.outbound.upstreams.last_error(UpstreamId(number)) {
            Some((name, Some(why))) => format!("{name}: {why}"),
            Some((name, None)) => format!("{name}: no answer"),
            None => "a proxy that the config does not name any more".to_owned(),
        },
        Detail::Network(network) if world.settings.log_addresses => {
            format!("around {}", network.addr())
        }
        Detail::Network(network) => format!("from {}", world.telemetry.shown(network.addr())),
    })
}

fn dialled(addr: SocketAddr, error: i32) -> String {
    match error {
        0 => format!("{addr}: no answer"),
        code => format!("{addr}: {}", std::io::Error::from_raw_os_error(code)),
    }
}

/// What follows from all of it together.
fn hints(world: &World, id: UserId) -> Vec<String> {
    let user = world.accounts.users.get(id);
    let mut hints = Vec::new();
    if !user.is_enabled() {
        hints.push("the user is disabled, see disabled-users".to_owned());
    }
    match (connections(world, id), user.last_seen_ms) {
        (0, None) => hints.push(
            "never seen since the start: the link was not used, or the port is not reachable \
             (firewall, port forwarding)"
                .to_owned(),
        ),
        (0, Some(at)) => hints.push(format!("not connected; last seen {}", stamp(world, at))),
        (1, _) => hints.push("connected, one session".to_owned()),
        (live, _) => hints.push(format!("connected, {live} sessions")),
    }
    if connections(world, id) == 0 {
        hints.extend(nameless(world));
    }
    hints.extend(clock(world, id));
    if world.time.is_unset() {
        hints.push(
            "the clock of this machine is not set, so client clocks are not checked".to_owned(),
        );
    }
    hints
}

/// Who was turned away before anybody could know who it was: it may have been this user.
fn nameless(world: &World) -> Vec<String> {
    let strangers = world.telemetry.recorder.incidents_of(None);
    let count = |cause: Cause| -> u64 {
        strangers.iter().filter(|e| e.cause == cause).map(|e| u64::from(e.count)).sum()
    };
    let mut hints = Vec::new();
    let wrong = count(Cause::WrongKey);
    if wrong > 0 {
        hints.push(format!(
            "{wrong} TLS hellos had a key that matches no user: if this user sent one of them, the \
             link is outdated"
        ));
    }
    let before = |cause: &Cause| {
        let count = count(*cause);
        (count > 0).then(|| format!("{} {count}", cause.as_str()))
    };
    let before: Vec<String> = BEFORE_THE_KEY.iter().filter_map(before).collect();
    if !before.is_empty() {
        hints.push(format!(
            "others were turned away before their keys were tried, this user maybe among them: {}; \
             see what is told of strangers",
            before.join(", ")
        ));
    }
    hints
}

/// When several people's clocks are off to the same side, it is ours that is wrong.
fn clock(world: &World, id: UserId) -> Option<String> {
    let side = |entry: &Incident| match entry.detail {
        Detail::ClockOffset(off_s) => Some(off_s < 0),
        _ => None,
    };
    let is_behind =
        world.telemetry.recorder.iter().filter(|e| e.user == Some(id)).find_map(side)?;
    // A user has one such entry at most.
    let alike =
        world.telemetry.recorder.iter().filter(|entry| side(entry) == Some(is_behind)).count();
    (alike > 1).then(|| {
        let word = if is_behind { "ahead" } else { "behind" };
        format!(
            "the clocks of {alike} users differ in the same direction: the clock of this \
                 machine is probably {word}"
        )
    })
}

/// A name on one line of its own, whatever it is made of.
fn shown(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

fn text_of(world: &World, id: UserId) -> String {
    let user = world.accounts.users.get(id);
    let mut out = format!("{}\n", shown(user.name()));
    for hint in hints(world, id) {
        out.push_str(&format!("  {hint}\n"));
    }
    let entries = world.telemetry.recorder.incidents_of(Some(id));
    if entries.is_empty() {
        out.push_str("  nothing went wrong since the start\n");
    }
    write_entries(&mut out, world, &entries);
    out
}

fn all_text(world: &World) -> String {
    let mut out = String::new();
    for id in world
        .accounts
        .users
        .ids()
        .filter(|id| !world.telemetry.recorder.incidents_of(Some(*id)).is_empty())
    {
        out.push_str(&text_of(world, id));
        out.push('\n');
    }
    let strangers = world.telemetry.recorder.incidents_of(None);
    out.push_str("strangers\n");
    if strangers.is_empty() {
        out.push_str("  none was turned away since the start\n");
    }
    write_entries(&mut out, world, &strangers);
    out
}

fn write_entries(out: &mut String, world: &World, entries: &[&Incident]) {
    for entry in entries {
        let Incident { cause, count, last_ms, .. } = entry;
        let (word, what) = (cause.as_str(), cause.description());
        let last = stamp(world, *last_ms);
        out.push_str(&format!("  {word} ({count} times, last {last}): {what}\n"));
        if let Some(detail) = detail(world, entry) {
            out.push_str(&format!("    {detail}\n"));
        }
        out.push_str(&format!("    -> {}\n", cause.remedy()));
    }
}

/// What befalls people and strangers alike.
const BEFORE_THE_KEY: [Cause; 6] = [
    Cause::UnknownHost,
    Cause::Blocklisted,
    Cause::NotAllowlisted,
    Cause::Full,
    Cause::BadHeader,
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
        let question = |path, query| ExplainQuery::read(path, query);
        let about = |name: &str, is_text| {
            Some(ExplainQuery {
                name: Some(name).filter(|n| !n.is_empty()).map(str::to_owned),
                is_text,
            })
        };
        assert_eq!(question("/explain/alice", ""), about("alice", false));
        assert_eq!(question("/explain/a%20b%2Fc", "text"), about("a b/c", true));
        assert_eq!(question("/explain/a/b", ""), about("a/b", false));
        assert_eq!(question("/stats", "x=1&explain=zo%C3%A9&text"), about("zo\u{e9}", true));
        for path in ["/explain", "/explain/"] {
            assert_eq!(question(path, ""), about("", false));
        }
        assert_eq!(question("/stats", ""), None);
        assert_eq!(question("/explained", ""), None);
        assert_eq!(question("/explain/%", ""), None);
    }
}
