//! The end of the program: all sessions are closed, it takes little time, and the exit code is 0
//! (COMPATIBILITY 4.8, E12).

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::blackhole::BlackHole;
use crate::support::client::{Client, Handshake};
use crate::support::dc::{DcReader, DcSession};
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::Config;
use crate::support::{Pattern, QUIET, eventually, holds_within};

/// A session whose DC sends while its client does not read.
fn stalled(fixture: &Fixture) -> (Client, DcReader) {
    let peer = Peer::connect("client", fixture.proxy.addr).with_small_receive_buffer(131_072);
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let client = Handshake::send_hello(peer, &fixture.secret, &hello).send_frame(DD, 2);
    let DcSession { from, mut to, .. } = fixture.dc.accept();
    thread::spawn(move || {
        let mut data = Pattern::new(1);
        // 48 MiB: more than the kernel's buffers hold.
        for _ in 0..3072 {
            if to.try_send(&data.take(16_384)).is_none() {
                return;
            }
        }
    });
    let mut last = 0;
    eventually("no more bytes flow", || {
        let now = fixture.proxy.number("alice", "bytes_out");
        let is_still = now > 0 && now == last;
        last = now;
        is_still && !holds_within(QUIET, || fixture.proxy.number("alice", "bytes_out") != now)
    });
    (client, from)
}

#[test]
fn term_and_int_end_an_idle_session_with_fin_and_exit_code_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut fixture = Fixture::new();
        let (mut client, mut session) = fixture.session();
        client.up.send(b"hello");
        assert_eq!(session.from.recv(5), b"hello");
        fixture.proxy.signal(signal);
        assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
        assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
        assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
    }
}

#[test]
fn term_without_sessions_ends_at_once() {
    let mut fixture = Fixture::new();
    fixture.proxy.signal(Signal::SIGTERM);
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_ends_a_daemon_whose_shortest_timers_are_always_due() {
    let timers = |config: Config, interval| {
        config.set("throttle", "max-connections", "1000").set(
            "throttle",
            "check-interval",
            interval,
        )
    };
    let mut fixture = Fixture::with(|config| timers(config, "\"1ns\""));
    let (_client, _session) = fixture.session();
    assert!(fixture.proxy.log().contains("throttle.check-interval: too short; using 100ms"));
    let config = Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    let port = fixture.proxy.addr.port();
    for interval in ["\"1h\"", "\"1ns\""] {
        fixture.proxy.reload(&timers(config.clone().port(port), interval));
        let (_client, session) = fixture.session();
        assert_eq!(session.dc, 2);
    }
    fixture.proxy.signal(Signal::SIGTERM);
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_closes_the_listeners_while_it_drains() {
    let mut fixture = Fixture::new();
    let (_client, _session) = stalled(&fixture);
    fixture.proxy.signal(Signal::SIGTERM);
    let addr = fixture.proxy.addr;
    eventually("new connections are refused", || std::net::TcpStream::connect(addr).is_err());
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_during_a_stalled_transfer_ends_with_exit_code_0() {
    let mut fixture = Fixture::new();
    let (_client, _session) = stalled(&fixture);
    fixture.proxy.signal(Signal::SIGTERM);
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_term_does_not_wait_for_the_drain() {
    let mut fixture = Fixture::new();
    let (_client, _session) = stalled(&fixture);
    fixture.proxy.signal(Signal::SIGTERM);
    let addr = fixture.proxy.addr;
    eventually("the drain has begun", || std::net::TcpStream::connect(addr).is_err());
    let second = Instant::now();
    if !fixture.proxy.has_ended() {
        fixture.proxy.signal(Signal::SIGTERM);
    }
    fixture.proxy.wait_for_exit();
    // The drain would take five seconds, because the client never reads.
    assert!(second.elapsed() < Duration::from_secs(4), "{:?}", second.elapsed());
}

#[test]
fn bytes_read_from_the_dc_before_term_reach_a_client_that_reads() {
    let mut fixture = Fixture::new();
    let (mut client, _session) = stalled(&fixture);
    let taken = fixture.proxy.number("alice", "bytes_out");
    fixture.proxy.signal(Signal::SIGTERM);
    let (seen, end) = client.down.recv_rest();
    assert_eq!(end, End::Fin);
    assert!(seen.len() as u64 >= taken, "{} of {taken} bytes", seen.len());
    assert!(seen == Pattern::new(1).take(seen.len()), "other bytes");
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_finds_sessions_in_every_state_and_ends_them() {
    let hole = BlackHole::open();
    let list = format!("[\"{}\"]", hole.addr);
    let mut fixture = Fixture::with(|config| config.set("telegram.dc-overrides", "4", &list));
    let (addr, secret) = (fixture.proxy.addr, fixture.secret.clone());
    let _silent = Peer::connect("silent", addr);
    let mut half = Peer::connect("half", addr);
    half.send(&Hello::new(&secret, App::PostQuantum).wire[..900]);
    let _answered = Handshake::connect(addr, &secret, App::PostQuantum);
    let _dialling = Handshake::connect(addr, &secret, App::PostQuantum).send_frame(DD, 4);
    let mut prober = Peer::connect("prober", addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut conn = fixture.front.accept();
    let (client, mut session) = fixture.session();
    client.up.send_fin();
    assert!(session.from.recv_rest().0.is_empty());
    let mut reader = Peer::connect("stats reader", fixture.proxy.api);
    reader.send(b"GET /st");
    fixture.proxy.signal(Signal::SIGTERM);
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
    assert!(prober.recv_rest().0.is_empty() && conn.peer.recv_rest().0.is_empty());
}

#[test]
fn a_new_process_can_use_the_same_port_at_once() {
    let mut fixture = Fixture::new();
    let (mut client, _session) = fixture.session();
    fixture.proxy.signal(Signal::SIGTERM);
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
    assert!(client.down.recv_rest().0.is_empty());
    // This end of the old connection is still open, and the kernel keeps the other one.
    let config = Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    fixture.proxy = config.port(fixture.proxy.addr.port()).start();
    let (_client, session) = fixture.session();
    assert_eq!(session.dc, 2);
}

#[test]
fn hup_does_not_end_the_program() {
    let mut fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
    for _ in 0..3 {
        fixture.proxy.signal(Signal::SIGHUP);
        client.up.send(b"still there?");
        assert_eq!(session.from.recv(12), b"still there?");
    }
    assert!(!holds_within(QUIET, || fixture.proxy.has_ended()));
    let (_another, _session) = fixture.session();
}

#[test]
fn a_closed_log_pipe_does_not_end_the_program() {
    let fixture = Fixture::new();
    fixture.proxy.close_log();
    for _ in 0..3 {
        let (_client, session) = fixture.session();
        assert_eq!(session.dc, 2);
    }
}
