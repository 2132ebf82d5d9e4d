//! Waiting costs nothing: in every state in which nothing can move, the loop sleeps.

use std::thread;

use crate::support::blackhole::BlackHole;
use crate::support::client::{Client, Visitor};
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::stage::Stage;
use crate::support::{QUIET, eventually, holds_within, pattern};

/// A second with less than 50 ms of processor time and less than 100 wake-ups:
/// a loop that spins needs a whole second of the one and thousands of the other.
fn assert_sleeps(stage: &Stage, state: &str) {
    let settled = || {
        let (ticks, wakes) = (stage.proxy.ticks(), stage.proxy.wake_ups());
        !holds_within(QUIET * 4, || {
            stage.proxy.ticks() > ticks + 5 || stage.proxy.wake_ups() > wakes + 100
        })
    };
    // The first look may still see the last of the work before.
    assert!(settled() || settled(), "it spins: {state}");
}

#[test]
fn an_idle_program_never_wakes() {
    let stage = Stage::plain();
    let (mut client, mut session) = stage.session();
    client.up.send(b"hello");
    assert_eq!(session.from.recv(5), b"hello");
    eventually("it falls asleep", || {
        let wakes = stage.proxy.wake_ups();
        !holds_within(QUIET * 4, || stage.proxy.wake_ups() > wakes)
    });
}

#[test]
fn half_closed_sessions_sleep() {
    let stage = Stage::plain();
    let (client, mut session) = stage.session();
    client.up.finish();
    assert!(session.from.recv_rest().0.is_empty());
    assert_sleeps(&stage, "the client has finished");
    let (mut other, session) = stage.session();
    session.to.finish();
    assert!(other.down.recv_rest().0.is_empty());
    assert_sleeps(&stage, "the DC has finished");
}

#[test]
fn stalled_sessions_sleep() {
    let stage = Stage::plain();
    let (mut client, mut session) = stage.session();
    let down = thread::spawn(move || session.to.try_send(&pattern(1, 48 << 20)).is_some());
    eventually("the DC is held", || is_still(&stage, "bytes_out"));
    assert_sleeps(&stage, "the client does not read");
    let up = thread::spawn(move || client.up.pour(&pattern(2, 48 << 20)));
    eventually("the client is held", || is_still(&stage, "bytes_in"));
    assert_sleeps(&stage, "nobody reads");
    assert!(!down.is_finished() && !up.is_finished());
}

fn is_still(stage: &Stage, field: &str) -> bool {
    let moved = stage.proxy.number("alice", field);
    moved > 0 && !holds_within(QUIET, || stage.proxy.number("alice", field) != moved)
}

#[test]
fn unfinished_openings_sleep() {
    let hole = BlackHole::dig();
    let list = format!("[\"{}\"]", hole.addr);
    let stage = Stage::with(|config| {
        config.set("telegram.dc-overrides", "2", &list).set("network.timeout", "tcp", "\"25s\"")
    });
    let _silent = Peer::connect("silent", stage.proxy.addr);
    assert_sleeps(&stage, "a silent client");
    let mut half = Peer::connect("half", stage.proxy.addr);
    half.send(&Hello::fresh(&stage.secret, Shape::PostQuantum).wire[..900]);
    assert_sleeps(&stage, "half a hello");
    let _answered = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    assert_sleeps(&stage, "no header yet");
    let mut dialling =
        Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum).begin(DD, 2);
    assert_sleeps(&stage, "a dial that hangs");
    dialling.up.pour(&pattern(3, 100_000));
    assert_sleeps(&stage, "data before the DC is there");
}

#[test]
fn a_full_house_sleeps() {
    let stage = Stage::with(|config| config.set("", "concurrency", "4"));
    let _seated: Vec<_> = (0..4).map(|_| stage.session()).collect();
    let _waiting: Vec<_> = (0..20).map(|_| Peer::connect("queue", stage.proxy.addr)).collect();
    assert_sleeps(&stage, "no place left");
}

#[test]
fn a_house_without_descriptors_sleeps() {
    let stage = Stage::with(|config| config.most_files(64));
    let _flood: Vec<_> = (0..100).map(|_| Peer::connect("flood", stage.proxy.addr)).collect();
    assert_sleeps(&stage, "no descriptor left");
}

#[test]
fn a_visit_that_nobody_answers_sleeps() {
    let stage = Stage::plain();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    prober.finish();
    let visit = stage.origin.visit();
    assert_sleeps(&stage, "a prober waits");
    drop(visit);
    let mut reader = Peer::connect("stats reader", stage.proxy.api);
    reader.send(b"GET /st");
    let _client = Client::open(stage.proxy.addr, &stage.secret);
    assert_eq!(stage.proxy.connections("alice"), 1);
}
