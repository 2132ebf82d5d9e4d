//! How the program leaves: after a word to everyone, soon, and with exit code 0
//! (spec: cli 8, gotchas E12).

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::blackhole::BlackHole;
use crate::support::client::{Client, Visitor};
use crate::support::dc::{DcReader, DcSession};
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::Config;
use crate::support::stage::Stage;
use crate::support::{Pattern, QUIET, eventually, holds_within};

/// A DC that has more to say than the client, which reads nothing, lets through.
fn stalled(stage: &Stage) -> (Client, DcReader) {
    let peer = Peer::connect("client", stage.proxy.addr).with_small_receive_buffer(131_072);
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    let client = Visitor::greet(peer, &stage.secret, &hello).begin(DD, 2);
    let DcSession { from, mut to, .. } = stage.dc.accept();
    thread::spawn(move || {
        let mut data = Pattern::new(1);
        // 48 MiB: more than all kernels in between will keep.
        for _ in 0..3072 {
            if to.try_send(&data.take(16_384)).is_none() {
                return;
            }
        }
    });
    let mut last = 0;
    eventually("the flow comes to a stop", || {
        let now = stage.proxy.number("alice", "bytes_out");
        let is_still = now > 0 && now == last;
        last = now;
        is_still && !holds_within(QUIET, || stage.proxy.number("alice", "bytes_out") != now)
    });
    (client, from)
}

#[test]
fn term_and_int_end_an_idle_session_with_fin_and_exit_code_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut stage = Stage::plain();
        let (mut client, mut session) = stage.session();
        client.up.send(b"hello");
        assert_eq!(session.from.recv(5), b"hello");
        stage.proxy.signal(signal);
        assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
        assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
        assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
    }
}

#[test]
fn term_without_sessions_ends_at_once() {
    let mut stage = Stage::plain();
    stage.proxy.signal(Signal::SIGTERM);
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_closes_the_listeners_while_it_drains() {
    let mut stage = Stage::plain();
    let (_client, _session) = stalled(&stage);
    stage.proxy.signal(Signal::SIGTERM);
    let addr = stage.proxy.addr;
    eventually("newcomers are refused", || std::net::TcpStream::connect(addr).is_err());
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_during_a_stalled_transfer_ends_with_exit_code_0() {
    let mut stage = Stage::plain();
    let (_client, _session) = stalled(&stage);
    stage.proxy.signal(Signal::SIGTERM);
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_term_does_not_wait_for_the_drain() {
    let mut stage = Stage::plain();
    let (_client, _session) = stalled(&stage);
    stage.proxy.signal(Signal::SIGTERM);
    let addr = stage.proxy.addr;
    eventually("the drain has begun", || std::net::TcpStream::connect(addr).is_err());
    let second = Instant::now();
    if !stage.proxy.has_ended() {
        stage.proxy.signal(Signal::SIGTERM);
    }
    stage.proxy.wait_for_exit();
    // A drain takes five seconds here, since the client never reads.
    assert!(second.elapsed() < Duration::from_secs(4), "{:?}", second.elapsed());
}

#[test]
fn what_was_taken_from_the_dc_before_term_reaches_a_client_that_reads() {
    let mut stage = Stage::plain();
    let (mut client, _session) = stalled(&stage);
    let taken = stage.proxy.number("alice", "bytes_out");
    stage.proxy.signal(Signal::SIGTERM);
    let (seen, end) = client.down.recv_rest();
    assert_eq!(end, End::Fin);
    assert!(seen.len() as u64 >= taken, "{} of {taken} bytes", seen.len());
    assert!(seen == Pattern::new(1).take(seen.len()), "other bytes");
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn term_finds_sessions_in_every_state_and_ends_them() {
    let hole = BlackHole::dig();
    let list = format!("[\"{}\"]", hole.addr);
    let mut stage = Stage::with(|config| config.set("telegram.dc-overrides", "4", &list));
    let (addr, secret) = (stage.proxy.addr, stage.secret.clone());
    let _silent = Peer::connect("silent", addr);
    let mut half = Peer::connect("half", addr);
    half.send(&Hello::fresh(&secret, Shape::PostQuantum).wire[..900]);
    let _answered = Visitor::knock(addr, &secret, Shape::PostQuantum);
    let _dialling = Visitor::knock(addr, &secret, Shape::PostQuantum).begin(DD, 4);
    let mut prober = Peer::connect("prober", addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut visit = stage.origin.visit();
    let (client, mut session) = stage.session();
    client.up.finish();
    assert!(session.from.recv_rest().0.is_empty());
    let mut reader = Peer::connect("stats reader", stage.proxy.api);
    reader.send(b"GET /st");
    stage.proxy.signal(Signal::SIGTERM);
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
    assert!(prober.recv_rest().0.is_empty() && visit.peer.recv_rest().0.is_empty());
}

#[test]
fn a_successor_takes_over_the_same_port_at_once() {
    let mut stage = Stage::plain();
    let (mut client, _session) = stage.session();
    stage.proxy.signal(Signal::SIGTERM);
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
    assert!(client.down.recv_rest().0.is_empty());
    // Our side of the old connection is still there, and the kernel remembers the other one.
    let config = Config::new(stage.dc.addr, stage.origin.addr).user("alice", &stage.secret);
    stage.proxy = config.port(stage.proxy.addr.port()).start();
    let (_client, session) = stage.session();
    assert_eq!(session.dc, 2);
}

#[test]
fn hup_does_not_kill() {
    let mut stage = Stage::plain();
    let (mut client, mut session) = stage.session();
    for _ in 0..3 {
        stage.proxy.signal(Signal::SIGHUP);
        client.up.send(b"still there?");
        assert_eq!(session.from.recv(12), b"still there?");
    }
    assert!(!holds_within(QUIET, || stage.proxy.has_ended()));
    let (_another, _session) = stage.session();
}

#[test]
fn a_closed_log_pipe_does_not_kill() {
    let stage = Stage::plain();
    stage.proxy.close_log();
    for _ in 0..3 {
        let (_client, session) = stage.session();
        assert_eq!(session.dc, 2);
    }
}
