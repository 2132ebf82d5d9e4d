//! Every state with a silent peer ends in time and leaves nothing behind (COMPATIBILITY 5.9).

use std::thread;
use std::time::{Duration, Instant};

use crate::support::blackhole::BlackHole;
use crate::support::client::{CCS, Client, Handshake, record};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy};
use crate::support::{TIMEOUT, eventually, pattern};

fn short_timeouts(config: Config) -> Config {
    config
        .set("network.timeout", "handshake", "\"1s\"")
        .set("network.timeout", "idle", "\"2s\"")
        .set("network.timeout", "tcp", "\"1s\"")
}

#[test]
fn silence_from_the_start_ends() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let mut peer = Peer::connect("silent client", fixture.proxy.addr);
    assert!(peer.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn silence_after_half_a_hello_ends() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let hello = Hello::new(&fixture.secret, App::PostQuantum).wire;
    let mut peer = Peer::connect("silent client", fixture.proxy.addr);
    peer.send(&hello[..hello.len() / 2]);
    let mut conn = fixture.front.accept();
    assert!(peer.recv_rest().0.is_empty());
    assert!(conn.peer.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn silence_after_the_answer_ends() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let mut handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    assert!(handshake.peer.is_quiet_for(Duration::from_secs(4)), "six times the timeout");
    assert_eq!(handshake.peer.recv_rest(), (Vec::new(), End::Fin));
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn silence_after_half_a_frame_ends() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    let (mut client, header) = handshake.make_frame(DD, 2);
    client.up.send_raw(&[&CCS[..], &record(0x17, &header[..32])].concat());
    client.up.peer.recv_rest();
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_slow_handshake_does_not_extend_its_deadline() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    let (mut client, _) = handshake.make_frame(DD, 2);
    client.up.send_raw(&[0x17, 3, 3, 0x41, 0]);
    eventually("the proxy closes", || {
        // A long record for ever: traffic, but never a frame.
        client.up.peer.try_send(&[0]).is_err()
    });
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_flood_after_a_broken_record_does_not_extend_the_close() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut peer =
                    Handshake::connect(fixture.proxy.addr, &fixture.secret, App::Classic).peer;
                peer.send(&record(0x16, &[0; 64]));
                while peer.try_send(&[0; 5000]).is_ok() {
                    assert!(start.elapsed() < TIMEOUT, "a flood keeps the session open");
                }
            });
        }
    });
    // Closing takes three seconds; a flood that hides its end took more than ten.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_dial_into_a_black_hole_ends() {
    let hole = BlackHole::open();
    let list = format!("[\"{}\"]", hole.addr);
    let fixture =
        Fixture::with(|config| short_timeouts(config).set("telegram.dc-overrides", "2", &list));
    let files = fixture.proxy.files();
    let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    let mut client = handshake.send_frame(DD, 2);
    client.up.peer.recv_rest();
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_front_that_is_a_black_hole_ends() {
    let hole = BlackHole::open();
    let port = hole.addr.port().to_string();
    let fixture =
        Fixture::with(|config| short_timeouts(config).set("domain-fronting", "port", &port));
    let files = fixture.proxy.files();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(prober.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn an_idle_session_ends_on_both_sides() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let (mut client, mut session) = fixture.session();
    client.up.send(b"a line");
    assert_eq!(session.from.recv(6), b"a line");
    assert!(client.down.recv_rest().0.is_empty());
    assert!(session.from.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_session_with_traffic_in_one_direction_is_not_idle() {
    let fixture = Fixture::with(short_timeouts);
    let (mut client, mut session) = fixture.session();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        session.to.send(b"tick");
        assert_eq!(client.down.recv(4), b"tick");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(fixture.proxy.connections("alice"), 1);
}

#[test]
fn a_half_closed_session_ends() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let (mut client, mut session) = fixture.session();
    client.up.send_fin();
    assert!(session.from.recv_rest().0.is_empty());
    assert!(client.down.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);

    let (mut client, mut session) = fixture.session();
    session.to.send_fin();
    assert!(client.down.recv_rest().0.is_empty());
    assert!(session.from.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn an_idle_fronted_connection_ends() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n");
    let mut conn = fixture.front.accept();
    assert!(prober.recv_rest().0.is_empty());
    assert!(conn.peer.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

/// Opens a session with a small receive buffer, so that the rest of a download waits in the proxy.
fn slow_reader(proxy: &Proxy, secret: &Secret) -> Client {
    let peer = Peer::connect("a slow reader", proxy.addr).with_small_receive_buffer(16_384);
    Handshake::send_hello(peer, secret, &Hello::new(secret, App::PostQuantum)).send_frame(DD, 2)
}

/// The kernel takes nothing more until half of what it has is sent.
#[test]
fn a_reader_of_a_kilobyte_per_second_is_not_stalled() {
    let (front, secret) = (Front::listen(), Secret::new(HOST));
    let proxy = Config::new(Dc::endless(), front.addr).user("alice", &secret).start();
    let mut client = slow_reader(&proxy, &secret);
    let mut silent = slow_reader(&proxy, &secret);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(42) {
        client.up.peer.recv(256);
        thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(proxy.connections("alice"), 1, "one that reads nothing ends");
    assert_eq!(silent.up.peer.recv_rest().1, End::Reset);
}

#[test]
fn what_the_kernel_still_delivers_is_not_idle() {
    let fixture = Fixture::with(short_timeouts);
    let files = fixture.proxy.files();
    let mut client = slow_reader(&fixture.proxy, &fixture.secret);
    let mut session = fixture.dc.accept();
    let bytes = pattern(1, 300_000);
    session.to.send(&bytes);
    session.to.send_fin();
    let mut received = Vec::new();
    while received.len() < 250_000 {
        received.extend(client.down.recv(5_000));
        thread::sleep(Duration::from_millis(100));
    }
    received.extend(client.down.recv_rest().0);
    assert!(received == bytes, "{} bytes", received.len());
    fixture.proxy.wait_until_idle(files);
}
