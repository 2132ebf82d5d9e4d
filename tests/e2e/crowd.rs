//! Many sessions at once, sessions that come and go, and a crowd that does not read.

use std::thread;

use crate::support::client::{Client, Visitor};
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::obfuscated2::DD;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::stage::{HOST, Stage};
use crate::support::{eventually, pattern};

/// A proxy whose DC says everything back.
fn echoing(change: impl FnOnce(Config) -> Config) -> (Proxy, Secret, Origin) {
    let (origin, secret) = (Origin::listen(), Secret::new(HOST));
    let config = Config::new(Dc::echoing(), origin.addr).user("alice", &secret);
    (change(config).start(), secret, origin)
}

/// One message there and back.
fn assert_echo(client: &mut Client, seed: u64, size: usize) {
    let word = pattern(seed, size);
    client.up.send(&word);
    assert!(client.down.recv(size) == word, "echo {seed}");
}

#[test]
fn a_hundred_sessions_talk_at_once() {
    let (proxy, secret, _origin) = echoing(|config| config);
    let files = proxy.files();
    let mut clients: Vec<_> = (0..100).map(|_| Client::open(proxy.addr, &secret)).collect();
    proxy.wait_for_connections("alice", 100);
    for round in 0..3 {
        for (seed, client) in clients.iter_mut().enumerate() {
            client.up.send(&pattern(seed as u64 + round, 10_000));
        }
        for (seed, client) in clients.iter_mut().enumerate() {
            assert!(client.down.recv(10_000) == pattern(seed as u64 + round, 10_000));
        }
    }
    drop(clients);
    proxy.wait_for_rest(files);
    assert_eq!(proxy.number("alice", "bytes_in"), 3_000_000);
    assert_eq!(proxy.number("alice", "bytes_out"), 3_000_000);
}

#[test]
fn sessions_that_come_and_go_never_meet_each_others_bytes() {
    let (proxy, secret, _origin) = echoing(|config| config);
    let files = proxy.files();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (proxy, secret) = (&proxy, &secret);
            scope.spawn(move || {
                for visit in 0..30 {
                    let mut client = Client::open(proxy.addr, secret);
                    assert_echo(&mut client, worker * 1000 + visit, 3000);
                    match visit % 3 {
                        0 => client.reset(),
                        1 => client.up.finish(),
                        _ => client.up.send(&pattern(0, 20_000)),
                    }
                }
            });
        }
    });
    proxy.wait_for_rest(files);
}

#[test]
fn a_reset_in_full_flow_ends_both_sides() {
    let (proxy, secret, _origin) = echoing(|config| config);
    let files = proxy.files();
    for _ in 0..10 {
        let mut client = Client::open(proxy.addr, &secret);
        client.up.send(&pattern(1, 200_000));
        client.down.recv(1);
        client.reset();
    }
    proxy.wait_for_rest(files);

    let stage = Stage::plain();
    let files = stage.proxy.files();
    for _ in 0..10 {
        let (mut client, mut session) = stage.session();
        session.to.send(&pattern(2, 200_000));
        client.down.recv(1);
        session.reset();
        while client.down.next_record().is_ok() {}
    }
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_dc_that_does_not_read_stops_the_client_and_costs_no_memory() {
    const MIB: usize = 1 << 20;
    let stage = Stage::plain();
    let (mut client, mut session) = stage.session();
    let before = stage.proxy.resident_kib();
    let app = thread::spawn(move || {
        client.up.send(&pattern(3, 48 * MIB));
        drop(client);
    });
    let (mut last, mut still) = (0, 0);
    eventually("the flow comes to a stop", || {
        let sent = stage.proxy.number("alice", "bytes_in");
        still = if sent > 0 && sent == last { still + 1 } else { 0 };
        last = sent;
        still > 20
    });
    assert!(!app.is_finished(), "48 MiB swallowed for a DC that reads nothing");
    let grown = stage.proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for one slow DC");
    assert!(session.from.recv(48 * MIB) == pattern(3, 48 * MIB));
    app.join().expect("the client");
}

#[test]
fn a_dc_that_hangs_up_at_once_ends_the_session() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    for is_reset in [true, false] {
        let mut client = Client::open(stage.proxy.addr, &stage.secret);
        let session = stage.dc.accept();
        if is_reset {
            session.reset();
        } else {
            drop(session);
        }
        assert!(client.down.recv_rest().0.is_empty());
    }
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_crowd_that_does_not_read_does_not_starve_one_who_does() {
    let (proxy, secret, _origin) = echoing(|config| config.set("memory", "buffers", "\"1mib\""));
    let before = proxy.resident_kib();
    let mut crowd = Vec::new();
    for seed in 0..64 {
        let peer = Peer::connect("sleeper", proxy.addr).with_small_receive_buffer(16_384);
        let hello = Hello::fresh(&secret, Shape::PostQuantum);
        let Client { mut up, down } = Visitor::greet(peer, &secret, &hello).begin(DD, 2);
        // Its echo fills the kernel's buffers first, then the proxy's.
        crowd.push((thread::spawn(move || up.pour(&pattern(seed, 8 << 20))), down));
    }
    let (mut last, mut still) = (0, 0);
    eventually("the crowd has clogged", || {
        let moved = proxy.number("alice", "bytes_in");
        still = if moved == last { still + 1 } else { 0 };
        last = moved;
        still > 10
    });
    let mut reader = Client::open(proxy.addr, &secret);
    assert_echo(&mut reader, 99, 100_000);
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for sleepers");
}

#[test]
fn a_flood_of_wrong_hellos_shuts_nobody_out_who_was_here_before() {
    let origin = Origin::listen();
    let people: Vec<Secret> = (0..60).map(|_| Secret::new(HOST)).collect();
    let config = Config::new(Dc::echoing(), origin.addr);
    let config = people
        .iter()
        .enumerate()
        .fold(config, |config, (number, secret)| config.user(&format!("user{number:02}"), secret));
    let proxy = config.start();
    assert_echo(&mut Client::open(proxy.addr, &people[59]), 1, 100);
    assert_echo(&mut Client::open(proxy.addr, &people[7]), 2, 100);

    let stranger = Secret::new(HOST);
    for _ in 0..60 {
        let mut peer = Peer::connect("stranger", proxy.addr);
        let hello = Hello::fresh(&stranger, Shape::PostQuantum);
        peer.send(&hello.wire);
        assert!(origin.visit().first == hello.wire);
    }
    // Sixty misses came from the same address; keys of late are tried all the same.
    assert_echo(&mut Client::open(proxy.addr, &people[59]), 3, 100);
    assert_echo(&mut Client::open(proxy.addr, &people[7]), 4, 100);
}
