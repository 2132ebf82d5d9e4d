//! At the limits of descriptors and sessions the proxy still serves (COMPATIBILITY A4).

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::Config;
use crate::support::{QUIET, eventually};

/// Tries once to open a session; `None` when there is no answer.
fn try_open(fixture: &Fixture) -> Option<Client> {
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    peer.try_send(&hello.wire).ok()?;
    if !peer.receives_within(QUIET) {
        return None;
    }
    Some(Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2))
}

#[test]
fn the_session_after_the_last_waits_for_a_free_one() {
    let fixture = Fixture::with(|config| config.set("", "concurrency", "4"));
    let mut seated: Vec<_> = (0..4).map(|_| fixture.session()).collect();
    fixture.proxy.wait_for_connections("alice", 4);
    for _ in 0..3 {
        assert!(try_open(&fixture).is_none(), "a fifth session");
    }
    assert_eq!(fixture.proxy.connections("alice"), 4, "the stats listener answers");
    for (client, session) in &mut seated {
        client.up.send(b"still served");
        assert_eq!(session.from.recv(12), b"still served");
    }
    drop(seated.pop());
    eventually("a session is free", || try_open(&fixture).is_some());
}

#[test]
fn a_flood_beyond_the_descriptors_does_not_stop_the_listener() {
    let (front, secret) = (Front::listen(), Secret::new(HOST));
    let config = Config::new(Dc::echoing(), front.addr).user("alice", &secret).max_files(64);
    let proxy = config.set("network.timeout", "handshake", "\"2s\"").start();
    let flood: Vec<_> = (0..150).map(|_| Peer::connect("flood", proxy.addr)).collect();
    assert!(proxy.stats()["total_connections"].is_u64(), "the stats listener answers");
    drop(flood);
    eventually("a user is served after the flood", || {
        let hello = Hello::new(&secret, App::PostQuantum);
        let mut peer = Peer::connect("client", proxy.addr);
        if peer.try_send(&hello.wire).is_err() || !peer.receives_within(QUIET * 4) {
            return false;
        }
        let mut client = Handshake::read_answer(peer, &secret, &hello).send_frame(DD, 2);
        client.up.send(b"echo");
        client.down.recv(4) == b"echo"
    });
}

#[test]
fn silent_connections_at_the_limit_are_closed_for_users() {
    let fixture = Fixture::with(|config| {
        config.set("", "concurrency", "8").set("network.timeout", "handshake", "\"1s\"").set(
            "network.timeout",
            "idle",
            "\"2s\"",
        )
    });
    let _silent: Vec<_> = (0..20).map(|_| Peer::connect("silent", fixture.proxy.addr)).collect();
    eventually("a user gets a session", || try_open(&fixture).is_some());
}
