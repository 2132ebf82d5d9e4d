//! Every state with a peer that has fallen silent ends in time and leaves nothing behind
//! (spec: network 9).

use std::thread;
use std::time::{Duration, Instant};

use crate::support::blackhole::BlackHole;
use crate::support::client::{CCS, Visitor, record};
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::Config;
use crate::support::stage::Stage;
use crate::support::{PATIENCE, eventually};

fn hasty(config: Config) -> Config {
    config
        .set("network.timeout", "handshake", "\"1s\"")
        .set("network.timeout", "idle", "\"2s\"")
        .set("network.timeout", "tcp", "\"1s\"")
}

#[test]
fn silence_from_the_start_ends() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let mut peer = Peer::connect("silent client", stage.proxy.addr);
    assert!(peer.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}

#[test]
fn silence_after_half_a_hello_ends() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum).wire;
    let mut peer = Peer::connect("silent client", stage.proxy.addr);
    peer.send(&hello[..hello.len() / 2]);
    let mut visit = stage.origin.visit();
    assert!(peer.recv_rest().0.is_empty());
    assert!(visit.peer.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}

#[test]
fn silence_after_the_answer_ends() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let mut visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    visitor.peer.recv_rest();
    stage.proxy.wait_for_rest(files);
}

#[test]
fn silence_after_half_a_header_ends() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    let (mut client, header) = visitor.prepare(DD, 2);
    client.up.raw(&[&CCS[..], &record(0x17, &header[..32])].concat());
    client.up.peer.recv_rest();
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_handshake_that_trickles_does_not_extend_its_deadline() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    let (mut client, _) = visitor.prepare(DD, 2);
    eventually("the proxy loses patience", || {
        // Empty records for ever: life on the wire, but never a header.
        client.up.peer.try_send(&record(0x17, &[])).is_err()
    });
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_flood_behind_a_broken_record_does_not_extend_the_farewell() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut peer = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::Classic).peer;
                peer.send(&record(0x16, &[0; 64]));
                while peer.try_send(&[0; 5000]).is_ok() {
                    assert!(start.elapsed() < PATIENCE, "a flood keeps a lost session for ever");
                }
            });
        }
    });
    // The farewell takes three seconds; a flood that hides its end took ten and more.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_dial_into_a_black_hole_ends() {
    let hole = BlackHole::dig();
    let list = format!("[\"{}\"]", hole.addr);
    let stage = Stage::with(|config| hasty(config).set("telegram.dc-overrides", "2", &list));
    let files = stage.proxy.files();
    let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    let mut client = visitor.begin(DD, 2);
    client.up.peer.recv_rest();
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_front_that_is_a_black_hole_ends() {
    let hole = BlackHole::dig();
    let port = hole.addr.port().to_string();
    let stage = Stage::with(|config| hasty(config).set("domain-fronting", "port", &port));
    let files = stage.proxy.files();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(prober.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}

#[test]
fn an_idle_session_ends_on_both_sides() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let (mut client, mut session) = stage.session();
    client.up.send(b"a word");
    assert_eq!(session.from.recv(6), b"a word");
    assert!(client.down.recv_rest().0.is_empty());
    assert!(session.from.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_session_with_traffic_in_one_direction_is_not_idle() {
    let stage = Stage::with(hasty);
    let (mut client, mut session) = stage.session();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        session.to.send(b"tick");
        assert_eq!(client.down.recv(4), b"tick");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(stage.proxy.connections("alice"), 1);
}

#[test]
fn a_half_closed_session_ends() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let (mut client, mut session) = stage.session();
    client.up.finish();
    assert!(session.from.recv_rest().0.is_empty());
    assert!(client.down.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);

    let (mut client, mut session) = stage.session();
    session.to.finish();
    assert!(client.down.recv_rest().0.is_empty());
    assert!(session.from.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}

#[test]
fn an_idle_visit_ends() {
    let stage = Stage::with(hasty);
    let files = stage.proxy.files();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n");
    let mut visit = stage.origin.visit();
    assert!(prober.recv_rest().0.is_empty());
    assert!(visit.peer.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}
