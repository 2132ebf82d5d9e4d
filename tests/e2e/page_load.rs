//! The admin pages under load: thousands of users, many requests, clients that are silent or do not
//! read. Users and new requests notice none of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::fixture::{Fixture, HOST};
use crate::support::hello::Secret;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::stats::{get, read_response};
use crate::support::{QUIET, eventually, holds_within};

const STATS: &[u8] = b"GET /stats HTTP/1.0\r\n\r\n";
const USERS: usize = 3_000;

fn with_users(config: Config, name: &str) -> Config {
    let user = |config: Config, n| config.user(&format!("{name} {n}"), &Secret::new(HOST));
    (0..USERS).fold(config, user)
}

/// A number in the line `state-pages` that SIGUSR1 writes.
fn count(proxy: &Proxy, name: &str) -> usize {
    let before = proxy.log().len();
    proxy.signal(Signal::SIGUSR1);
    let mut count = None;
    eventually("a line with counts", || {
        let log = proxy.log();
        let mut lines = log[before..].split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let line = lines.find(|line| line.contains("event=state-pages"));
        let words = line.unwrap_or_default().split_whitespace();
        let mut values = words.filter_map(|word| word.strip_prefix(&format!("{name}=")));
        count = values.next().and_then(|value| value.parse().ok());
        count.is_some()
    });
    count.expect("a number")
}

#[test]
fn a_thousand_waiting_requests_do_not_delay_a_session() {
    let fixture = Fixture::with(|config| with_users(config, "user"));
    let (mut client, mut session) = fixture.session();
    let start = Instant::now();
    let requests: Vec<Peer> = (0..REQUESTS)
        .map(|_| {
            let mut peer = Peer::connect("stats reader", fixture.proxy.api);
            peer.send(STATS);
            peer.send_fin();
            peer
        })
        .collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let is_wanted = |(at, _): &(usize, Peer)| *at < 9 || !is_over.load(Ordering::SeqCst);
            requests.into_iter().enumerate().take_while(is_wanted).for_each(|(_, mut peer)| {
                assert_eq!(read_response(&mut peer).status, 200);
            });
        });
        for _ in 0..ECHOES {
            client.up.send(b"ping");
            assert_eq!(session.from.recv(4), b"ping");
            session.to.send(b"pong");
            assert_eq!(client.down.recv(4), b"pong");
        }
        let accepted = count(&fixture.proxy, "accepted");
        is_over.store(true, Ordering::SeqCst);
        assert!(accepted < REQUESTS, "{accepted} requests were answered before {ECHOES} echoes");
        reader.join().expect("answers");
        let written = count(&fixture.proxy, "written");
        let seconds = usize::try_from(start.elapsed().as_secs()).expect("a short test");
        assert!(written <= seconds + 3, "{written} pages in {seconds} s");
    });
}

#[test]
fn a_silent_client_gives_its_slot_to_a_new_one() {
    let fixture = Fixture::new();
    let mut silent: Vec<Peer> =
        (0..8).map(|_| Peer::connect("silent", fixture.proxy.api)).collect();
    silent[0].send(b"GET /st");
    assert_eq!(get(fixture.proxy.api, "/stats").status, 200);
    assert_eq!(read_response(&mut silent[0]).status, 408, "the oldest one had to go");
    assert!(count(&fixture.proxy, "evicted") > 0);
    silent[7].send(STATS);
    assert_eq!(read_response(&mut silent[7]).status, 200);
    let log = fixture.proxy.log();
    assert!(log.contains("level=info event=page-client-evicted"), "{log}");
}

#[test]
fn clients_that_do_not_read_give_their_slots_too() {
    let fixture = Fixture::with(|config| with_users(config, "user"));
    let _unread: Vec<Peer> = (0..8)
        .map(|_| {
            let peer = Peer::connect("unread", fixture.proxy.api);
            let mut peer = peer.with_small_receive_buffer(16_384);
            peer.send(STATS);
            peer
        })
        .collect();
    assert_eq!(get(fixture.proxy.api, "/stats").status, 200);
    assert!(count(&fixture.proxy, "evicted") > 0);
}

#[test]
fn the_program_sleeps_again_after_a_long_page() {
    let fixture = Fixture::with(|config| with_users(config, "user"));
    assert_eq!(get(fixture.proxy.api, "/stats").status, 200);
    let path = format!("/proc/{}/schedstat", fixture.proxy.pid());
    let cpu = || std::fs::read_to_string(&path).expect("a living process");
    eventually("it uses no CPU", || {
        let before = cpu();
        !holds_within(QUIET, || cpu() != before)
    });
}

/// A page is written over several rounds. It shows the users of one config only.
#[test]
fn a_page_never_mixes_two_configs() {
    let mut fixture = Fixture::with(|config| with_users(config, "user"));
    let api = fixture.proxy.api;
    let base = Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let reply = get(api, "/stats");
                let stats: Value = serde_json::from_str(&reply.body).expect("JSON");
                let users = stats["users"].as_object().expect("users");
                let of = |name: &str| users.keys().filter(|key| key.starts_with(name)).count();
                let counts = [of("user "), of("other ")];
                assert!([[USERS, 0], [0, USERS]].contains(&counts), "{counts:?}");
                thread::sleep(Duration::from_millis(20));
            }
        });
        for name in ["other", "user", "other"] {
            let line = fixture.proxy.reload(&with_users(base.clone(), name));
            assert!(line.contains("reloaded"), "{line}");
        }
        is_over.store(true, Ordering::SeqCst);
        reader.join().expect("a reader");
    });
}

const REQUESTS: usize = 1_000;
const ECHOES: usize = 50;
