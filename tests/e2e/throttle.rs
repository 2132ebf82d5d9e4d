//! Fair shares of connections (spec: protocol 13, stats 3; decision D5).

use serde_json::json;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy};
use crate::support::stage::HOST;

/// Four users of one host below a limit.
struct Club {
    proxy: Proxy,
    origin: Origin,
    members: [Secret; 4],
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

impl Club {
    fn open(limit: u32, interval: &str) -> Self {
        let origin = Origin::listen();
        let members = NAMES.map(|_| Secret::new(HOST));
        let config = Config::new(Dc::echoing(), origin.addr)
            .set("throttle", "max-connections", &limit.to_string())
            .set("throttle", "check-interval", &format!("{interval:?}"));
        let users = NAMES.iter().zip(&members);
        let config = users.fold(config, |config, (name, secret)| config.user(name, secret));
        Self { proxy: config.start(), origin, members }
    }

    /// Opens `count` sessions of one member; each must be admitted.
    fn admit(&self, member: usize, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::open(self.proxy.addr, &self.members[member])).collect()
    }

    /// One more connection of a member must look like a visit to the web site.
    fn assert_refused(&self, member: usize) {
        let hello = Hello::fresh(&self.members[member], Shape::PostQuantum);
        let mut peer = Peer::connect("one too many", self.proxy.addr);
        peer.send(&hello.wire);
        let mut visit = self.origin.visit();
        assert!(visit.first == hello.wire, "the origin gets the hello as it was");
        visit.peer.send(b"plain");
        visit.peer.finish();
        assert_eq!(peer.recv_rest(), (b"plain".to_vec(), End::Fin));
    }
}

#[test]
fn a_lone_heavy_user_stops_at_the_limit_and_a_light_one_still_gets_in() {
    let club = Club::open(3, "1h");
    let _heavy = club.admit(C, 3);
    club.assert_refused(C);
    assert_eq!(club.proxy.connections("c"), 3);
    let _light = club.admit(A, 1);
    assert_eq!(club.proxy.connections("a"), 1);
    club.assert_refused(C);
    assert_eq!(club.proxy.number("c", "bytes_out"), 0, "visits are not counted");
}

#[test]
fn a_burst_of_one_user_stops_at_the_limit_too() {
    let club = Club::open(5, "1h");
    let hellos: Vec<_> =
        (0..12).map(|_| Hello::fresh(&club.members[D], Shape::PostQuantum)).collect();
    let mut peers: Vec<_> =
        hellos.iter().map(|_| Peer::connect("burst", club.proxy.addr)).collect();
    for (peer, hello) in peers.iter_mut().zip(&hellos) {
        peer.send(&hello.wire);
    }
    for _ in 0..7 {
        let visit = club.origin.visit();
        assert!(hellos.iter().any(|hello| hello.wire == visit.first));
    }
    club.proxy.wait_for_connections("d", 5);
}

#[test]
fn heavy_users_share_what_light_users_leave() {
    let club = Club::open(100, "1h");
    let _a = club.admit(A, 1);
    let _b = club.admit(B, 1);
    let _c = club.admit(C, 90);
    let _d = club.admit(D, 49);
    club.assert_refused(C);
    club.assert_refused(D);
    assert_eq!(club.proxy.connections("d"), 49);
    let throttle = club.proxy.stats()["throttle"].clone();
    assert_eq!(throttle, json!({"active": true, "limit": 100, "caps": {"c": 49, "d": 49}}));
    let _light = club.admit(B, 5);
}

#[test]
fn caps_last_while_there_are_too_many_and_vanish_with_them() {
    let club = Club::open(4, "1s");
    let heavy = club.admit(C, 4);
    let light = club.admit(A, 1);
    club.assert_refused(C);
    let throttle = || club.proxy.stats()["throttle"].clone();
    assert_eq!(throttle(), json!({"active": true, "limit": 4, "caps": {"c": 3}}));
    drop((heavy, light));
    eventually("the caps vanish", || throttle() == json!({"active": false, "limit": 4}));
    club.proxy.wait_for_connections("c", 0);
    let _again = club.admit(C, 4);
}

#[test]
fn the_log_tells_when_caps_come_and_go() {
    let club = Club::open(4, "1s");
    let heavy = club.admit(C, 4);
    let _light = club.admit(A, 1);
    let warned = || {
        let log = club.proxy.log();
        log.lines().any(|line| line.contains("level=warn") && line.contains("throttle"))
    };
    eventually("a warning", warned);
    drop(heavy);
    eventually("the all-clear", || club.proxy.log().contains("active=false"));
}

#[test]
fn more_users_than_the_limit_still_get_one_connection_each() {
    let club = Club::open(2, "1h");
    let _one_each: Vec<_> = [A, B, C, D].map(|member| club.admit(member, 1)).into();
    club.assert_refused(A);
    club.assert_refused(D);
}
