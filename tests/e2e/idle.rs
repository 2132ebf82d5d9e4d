//! Waiting costs no processor time: the loop sleeps in every state in which nothing can progress.

use std::thread;

use crate::support::blackhole::BlackHole;
use crate::support::client::{Client, Handshake};
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::{QUIET, eventually, holds_within, pattern};

/// Less than 50 ms of processor time and less than 100 wake-ups in a second. A loop that spins uses
/// the whole second and wakes thousands of times.
fn assert_sleeps(fixture: &Fixture, state: &str) {
    let settled = || {
        let (ticks, wakes) = (fixture.proxy.ticks(), fixture.proxy.wake_ups());
        !holds_within(QUIET * 4, || {
            fixture.proxy.ticks() > ticks + 5 || fixture.proxy.wake_ups() > wakes + 100
        })
    };
    // The first second may include the end of earlier work.
    assert!(settled() || settled(), "it must not spin: {state}");
}

#[test]
fn an_idle_program_never_wakes() {
    let fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
    client.up.send(b"hello");
    assert_eq!(session.from.recv(5), b"hello");
    eventually("it sleeps", || {
        let wakes = fixture.proxy.wake_ups();
        !holds_within(QUIET * 4, || fixture.proxy.wake_ups() > wakes)
    });
}

#[test]
fn half_closed_sessions_sleep() {
    let fixture = Fixture::new();
    let (client, mut session) = fixture.session();
    client.up.send_fin();
    assert!(session.from.recv_rest().0.is_empty());
    assert_sleeps(&fixture, "the client has sent FIN");
    let (mut other, session) = fixture.session();
    session.to.send_fin();
    assert!(other.down.recv_rest().0.is_empty());
    assert_sleeps(&fixture, "the DC has sent FIN");
}

#[test]
fn stalled_sessions_sleep() {
    let fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
    let down = thread::spawn(move || session.to.try_send(&pattern(1, 48 << 20)).is_some());
    eventually("the DC is blocked", || is_still(&fixture, "bytes_out"));
    assert_sleeps(&fixture, "the client does not read");
    let up = thread::spawn(move || client.up.send_while_open(&pattern(2, 48 << 20)));
    eventually("the client is blocked", || is_still(&fixture, "bytes_in"));
    assert_sleeps(&fixture, "a log without a reader");
    assert!(!down.is_finished() && !up.is_finished());
}

fn is_still(fixture: &Fixture, field: &str) -> bool {
    let moved = fixture.proxy.number("alice", field);
    moved > 0 && !holds_within(QUIET, || fixture.proxy.number("alice", field) != moved)
}

#[test]
fn unfinished_openings_sleep() {
    let hole = BlackHole::open();
    let list = format!("[\"{}\"]", hole.addr);
    let fixture = Fixture::with(|config| {
        config.set("telegram.dc-overrides", "2", &list).set("network.timeout", "tcp", "\"25s\"")
    });
    let _silent = Peer::connect("silent", fixture.proxy.addr);
    assert_sleeps(&fixture, "a silent client");
    let mut half = Peer::connect("half", fixture.proxy.addr);
    half.send(&Hello::new(&fixture.secret, App::PostQuantum).wire[..900]);
    assert_sleeps(&fixture, "half a hello");
    let _answered = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    assert_sleeps(&fixture, "no frame yet");
    let mut dialling =
        Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum).send_frame(DD, 2);
    assert_sleeps(&fixture, "a dial that hangs");
    dialling.up.send_while_open(&pattern(3, 100_000));
    assert_sleeps(&fixture, "data before the DC is connected");
}

#[test]
fn the_limit_of_sessions_sleeps() {
    let fixture = Fixture::with(|config| config.set("", "concurrency", "4"));
    let _seated: Vec<_> = (0..4).map(|_| fixture.session()).collect();
    let _waiting: Vec<_> = (0..20).map(|_| Peer::connect("queue", fixture.proxy.addr)).collect();
    assert_sleeps(&fixture, "no session left");
}

#[test]
fn the_limit_of_descriptors_sleeps() {
    let fixture = Fixture::with(|config| config.max_files(64));
    let _flood: Vec<_> = (0..100).map(|_| Peer::connect("flood", fixture.proxy.addr)).collect();
    assert_sleeps(&fixture, "no descriptor left");
}

#[test]
fn a_fronted_connection_without_an_answer_sleeps() {
    let fixture = Fixture::new();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    prober.send_fin();
    let conn = fixture.front.accept();
    assert_sleeps(&fixture, "a prober waits");
    drop(conn);
    let mut reader = Peer::connect("stats reader", fixture.proxy.api);
    reader.send(b"GET /st");
    let _client = Client::open(fixture.proxy.addr, &fixture.secret);
    assert_eq!(fixture.proxy.connections("alice"), 1);
}
