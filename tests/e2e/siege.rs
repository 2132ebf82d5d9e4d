//! Attacks on the resources that all connections share, in the size of a test: the others are still
//! served, and memory stays bounded. `cargo bench --bench siege` has the same attacks in full.

use std::io::Read;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::blackhole::BlackHole;
use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::hello::{App, Hello, Secret};
use crate::support::kernel;
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::web::{WebServer, page, path_of};
use crate::support::{QUIET, eventually, pattern, raise_descriptor_limit};

/// The address of all attackers.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// A user in the same network, and one in another.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 77);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 5, 0, 1);

/// How long a user may wait under attack. Far more than it takes, far less than what a connection
/// that waits for the attackers would need.
const SOON: Duration = Duration::from_secs(4);

/// The proxy with two users and a site. Through DC 1 everything comes back; DC 2 sends without an
/// end.
struct Rig {
    proxy: Proxy,
    site: WebServer,
    attacker: Secret,
    user: Secret,
}

impl Rig {
    fn open(change: impl FnOnce(Config) -> Config) -> Self {
        raise_descriptor_limit();
        let site = WebServer::http(|head, stream| match path_of(head) {
            "/endless" => loop {
                stream.write_all(&[0x5a; 16_384])?;
            },
            _ => stream.write_all(&page("the site")),
        });
        let [attacker, user] = [0; 2].map(|_| Secret::new(HOST));
        let config = Config::new(Dc::echoing(), site.addr)
            .set("telegram.dc-overrides", "2", &format!("[\"{}\"]", Dc::endless()))
            .user("mallory", &attacker)
            .user("bob", &user);
        Self { proxy: change(config).start(), site, attacker, user }
    }

    /// A connection of the attacker that has sent `bytes`.
    fn attack(&self, bytes: &[u8]) -> Peer {
        let mut peer = Peer::connect_from("attacker", ATTACKER, self.proxy.addr);
        // The proxy may have closed it already.
        let _ = peer.try_send(bytes);
        peer
    }

    /// A session of the attacker, which reads nothing of its endless download.
    fn sleeper(&self) -> Option<Client> {
        let peer = Peer::connect_from("sleeper", ATTACKER, self.proxy.addr);
        let hello = Hello::new(&self.attacker, App::PostQuantum);
        let mut peer = peer.with_small_receive_buffer(4_096);
        peer.try_send(&hello.wire).ok()?;
        if !peer.receives_within(SOON) {
            return None;
        }
        Some(Handshake::read_answer(peer, &self.attacker, &hello).send_frame(DD, 2))
    }

    /// A new session of the user, whose hello comes in two segments, moves `size` bytes in both
    /// directions.
    fn assert_serves(&self, from: Ipv4Addr, size: usize) {
        let start = Instant::now();
        let hello = Hello::new(&self.user, App::PostQuantum);
        let mut peer = Peer::connect_from("user", from, self.proxy.addr);
        let (first, second) = hello.wire.split_at(1_400);
        peer.send(first);
        thread::sleep(Duration::from_millis(5));
        peer.send(second);
        let mut client = Handshake::read_answer(peer, &self.user, &hello).send_frame(DD, 1);
        let bytes = pattern(1, size);
        client.up.send(&bytes);
        assert!(client.down.recv(size) == bytes);
        assert!(start.elapsed() < SOON, "a session takes {:?}", start.elapsed());
    }

    /// A browser sees the site.
    fn assert_shows_site(&self, from: Ipv4Addr) {
        let mut peer = Peer::connect_from("browser", from, self.proxy.addr);
        peer.send(b"GET / HTTP/1.1\r\n\r\n");
        assert!(peer.receives_within(SOON), "the site has vanished");
        assert_eq!(peer.recv(8), b"HTTP/1.1");
    }

    /// Sessions that were closed to make room, by `/stats`.
    fn evicted(&self) -> u64 {
        let rows = self.proxy.stats()["evicted"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["count"].as_u64().expect("a count")).sum()
    }

    /// Resident memory and the memory of its sockets in the kernel, in KiB.
    fn memory_kib(&self) -> u64 {
        let peers = [self.site.addr.port(); 2];
        let kernel = kernel::of(self.proxy.pid(), self.proxy.addr.port(), peers);
        self.proxy.resident_kib() + kernel.expect("sock_diag").bytes / 1024
    }
}

/// Calls `sample` for a while and returns the largest number.
fn most_of(mut sample: impl FnMut() -> u64) -> u64 {
    let start = Instant::now();
    let mut most = 0;
    while start.elapsed() < QUIET * 6 {
        most = most.max(sample());
        thread::sleep(Duration::from_millis(20));
    }
    most
}

#[test]
fn a_site_that_answers_no_syn_costs_no_memory() {
    let hole = BlackHole::open();
    let port = hole.addr.port().to_string();
    let rig = Rig::open(|config| {
        config.set("memory", "buffers", "\"1mib\"").set("", "concurrency", "2048").set(
            "domain-fronting",
            "port",
            &port,
        )
    });
    let before = rig.proxy.private_kib();
    let bytes = [b"GET / ", &[b'x'; 16_000][..]].concat();
    let held: Vec<_> = (0..600).map(|_| rig.attack(&bytes)).collect();
    let grown = most_of(|| rig.proxy.private_kib()).saturating_sub(before);
    // 600 openings have 9.6 MB.
    assert!(grown < 4 * 1_024, "{grown} KiB for {} probes", held.len());
    rig.assert_serves(ELSEWHERE, 100_000);
    rig.assert_serves(NEIGHBOUR, 100_000);
}

