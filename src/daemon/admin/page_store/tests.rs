//! Pages that are written over several rounds.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;

use super::*;
use crate::accounts::recorder::{Cause, Detail};
use crate::accounts::users::UserId;
use crate::config::settings::{Settings, UserSettings};
use crate::config::{HAS_METRICS, load};
use crate::daemon::admin::pages::{AdminPages, Asked, asked};
use crate::daemon::shared::{self, Shared};
use crate::io::clock::Wall;
use crate::proto::http1;

/// Every kind of page, by its path. The flavour mini has no metrics.
fn paths() -> impl Iterator<Item = &'static str> {
    let metrics = HAS_METRICS.then_some("/metrics");
    let others = [
        "/stats",
        "/stats?text",
        "/explain",
        "/explain?text",
        "/explain/user%200",
        "/explain/uzer%20123?text",
    ];
    metrics.into_iter().chain(others)
}

fn settings(users: usize) -> Settings {
    let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
    let text = format!(
        "bind-to = \"192.0.2.1:443\"\nsecret = \"{secret}\"\n[throttle]\nmax-connections = 9\n\
         [stats.prometheus]\nenabled = true\nper-user = true\n\
         bind-to = \"127.0.0.1:1\"\nhttp-path = \"/metrics\"\n"
    );
    let mut settings = load::load(text.as_bytes(), "test").unwrap().settings;
    let secret = settings.users[0].secret.clone();
    let mut names: Vec<String> = (0..users).map(|n| format!("user {n}<\"&>")).collect();
    names.extend(["user 0".to_owned()]);
    names.sort();
    let user = |name| UserSettings { name, secret: secret.clone(), enabled: true };
    settings.users = names.into_iter().map(user).collect();
    settings
}

fn shared(users: usize) -> Shared {
    let mut shared = Shared::new(Rc::new(settings(users)), [7; 48], 16, 1);
    shared.buffers.memory.budget.set_limit(64 << 20);
    shared.set_time(Tick(5_000), Wall { unix_s: 1_900_000_000, nanos: 0 });
    let ids: Vec<UserId> = shared.accounts.users.ids().collect();
    for (at, id) in ids.into_iter().enumerate() {
        let user = shared.accounts.users.get_mut(id);
        (user.bytes_in, user.bytes_out) = (at as u64, 1_000 * at as u64);
        user.refused = u64::from(at % 7 == 0);
        if at % 5 == 0 {
            let addr = SocketAddr::from(([192, 0, 2, 1], at as u16));
            let recorder = &mut shared.telemetry.recorder;
            recorder.note(Some(id), Cause::DcUnreachable, Detail::DialFailed(addr, 111), 7);
            recorder.note(Some(id), Cause::Idle, Detail::None, 8);
            shared.accounts.users.add_session(id, addr.ip(), 9);
        }
    }
    shared.telemetry.recorder.note(None, Cause::WrongKey, Detail::None, 10);
    let connections = shared.accounts.users.connections();
    shared.limits.throttle.as_mut().unwrap().recompute(connections);
    shared
}

fn query(path: &str, view: &View<'_>) -> PageQuery {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    match asked(request.as_bytes(), AdminPages { stats: true, metrics: true }, view) {
        Some(Asked::Page { query, .. }) => query,
        _ => panic!("{path} is no page"),
    }
}

/// The page without a pause, and the number of its rows.
fn at_once(query: &PageQuery, view: &View<'_>) -> (Page, usize) {
    let ((mut page, mut writer), mut rows) = (query.start(view), 1);
    while writer.as_mut().is_some_and(|writer| writer.write_row(view, &mut page.body)) {
        rows += 1;
    }
    (page, rows)
}

/// The page in turns, and their number.
fn in_turns(store: &mut PageStore, query: &PageQuery, view: &View<'_>) -> (Rc<ChargedPage>, usize) {
    for turn in 1.. {
        store.begin_turn();
        if let Some(page) = store.get(query, view.time.now, view) {
            return (page, turn);
        }
    }
    unreachable!()
}

/// The body without the bytes of the pages themselves, which it shows.
fn fixed(body: &str) -> String {
    ["\"operator\":", "\"operator\"} "].iter().fold(body.to_owned(), |body, mark| {
        let parts = body.split_once(mark).map(|(before, after)| {
            [before, after.trim_start_matches(|digit: char| digit.is_ascii_digit())].concat()
        });
        parts.unwrap_or(body)
    })
}

#[test]
fn a_page_in_slices_equals_the_page_at_once() {
    for users in [0, 1, 200, 255, 256, 257, 3_000] {
        let shared = shared(users);
        let view = shared.view();
        for path in paths() {
            let query = query(path, &view);
            let (page, rows) = at_once(&query, &view);
            let (sliced, turns) = in_turns(&mut PageStore::default(), &query, &view);
            assert!(fixed(&sliced.page.body) == fixed(&page.body), "{path}, {users} users");
            assert!(!page.body.is_empty(), "{path}");
            assert_eq!((sliced.page.status, sliced.page.kind), (page.status, page.kind));
            assert_eq!(turns, rows.div_ceil(ROWS_PER_TURN), "{path}, {users} users");
        }
    }
}

