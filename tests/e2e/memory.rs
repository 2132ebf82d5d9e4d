//! No peer can make the program store bytes that it cannot forward (COMPATIBILITY A6).

use std::thread;

use crate::support::blackhole::BlackHole;
use crate::support::client::Handshake;
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::{QUIET, eventually, holds_within, pattern};

/// The memory that twelve sending peers may cost together.
const MOST_KIB: u64 = 8 * 1024;

/// Runs `push` in twelve threads and checks the program's memory until it no longer grows.
fn assert_bounded(fixture: &Fixture, push: impl Fn() + Send + Sync) {
    let before = fixture.proxy.resident_kib();
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(&push);
        }
        eventually("memory no longer grows", || {
            let now = fixture.proxy.resident_kib();
            let grown = now.saturating_sub(before);
            assert!(grown < MOST_KIB, "{grown} KiB");
            !holds_within(QUIET * 4, || fixture.proxy.resident_kib() > now)
        });
    });
    assert_eq!(fixture.proxy.stats()["total_connections"], 0, "all sessions have ended");
}

#[test]
fn bytes_of_a_probe_stay_in_the_kernel_while_the_front_is_dialled() {
    let hole = BlackHole::open();
    let port = hole.addr.port().to_string();
    let fixture = Fixture::with(|config| {
        config.set("domain-fronting", "port", &port).set("network.timeout", "tcp", "\"3s\"")
    });
    assert_bounded(&fixture, || {
        let mut peer = Peer::connect("pusher", fixture.proxy.addr);
        while peer.try_send(&[b'x'; 65_536]).is_ok() {}
    });
}

#[test]
fn bytes_of_a_client_stay_in_the_kernel_while_the_dc_is_dialled() {
    let hole = BlackHole::open();
    let list = format!("[\"{}\"]", hole.addr);
    let fixture = Fixture::with(|config| {
        config.set("telegram.dc-overrides", "2", &list).set("network.timeout", "tcp", "\"3s\"")
    });
    assert_bounded(&fixture, || {
        let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
        handshake.send_frame(DD, 2).up.send_while_open(&pattern(1, 16 << 20));
    });
}

#[test]
fn endless_empty_records_before_the_frame_are_not_stored() {
    let fixture = Fixture::with(|config| config.set("network.timeout", "handshake", "\"3s\""));
    let empty = [0x17, 3, 3, 0, 0].repeat(1000);
    assert_bounded(&fixture, || {
        let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
        let mut peer = handshake.peer;
        while peer.try_send(&empty).is_ok() {}
    });
}

#[test]
fn many_half_hellos_cost_little_memory() {
    let fixture = Fixture::with(|config| config.set("network.timeout", "handshake", "\"3s\""));
    let hello = Hello::new(&fixture.secret, App::PostQuantum).wire;
    let before = fixture.proxy.resident_kib();
    let mut peers: Vec<_> = (0..200).map(|_| Peer::connect("half", fixture.proxy.addr)).collect();
    for peer in &mut peers {
        peer.send(&hello[..hello.len() - 1]);
    }
    assert!(!holds_within(QUIET * 4, || fixture.proxy.resident_kib() > before + MOST_KIB));
}