#[test]
fn drip_readers_of_the_site_leave_memory_for_users() {
    let rig = Rig::open(|config| config.set("memory", "buffers", "\"1mib\""));
    let held: Vec<_> = (0..120)
        .map(|_| {
            let peer = Peer::connect_from("drip", ATTACKER, rig.proxy.addr);
            let mut peer = peer.with_small_receive_buffer(4_096);
            peer.send(b"GET /endless HTTP/1.1\r\n\r\n");
            peer.stream().set_nonblocking(true).expect("a socket");
            peer
        })
        .collect();
    let drip = || {
        for peer in &held {
            // It may be empty or closed.
            let _ = peer.stream().read(&mut [0; 300]);
        }
    };
    for round in 0..5 {
        most_of(|| {
            drip();
            0
        });
        rig.assert_serves(if round % 2 == 0 { ELSEWHERE } else { NEIGHBOUR }, 200_000);
    }
    rig.assert_shows_site(ELSEWHERE);
}

#[test]
fn idle_connects_keep_no_user_out() {
    let rig = Rig::open(|config| config.set("", "concurrency", "48"));
    let mut held = Vec::new();
    for round in 0..10 {
        held.extend((0..60).map(|_| rig.attack(b"")));
        rig.assert_serves(if round % 2 == 0 { ELSEWHERE } else { NEIGHBOUR }, 1_000);
        rig.assert_shows_site(ELSEWHERE);
    }
    assert!(rig.evicted() > 300);
}

#[test]
fn half_sent_hellos_keep_no_user_out_and_are_told() {
    let rig = Rig::open(|config| config.set("", "concurrency", "48"));
    let hello = Hello::new(&Secret::new(HOST), App::PostQuantum).wire;
    let mut held = Vec::new();
    for round in 0..10 {
        held.extend((0..60).map(|_| rig.attack(&hello[..860])));
        rig.assert_serves(if round % 2 == 0 { ELSEWHERE } else { NEIGHBOUR }, 1_000);
    }
    assert!(rig.evicted() > 300);
    let log = rig.proxy.log();
    assert!(log.contains("event=evicted who=unfinished"), "{log}");
}

#[test]
fn large_half_sent_hellos_keep_no_user_out() {
    let rig = Rig::open(|config| {
        config.set("memory", "buffers", "\"1mib\"").set("", "concurrency", "1024")
    });
    let before = rig.proxy.private_kib();
    // A hello of 16 KiB, of which the last byte is missing.
    let mut half = Hello::new(&Secret::new(HOST), App::PostQuantum).wire;
    half.resize(16_388, 0);
    half[3..9].copy_from_slice(&[0x40, 0, 1, 0, 0x3f, 0xfc]);
    let mut held = Vec::new();
    for round in 0..5 {
        held.extend((0..40).map(|_| rig.attack(&half)));
        // The last ones fill what is left.
        held.extend((0..40).map(|_| rig.attack(&half[..800])));
        rig.assert_serves(if round % 2 == 0 { ELSEWHERE } else { NEIGHBOUR }, 1_000);
    }
    let grown = most_of(|| rig.proxy.private_kib()).saturating_sub(before);
    assert!(grown < 4 * 1_024, "{grown} KiB for {} hellos", held.len());
}

#[test]
fn held_fronted_connections_do_not_hide_the_site() {
    let rig = Rig::open(|config| config.set("", "concurrency", "48"));
    let mut held = Vec::new();
    for round in 0..10 {
        held.extend((0..20).map(|_| rig.attack(b"GET / HTTP/1.1\r\n")));
        rig.assert_shows_site(if round % 2 == 0 { ELSEWHERE } else { NEIGHBOUR });
        rig.assert_serves(NEIGHBOUR, 1_000);
    }
    assert!(rig.evicted() > 100);
}

#[test]
fn probes_that_leave_hold_no_ports() {
    let rig = Rig::open(|config| config);
    for _ in 0..200 {
        let peer = rig.attack(b"GET / HTTP/1.1\r\n\r\n");
        drop(peer);
    }
    let ports = || {
        let peers = [rig.site.addr.port(); 2];
        kernel::of(rig.proxy.pid(), rig.proxy.addr.port(), peers).expect("sock_diag").waiting
    };
    eventually("all have left", || {
        rig.site.connections() >= 150 && rig.proxy.stats()["total_connections"] == 0
    });
    let most = most_of(ports);
    assert!(most < 50, "{most} ports in TIME_WAIT");
    rig.assert_shows_site(ELSEWHERE);
}

#[test]
fn a_user_whose_sessions_never_read_leaves_memory_for_others() {
    let rig = Rig::open(|config| config.set("memory", "buffers", "\"1mib\""));
    let held: Vec<_> = (0..100).filter_map(|_| rig.sleeper()).collect();
    for round in 0..5 {
        most_of(|| 0);
        rig.assert_serves(if round % 2 == 0 { ELSEWHERE } else { NEIGHBOUR }, 200_000);
    }
    rig.assert_shows_site(ELSEWHERE);
    drop(held);
}

#[test]
fn sockets_of_slow_readers_stay_within_the_memory_limit() {
    const LIMIT_KIB: u64 = 16 * 1_024;
    let rig = Rig::open(|config| {
        config.set("memory", "limit", "\"16mib\"").set("", "concurrency", "1024")
    });
    let mut held = Vec::new();
    let mut most = 0;
    for _ in 0..15 {
        held.extend((0..8).filter_map(|_| rig.sleeper()));
        most = most.max(rig.memory_kib());
    }
    most = most.max(most_of(|| rig.memory_kib()));
    assert!(most <= LIMIT_KIB, "{most} KiB with {} sessions", held.len());
    rig.assert_serves(ELSEWHERE, 100_000);
}