#[test]
fn every_user_has_a_row() {
    let shared = shared(1_000);
    let view = shared.view();
    let body = |path| at_once(&query(path, &view), &view).0.body;
    let stats: Value = serde_json::from_str(&body("/stats")).unwrap();
    assert_eq!(stats["users"].as_object().unwrap().len(), 1_001);
    assert_eq!(stats["users"]["user 7<\"&>"]["connections"], 0);
    let caps = stats["throttle"]["caps"].as_object().unwrap();
    let counts = view.accounts.users.connections();
    assert_eq!(caps.len(), counts.iter().filter(|count| **count > 0).count());
    assert_eq!(body("/stats?text").lines().count(), 1_002);
    let widths: BTreeSet<usize> = body("/stats?text").lines().map(str::len).collect();
    assert_eq!(widths.len(), 1, "columns are aligned");
    if HAS_METRICS {
        assert_eq!(body("/metrics").matches("\nmtg_user_sessions{").count(), 1_001);
    }
    let explained: Value = serde_json::from_str(&body("/explain")).unwrap();
    let lists = explained["users"].as_object().unwrap().values();
    let incidents: usize = lists.map(|list| list.as_array().unwrap().len()).sum();
    assert_eq!(explained["strangers"][0]["cause"], "wrong-key");
    assert!(incidents > 100);
    assert_eq!(body("/explain?text").matches(" times, last ").count(), incidents + 1);
    assert!(body("/explain/uzer%200").ends_with("; did you mean \"user 0\"?\n"));
}

#[test]
fn users_who_change_between_two_slices_leave_no_trace() {
    for path in paths() {
        let mut shared = shared(3_000);
        let mut store = PageStore::default();
        let query = query(path, &shared.view());
        store.begin_turn();
        let _ = store.get(&query, shared.time.now, &shared.view());
        // Twice, so that ids of removed users are given to others.
        for users in [2, 2_000] {
            let mut settings = settings(users);
            settings.users.iter_mut().for_each(|user| user.name.insert_str(0, "new "));
            shared.accounts.users.reload(shared::configured_users(&settings));
            let users = &shared.accounts.users;
            shared.telemetry.recorder.retain_users(|id| users.is_configured(id));
            shared.settings = Rc::new(settings);
            store.clear();
        }
        let (page, _) = in_turns(&mut store, &query, &shared.view());
        let wanted = at_once(&query, &shared.view()).0.body;
        assert!(fixed(&page.page.body) == fixed(&wanted), "{path}");
        assert!(
            !page.page.body.contains("\"user 1") && !page.page.body.contains("\nuser "),
            "{path}"
        );
    }
}

#[test]
fn many_rows_answer_the_requests_of_a_second_and_few_rows_one_round() {
    for (users, is_kept) in [(20, false), (2_000, true)] {
        let mut shared = shared(users);
        let mut store = PageStore::default();
        let query = query("/stats", &shared.view());
        let (first, _) = in_turns(&mut store, &query, &shared.view());
        let mut again = |after_ms: u64| {
            let now = Tick(5_000 + after_ms);
            shared.set_time(now, Wall::default());
            store.retain(now, |_, _| false);
            let (page, _) = in_turns(&mut store, &query, &shared.view());
            Rc::ptr_eq(&first, &page)
        };
        assert_eq!([again(1), again(999)], [is_kept; 2], "{users} users");
        assert!(!again(1_001));
        assert_eq!(store.written(), if is_kept { 2 } else { 4 });
        store.retain(Tick(9_000), |_, _| false);
        assert!(store.due().is_none(), "memory is given back");
    }
}

#[test]
fn one_page_at_a_time_is_written_and_one_without_a_request_is_dropped() {
    let shared = shared(3_000);
    let (view, mut store) = (shared.view(), PageStore::default());
    let (stats, explain) = (query("/stats", &view), query("/explain", &view));
    store.begin_turn();
    assert!(store.get(&stats, view.time.now, &view).is_none());
    for _ in 0..100 {
        store.begin_turn();
        assert!(store.get(&explain, view.time.now, &view).is_none(), "/stats is in progress");
    }
    store.retain(view.time.now, |page, _| *page == explain);
    in_turns(&mut store, &explain, &view);
    assert_eq!(store.written(), 1);
}

#[test]
fn a_page_without_memory_is_refused_and_counted() {
    let shared = shared(3_000);
    let (view, mut store) = (shared.view(), PageStore::default());
    let budget = &view.buffers.memory.budget;
    let (stats, explain) = (query("/stats", &view), query("/explain", &view));
    let (page, _) = in_turns(&mut store, &stats, &view);
    assert_eq!(budget.used(), page.page.body.capacity());
    assert!(budget.used() - page.page.body.len() < 64, "no spare bytes are kept");
    // The old page is sent no more, so it gives way.
    drop(page);
    budget.set_limit(8 * (budget.used() + (64 << 10)));
    assert!(in_turns(&mut store, &explain, &view).0.page.body.len() > 9_000);
    assert_eq!(store.refused(), 0);
    budget.set_limit(100 << 10);
    let (refused, _) = in_turns(&mut store, &stats, &view);
    assert_eq!((refused.page.status, store.refused()), (http1::UNAVAILABLE, 1));
    drop(refused);
    store.retain(Tick(9_000), |_, _| false);
    assert_eq!(budget.used(), 0);
    store.begin_turn();
    assert!(store.get(&stats, view.time.now, &view).is_none() && budget.used() > 0);
    store.clear();
    assert_eq!(budget.used(), 0);
}
