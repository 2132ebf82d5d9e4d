//! Nobody makes the program keep what it cannot pass on (gotchas A6).

use std::thread;

use crate::support::blackhole::BlackHole;
use crate::support::client::Visitor;
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::stage::Stage;
use crate::support::{QUIET, eventually, holds_within, pattern};

/// What a dozen pushy peers may cost together.
const MOST_KIB: u64 = 8 * 1024;

/// Runs `push` in twelve threads and watches the program's memory until nothing moves any more.
fn assert_bounded(stage: &Stage, push: impl Fn() + Send + Sync) {
    let before = stage.proxy.resident_kib();
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(&push);
        }
        eventually("memory comes to rest", || {
            let now = stage.proxy.resident_kib();
            let grown = now.saturating_sub(before);
            assert!(grown < MOST_KIB, "{grown} KiB");
            !holds_within(QUIET * 4, || stage.proxy.resident_kib() > now)
        });
    });
    assert_eq!(stage.proxy.stats()["total_connections"], 0, "all are gone in the end");
}

#[test]
fn what_a_prober_sends_while_the_front_is_dialled_stays_in_the_kernel() {
    let hole = BlackHole::dig();
    let port = hole.addr.port().to_string();
    let stage = Stage::with(|config| {
        config.set("domain-fronting", "port", &port).set("network.timeout", "tcp", "\"3s\"")
    });
    assert_bounded(&stage, || {
        let mut peer = Peer::connect("pusher", stage.proxy.addr);
        while peer.try_send(&[b'x'; 65_536]).is_ok() {}
    });
}

#[test]
fn what_a_client_sends_while_the_dc_is_dialled_stays_in_the_kernel() {
    let hole = BlackHole::dig();
    let list = format!("[\"{}\"]", hole.addr);
    let stage = Stage::with(|config| {
        config.set("telegram.dc-overrides", "2", &list).set("network.timeout", "tcp", "\"3s\"")
    });
    assert_bounded(&stage, || {
        let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
        visitor.begin(DD, 2).up.pour(&pattern(1, 16 << 20));
    });
}

#[test]
fn endless_empty_records_before_the_header_are_not_kept() {
    let stage = Stage::with(|config| config.set("network.timeout", "handshake", "\"3s\""));
    let empty = [0x17, 3, 3, 0, 0].repeat(1000);
    assert_bounded(&stage, || {
        let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
        let mut peer = visitor.peer;
        while peer.try_send(&empty).is_ok() {}
    });
}

#[test]
fn half_hellos_of_many_are_cheap() {
    let stage = Stage::with(|config| config.set("network.timeout", "handshake", "\"3s\""));
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum).wire;
    let before = stage.proxy.resident_kib();
    let mut crowd: Vec<_> = (0..200).map(|_| Peer::connect("half", stage.proxy.addr)).collect();
    for peer in &mut crowd {
        peer.send(&hello[..hello.len() - 1]);
    }
    assert!(!holds_within(QUIET * 4, || stage.proxy.resident_kib() > before + MOST_KIB));
}
