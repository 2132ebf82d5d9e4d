//! The end of sessions: each direction on its own, resets as resets, and never without the last
//! bytes (PROTOCOL 9.3, COMPATIBILITY B1 and B2).

use std::thread;
use std::time::Duration;

use crate::support::client::{Client, Handshake};
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::{Pattern, eventually, holds_within, pattern};

const MIB: usize = 1 << 20;

/// A session whose client has a small receive buffer.
fn narrow_client(fixture: &Fixture) -> Client {
    let peer = Peer::connect("client", fixture.proxy.addr).with_small_receive_buffer(131_072);
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    Handshake::send_hello(peer, &fixture.secret, &hello).send_frame(DD, 2)
}

#[test]
fn the_dc_may_send_after_the_clients_fin() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let (mut client, mut session) = fixture.session();
    client.up.send(b"last request");
    client.up.send_fin();
    assert_eq!(session.from.recv_rest(), (b"last request".to_vec(), End::Fin));
    let answer = pattern(1, MIB);
    session.to.send(&answer);
    session.to.send_fin();
    let (seen, end) = client.down.recv_rest();
    assert!(seen == answer);
    assert_eq!(end, End::Fin);
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn the_client_may_send_after_the_dcs_fin() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let (mut client, mut session) = fixture.session();
    session.to.send(b"farewell");
    session.to.send_fin();
    assert_eq!(client.down.recv_rest(), (b"farewell".to_vec(), End::Fin));
    let more = pattern(2, MIB);
    client.up.send(&more);
    client.up.send_fin();
    let (seen, end) = session.from.recv_rest();
    assert!(seen == more);
    assert_eq!(end, End::Fin);
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_fin_right_after_the_frame_reaches_the_dc() {
    let fixture = Fixture::new();
    let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
    client.up.send(b"only this");
    client.up.send_fin();
    let mut session = fixture.dc.accept();
    assert_eq!(session.from.recv_rest(), (b"only this".to_vec(), End::Fin));
    session.to.send(b"an answer");
    session.to.send_fin();
    assert_eq!(client.down.recv_rest(), (b"an answer".to_vec(), End::Fin));
}

#[test]
fn a_reset_of_the_dc_resets_the_client() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let (mut client, session) = fixture.session();
    session.reset();
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Reset));
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_reset_of_the_client_resets_the_dc() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let (client, mut session) = fixture.session();
    client.reset();
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Reset));
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn the_last_bytes_of_a_closing_dc_reach_a_slow_client() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let mut client = narrow_client(&fixture);
    let mut session = fixture.dc.accept();
    let dc = thread::spawn(move || {
        session.to.send(&pattern(3, 8 * MIB));
        drop(session);
    });
    let mut expected = Pattern::new(3);
    let mut got = 0;
    while got < 8 * MIB {
        // To be slow, not to synchronise: 64 pauses of a few milliseconds.
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
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn the_last_bytes_of_a_closing_client_reach_a_slow_dc() {
    let fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
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
    let fixture = Fixture::new();
    let mut client = narrow_client(&fixture);
    let mut session = fixture.dc.accept();
    let before = fixture.proxy.resident_kib();
    let dc = thread::spawn(move || session.to.send(&pattern(5, 48 * MIB)));
    // The DC finishes only if the proxy stores 48 MiB that the client has not read.
    let mut last = 0;
    eventually("no more bytes flow", || {
        let sent = fixture.proxy.number("alice", "bytes_out");
        let is_still = sent > 0
            && sent == last
            && !holds_within(Duration::from_millis(300), || {
                fixture.proxy.number("alice", "bytes_out") != sent
            });
        last = sent;
        is_still
    });
    assert!(!dc.is_finished(), "48 MiB swallowed for a client that reads nothing");
    let grown = fixture.proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for one slow client");

    let mut expected = Pattern::new(5);
    for _ in 0..48 {
        assert!(client.down.recv(MIB) == expected.take(MIB));
    }
    dc.join().expect("the DC");
}
