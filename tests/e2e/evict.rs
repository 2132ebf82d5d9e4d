//! When all places are taken, the one who holds most makes room: a newcomer is served.

use std::net::Ipv4Addr;

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::{Front, FrontConn};
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::stats;

const PLACES: usize = 32;
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
const HOME: Ipv4Addr = Ipv4Addr::new(127, 5, 0, 1);

struct Rig {
    proxy: Proxy,
    front: Front,
    secrets: [Secret; 3],
}

impl Rig {
    fn open() -> Self {
        let (front, secrets) = (Front::listen(), [(); 3].map(|()| Secret::new(HOST)));
        let config = Config::new(Dc::echoing(), front.addr)
            .set("", "concurrency", &PLACES.to_string())
            .set("network.timeout", "handshake", "\"1h\"")
            .user("alice", &secrets[0])
            .user("bob", &secrets[1])
            .user("carol", &secrets[2]);
        Self { proxy: config.start(), front, secrets }
    }

    /// A session of this user, from another network than the crowd; its echo must come back.
    fn session(&self, user: usize) -> Client {
        let hello = Hello::new(&self.secrets[user], App::PostQuantum);
        let peer = Peer::connect_from("user", HOME, self.proxy.addr);
        let handshake = Handshake::send_hello(peer, &self.secrets[user], &hello);
        let mut client = handshake.send_frame(DD, 2);
        echo(&mut client);
        client
    }

    /// An unauthenticated client that the front has answered.
    fn fronted(&self, from: Ipv4Addr) -> (Peer, FrontConn) {
        let mut peer = Peer::connect_from("prober", from, self.proxy.addr);
        peer.send(b"GET / HTTP/1.1\r\n\r\n");
        let mut conn = self.front.accept();
        conn.peer.send(b"the site");
        assert_eq!(peer.recv(8), b"the site");
        (peer, conn)
    }

    fn evicted(&self, who: &str, room: &str) -> u64 {
        let rows = self.proxy.stats()["evicted"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["who"] == who && row["room"] == room);
        row.map_or(0, |row| row["count"].as_u64().expect("a count"))
    }

    fn connections(&self, user: &str) -> u64 {
        self.proxy.connections(user)
    }
}

fn echo(client: &mut Client) {
    client.up.send(b"echo");
    assert_eq!(client.down.recv(4), b"echo");
}

#[test]
fn silent_connections_make_room_for_users_and_for_others() {
    let rig = Rig::open();
    let mut crowd = Vec::new();
    let mut seated = Vec::new();
    for round in 0..6 {
        let flood = (0..PLACES).map(|_| Peer::connect_from("silent", CROWD, rig.proxy.addr));
        crowd.extend(flood);
        seated.push(rig.session(round % 3));
        let _site = rig.fronted(HOME);
    }
    seated.iter_mut().for_each(echo);
    eventually("the evictions are told", || rig.evicted("unfinished", "place") > 100);
    let log = rig.proxy.log();
    assert!(log.contains("event=evicted who=unfinished"), "{log}");
    let lines = log.matches("event=evicted").count();
    assert!(lines < 20, "{lines} lines: a flood is folded");
    let why = stats::get(rig.proxy.api, "/explain").body;
    assert!(why.contains("made-room"), "{why}");
}

#[test]
fn held_fronted_connections_make_room_for_the_next_one() {
    let rig = Rig::open();
    let mut own = rig.fronted(HOME);
    let held: Vec<_> = (0..3 * PLACES).map(|_| rig.fronted(CROWD)).collect();
    assert!(rig.evicted("fronted", "front") >= 2 * PLACES as u64);
    // The one of another network is the oldest, and not of the crowd.
    own.1.peer.send(b"still here");
    assert_eq!(own.0.recv(10), b"still here");
    drop(held);
}

#[test]
fn a_user_with_all_places_makes_room_for_another_user() {
    let rig = Rig::open();
    let users_max = PLACES - PLACES / 8;
    let mut hog: Vec<Client> = (0..users_max).map(|_| rig.session(0)).collect();
    // One more is over the fair share, and goes to the front.
    let hello = Hello::new(&rig.secrets[0], App::PostQuantum);
    let mut over = Peer::connect_from("one too many", HOME, rig.proxy.addr);
    over.send(&hello.wire);
    assert!(rig.front.accept().first == hello.wire);
    assert_eq!(rig.connections("alice"), users_max as u64);
    let mut light: Vec<Client> = (0..3).map(|_| rig.session(1)).collect();
    light.push(rig.session(2));
    light.iter_mut().for_each(echo);
    assert_eq!(rig.evicted("user", "user"), 4);
    eventually("the counts follow", || rig.connections("alice") == users_max as u64 - 4);
    assert_eq!((rig.connections("bob"), rig.connections("carol")), (3, 1));
    // The oldest went.
    hog.iter_mut().skip(4).for_each(echo);
    let why = stats::get(rig.proxy.api, "/explain/alice").body;
    assert!(why.contains("over-share"), "{why}");
}
