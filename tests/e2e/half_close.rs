//! How sessions end: each direction on its own, resets as resets, and never without the tail
//! (spec: protocol 9.3, gotchas B1 and B2).

use std::thread;
use std::time::Duration;

use crate::support::client::{Client, Visitor};
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::stage::Stage;
use crate::support::{Pattern, eventually, holds_within, pattern};

const MIB: usize = 1 << 20;

/// A session whose client lets the kernel keep little.
fn narrow_client(stage: &Stage) -> Client {
    let peer = Peer::connect("client", stage.proxy.addr).with_small_receive_buffer(131_072);
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    Visitor::greet(peer, &stage.secret, &hello).begin(DD, 2)
}

#[test]
fn the_dc_may_go_on_after_the_clients_fin() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let (mut client, mut session) = stage.session();
    client.up.send(b"last question");
    client.up.finish();
    assert_eq!(session.from.recv_rest(), (b"last question".to_vec(), End::Fin));
    let answer = pattern(1, MIB);
    session.to.send(&answer);
    session.to.finish();
    let (seen, end) = client.down.recv_rest();
    assert!(seen == answer);
    assert_eq!(end, End::Fin);
    stage.proxy.wait_for_rest(files);
}

#[test]
fn the_client_may_go_on_after_the_dcs_fin() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let (mut client, mut session) = stage.session();
    session.to.send(b"farewell");
    session.to.finish();
    assert_eq!(client.down.recv_rest(), (b"farewell".to_vec(), End::Fin));
    let more = pattern(2, MIB);
    client.up.send(&more);
    client.up.finish();
    let (seen, end) = session.from.recv_rest();
    assert!(seen == more);
    assert_eq!(end, End::Fin);
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_fin_right_behind_the_header_reaches_the_dc() {
    let stage = Stage::plain();
    let mut client = Client::open(stage.proxy.addr, &stage.secret);
    client.up.send(b"only this");
    client.up.finish();
    let mut session = stage.dc.accept();
    assert_eq!(session.from.recv_rest(), (b"only this".to_vec(), End::Fin));
    session.to.send(b"and back");
    session.to.finish();
    assert_eq!(client.down.recv_rest(), (b"and back".to_vec(), End::Fin));
}

#[test]
fn a_reset_of_the_dc_resets_the_client() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let (mut client, session) = stage.session();
    session.reset();
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Reset));
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_reset_of_the_client_resets_the_dc() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let (client, mut session) = stage.session();
    client.reset();
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Reset));
    stage.proxy.wait_for_rest(files);
}

#[test]
fn the_tail_of_a_closing_dc_reaches_a_slow_client() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let mut client = narrow_client(&stage);
    let mut session = stage.dc.accept();
    let dc = thread::spawn(move || {
        session.to.send(&pattern(3, 8 * MIB));
        drop(session);
    });
    let mut expected = Pattern::new(3);
    let mut got = 0;
    while got < 8 * MIB {
        // Slowness, not synchronisation: 64 naps of a few milliseconds in all.
        if got.is_multiple_of(128 * 1024) {
            thread::sleep(Duration::from_millis(5));
        }
        let size = 16 * 1024;
        assert!(client.down.recv(size) == expected.take(size), "other bytes after {got}");
        got += size;
    }
    dc.join().expect("the DC");
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
    drop(client);
    stage.proxy.wait_for_rest(files);
}

#[test]
fn the_tail_of_a_closing_client_reaches_a_slow_dc() {
    let stage = Stage::plain();
    let (mut client, mut session) = stage.session();
    let app = thread::spawn(move || {
        client.up.send(&pattern(4, 4 * MIB));
        drop(client);
    });
    let mut expected = Pattern::new(4);
    for _ in 0..256 {
        thread::sleep(Duration::from_millis(1));
        assert!(session.from.recv(16 * 1024) == expected.take(16 * 1024));
    }
    app.join().expect("the client");
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
}

#[test]
fn a_client_that_does_not_read_stops_the_dc_and_costs_no_memory() {
    let stage = Stage::plain();
    let mut client = narrow_client(&stage);
    let mut session = stage.dc.accept();
    let before = stage.proxy.resident_kib();
    let dc = thread::spawn(move || session.to.send(&pattern(5, 48 * MIB)));
    // The DC is done only if somebody has swallowed 48 MiB that the client has not.
    let mut last = 0;
    eventually("the flow comes to a stop", || {
        let sent = stage.proxy.number("alice", "bytes_out");
        let is_still = sent > 0
            && sent == last
            && !holds_within(Duration::from_millis(300), || {
                stage.proxy.number("alice", "bytes_out") != sent
            });
        last = sent;
        is_still
    });
    assert!(!dc.is_finished(), "48 MiB swallowed for a client that reads nothing");
    let grown = stage.proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for one slow client");

    let mut expected = Pattern::new(5);
    for _ in 0..48 {
        assert!(client.down.recv(MIB) == expected.take(MIB));
    }
    dc.join().expect("the DC");
}
