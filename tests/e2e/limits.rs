//! Too many at once: descriptors and sessions run out, service does not (gotchas A4).

use crate::support::client::{Client, Visitor};
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::obfuscated2::DD;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::proxy::Config;
use crate::support::stage::{HOST, Stage};
use crate::support::{QUIET, eventually};

/// Tries once to open a session; `None` when there is no answer.
fn try_open(stage: &Stage) -> Option<Client> {
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    let mut peer = Peer::connect("client", stage.proxy.addr);
    peer.try_send(&hello.wire).ok()?;
    if !peer.hears_within(QUIET) {
        return None;
    }
    Some(Visitor::await_answer(peer, &stage.secret, &hello).begin(DD, 2))
}

#[test]
fn the_session_after_the_last_waits_for_a_place() {
    let stage = Stage::with(|config| config.set("", "concurrency", "4"));
    let mut seated: Vec<_> = (0..4).map(|_| stage.session()).collect();
    stage.proxy.wait_for_connections("alice", 4);
    for _ in 0..3 {
        assert!(try_open(&stage).is_none(), "a fifth session");
    }
    assert_eq!(stage.proxy.connections("alice"), 4, "the stats listener answers");
    for (client, session) in &mut seated {
        client.up.send(b"still served");
        assert_eq!(session.from.recv(12), b"still served");
    }
    drop(seated.pop());
    eventually("a place is free", || try_open(&stage).is_some());
}

#[test]
fn a_flood_beyond_the_descriptors_does_not_deafen_the_listener() {
    let (origin, secret) = (Origin::listen(), Secret::new(HOST));
    let config = Config::new(Dc::echoing(), origin.addr).user("alice", &secret).most_files(64);
    let proxy = config.set("network.timeout", "handshake", "\"2s\"").start();
    let flood: Vec<_> = (0..150).map(|_| Peer::connect("flood", proxy.addr)).collect();
    assert!(proxy.stats()["total_connections"].is_u64(), "the stats listener answers");
    drop(flood);
    eventually("a user is served after the flood", || {
        let hello = Hello::fresh(&secret, Shape::PostQuantum);
        let mut peer = Peer::connect("client", proxy.addr);
        if peer.try_send(&hello.wire).is_err() || !peer.hears_within(QUIET * 4) {
            return false;
        }
        let mut client = Visitor::await_answer(peer, &secret, &hello).begin(DD, 2);
        client.up.send(b"echo");
        client.down.recv(4) == b"echo"
    });
}

#[test]
fn silent_connections_at_the_limit_are_cleared_for_users() {
    let stage = Stage::with(|config| {
        config.set("", "concurrency", "8").set("network.timeout", "handshake", "\"1s\"").set(
            "network.timeout",
            "idle",
            "\"2s\"",
        )
    });
    let _silent: Vec<_> = (0..20).map(|_| Peer::connect("silent", stage.proxy.addr)).collect();
    eventually("a user gets a place", || try_open(&stage).is_some());
}
