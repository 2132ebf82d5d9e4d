//! Fair shares of connections (PROTOCOL 13, COMPATIBILITY 6.3; DECISIONS D5).

use serde_json::json;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy};

/// Four users of one host with a limit of connections.
struct Rig {
    proxy: Proxy,
    front: Front,
    secrets: [Secret; 4],
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

impl Rig {
    fn open(limit: u32, interval: &str) -> Self {
        let front = Front::listen();
        let secrets = NAMES.map(|_| Secret::new(HOST));
        let config = Config::new(Dc::echoing(), front.addr)
            .set("throttle", "max-connections", &limit.to_string())
            .set("throttle", "check-interval", &format!("{interval:?}"));
        let users = NAMES.iter().zip(&secrets);
        let config = users.fold(config, |config, (name, secret)| config.user(name, secret));
        Self { proxy: config.start(), front, secrets }
    }

    /// Opens `count` sessions of one user; all must be served.
    fn open_sessions(&self, user: usize, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::open(self.proxy.addr, &self.secrets[user])).collect()
    }

    /// One more connection of a user must be fronted.
    fn assert_refused(&self, user: usize) {
        let hello = Hello::new(&self.secrets[user], App::PostQuantum);
        let mut peer = Peer::connect("one too many", self.proxy.addr);
        peer.send(&hello.wire);
        let mut conn = self.front.accept();
        assert!(conn.first == hello.wire, "the front gets the unchanged hello");
        conn.peer.send(b"plain");
        conn.peer.send_fin();
        assert_eq!(peer.recv_rest(), (b"plain".to_vec(), End::Fin));
    }
}

#[test]
fn a_single_heavy_user_stops_at_the_limit_and_a_light_one_is_served() {
    let rig = Rig::open(3, "1h");
    let _heavy = rig.open_sessions(C, 3);
    rig.assert_refused(C);
    assert_eq!(rig.proxy.connections("c"), 3);
    let _light = rig.open_sessions(A, 1);
    assert_eq!(rig.proxy.connections("a"), 1);
    rig.assert_refused(C);
    assert_eq!(rig.proxy.number("c", "bytes_out"), 0, "fronted connections are not counted");
}

#[test]
fn a_burst_of_one_user_stops_at_the_limit_too() {
    let rig = Rig::open(5, "1h");
    let hellos: Vec<_> = (0..12).map(|_| Hello::new(&rig.secrets[D], App::PostQuantum)).collect();
    let mut peers: Vec<_> = hellos.iter().map(|_| Peer::connect("burst", rig.proxy.addr)).collect();
    for (peer, hello) in peers.iter_mut().zip(&hellos) {
        peer.send(&hello.wire);
    }
    for _ in 0..7 {
        let conn = rig.front.accept();
        assert!(hellos.iter().any(|hello| hello.wire == conn.first));
    }
    rig.proxy.wait_for_connections("d", 5);
}

#[test]
fn heavy_users_share_what_light_users_leave() {
    let rig = Rig::open(100, "1h");
    let _a = rig.open_sessions(A, 1);
    let _b = rig.open_sessions(B, 1);
    let _c = rig.open_sessions(C, 90);
    let _d = rig.open_sessions(D, 49);
    rig.assert_refused(C);
    rig.assert_refused(D);
    assert_eq!(rig.proxy.connections("d"), 49);
    let throttle = rig.proxy.stats()["throttle"].clone();
    assert_eq!(throttle, json!({"active": true, "limit": 100, "caps": {"c": 49, "d": 49}}));
    let _light = rig.open_sessions(B, 5);
}

#[test]
fn caps_last_while_there_are_too_many_connections() {
    let rig = Rig::open(4, "1s");
    let heavy = rig.open_sessions(C, 4);
    let light = rig.open_sessions(A, 1);
    rig.assert_refused(C);
    let throttle = || rig.proxy.stats()["throttle"].clone();
    assert_eq!(throttle(), json!({"active": true, "limit": 4, "caps": {"c": 3}}));
    drop((heavy, light));
    eventually("the caps are removed", || throttle() == json!({"active": false, "limit": 4}));
    rig.proxy.wait_for_connections("c", 0);
    let _again = rig.open_sessions(C, 4);
}

#[test]
fn the_log_reports_when_caps_begin_and_end() {
    let rig = Rig::open(4, "1s");
    let heavy = rig.open_sessions(C, 4);
    let _light = rig.open_sessions(A, 1);
    let warned = || {
        let log = rig.proxy.log();
        log.lines().any(|line| line.contains("level=warn") && line.contains("throttle"))
    };
    eventually("a warning", warned);
    drop(heavy);
    eventually("the end of the caps", || rig.proxy.log().contains("active=false"));
}

#[test]
fn more_users_than_the_limit_still_get_one_connection_each() {
    let rig = Rig::open(2, "1h");
    let _one_each: Vec<_> = [A, B, C, D].map(|user| rig.open_sessions(user, 1)).into();
    rig.assert_refused(A);
    rig.assert_refused(D);
}
