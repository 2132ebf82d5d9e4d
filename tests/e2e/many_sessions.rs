//! Many sessions at once, sessions that come and go, and a sleepers that does not read.

use std::thread;

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::{eventually, pattern};

/// A proxy whose DC echoes everything.
fn echoing(change: impl FnOnce(Config) -> Config) -> (Proxy, Secret, Front) {
    let (front, secret) = (Front::listen(), Secret::new(HOST));
    let config = Config::new(Dc::echoing(), front.addr).user("alice", &secret);
    (change(config).start(), secret, front)
}

/// Sends one message and receives its echo.
fn assert_echo(client: &mut Client, seed: u64, size: usize) {
    let bytes = pattern(seed, size);
    client.up.send(&bytes);
    assert!(client.down.recv(size) == bytes, "echo {seed}");
}

#[test]
fn a_hundred_sessions_transfer_at_once() {
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
    proxy.wait_until_idle(files);
    assert_eq!(proxy.number("alice", "bytes_in"), 3_000_000);
    assert_eq!(proxy.number("alice", "bytes_out"), 3_000_000);
}

#[test]
fn sessions_that_open_and_close_never_get_each_others_bytes() {
    let (proxy, secret, _origin) = echoing(|config| config);
    let files = proxy.files();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (proxy, secret) = (&proxy, &secret);
            scope.spawn(move || {
                for turn in 0..30 {
                    let mut client = Client::open(proxy.addr, secret);
                    assert_echo(&mut client, worker * 1000 + turn, 3000);
                    match turn % 3 {
                        0 => client.reset(),
                        1 => client.up.send_fin(),
                        _ => client.up.send(&pattern(0, 20_000)),
                    }
                }
            });
        }
    });
    proxy.wait_until_idle(files);
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
    proxy.wait_until_idle(files);

    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    for _ in 0..10 {
        let (mut client, mut session) = fixture.session();
        session.to.send(&pattern(2, 200_000));
        client.down.recv(1);
        session.reset();
        while client.down.next_record().is_ok() {}
    }
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_dc_that_does_not_read_stops_the_client_and_costs_no_memory() {
    const MIB: usize = 1 << 20;
    let fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
    let before = fixture.proxy.resident_kib();
    let app = thread::spawn(move || {
        client.up.send(&pattern(3, 48 * MIB));
        drop(client);
    });
    let (mut last, mut still) = (0, 0);
    eventually("no more bytes flow", || {
        let sent = fixture.proxy.number("alice", "bytes_in");
        still = if sent > 0 && sent == last { still + 1 } else { 0 };
        last = sent;
        still > 20
    });
    assert!(!app.is_finished(), "48 MiB swallowed for a DC that reads nothing");
    let grown = fixture.proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for one slow DC");
    assert!(session.from.recv(48 * MIB) == pattern(3, 48 * MIB));
    app.join().expect("the client");
}

#[test]
fn a_dc_that_closes_at_once_ends_the_session() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    for is_reset in [true, false] {
        let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
        let session = fixture.dc.accept();
        if is_reset {
            session.reset();
        } else {
            drop(session);
        }
        assert!(client.down.recv_rest().0.is_empty());
    }
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn many_clients_that_do_not_read_do_not_starve_one_that_does() {
    let (proxy, secret, _origin) = echoing(|config| config.set("memory", "buffers", "\"1mib\""));
    let before = proxy.resident_kib();
    let mut sleepers = Vec::new();
    for seed in 0..64 {
        let peer = Peer::connect("sleeper", proxy.addr).with_small_receive_buffer(16_384);
        let hello = Hello::new(&secret, App::PostQuantum);
        let Client { mut up, down } =
            Handshake::send_hello(peer, &secret, &hello).send_frame(DD, 2);
        // Its echo fills the kernel's buffers first, then the proxy's.
        sleepers.push((thread::spawn(move || up.send_while_open(&pattern(seed, 8 << 20))), down));
    }
    let (mut last, mut still) = (0, 0);
    eventually("all buffers are full", || {
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
fn clients_that_do_not_read_leave_process_and_kernel_within_the_limit_of_memory() {
    let (proxy, secret, _origin) = echoing(|config| config.set("memory", "limit", "\"16mib\""));
    let log = proxy.log();
    assert!(log.contains("event=memory limit_kib=16384 program_kib="), "{log}");
    let mut sleepers = Vec::new();
    for seed in 0..40 {
        let peer = Peer::connect("sleeper", proxy.addr);
        let hello = Hello::new(&secret, App::PostQuantum);
        let Client { mut up, down } =
            Handshake::send_hello(peer, &secret, &hello).send_frame(DD, 2);
        sleepers.push((thread::spawn(move || up.send_while_open(&pattern(seed, 8 << 20))), down));
    }
    let memory = |field: &str| proxy.stats()["memory"][field].as_u64().expect("a number");
    assert_eq!(memory("limit"), 16 << 20);
    let (mut last, mut still) = (0, 0);
    eventually("all buffers are full", || {
        let moved = proxy.number("alice", "bytes_in");
        still = if moved == last { still + 1 } else { 0 };
        last = moved;
        let sum = memory("resident") + memory("kernel");
        assert!(sum <= (16 << 20), "{}", proxy.stats()["memory"]);
        still > 10
    });
    assert!(proxy.log().contains("event=memory-level level=tight"), "{}", proxy.log());
    let mut reader = Client::open(proxy.addr, &secret);
    assert_echo(&mut reader, 99, 100_000);
}

#[test]
fn a_flood_of_wrong_hellos_does_not_shut_out_recent_users() {
    let front = Front::listen();
    let users: Vec<Secret> = (0..60).map(|_| Secret::new(HOST)).collect();
    let config = Config::new(Dc::echoing(), front.addr);
    let config = users
        .iter()
        .enumerate()
        .fold(config, |config, (number, secret)| config.user(&format!("user{number:02}"), secret));
    let proxy = config.start();
    assert_echo(&mut Client::open(proxy.addr, &users[59]), 1, 100);
    assert_echo(&mut Client::open(proxy.addr, &users[7]), 2, 100);

    let unknown = Secret::new(HOST);
    for _ in 0..60 {
        let mut peer = Peer::connect("prober", proxy.addr);
        let hello = Hello::new(&unknown, App::PostQuantum);
        peer.send(&hello.wire);
        assert!(front.accept().first == hello.wire);
    }
    // Sixty failed hellos came from this address, but recently used keys are still tried.
    assert_echo(&mut Client::open(proxy.addr, &users[59]), 3, 100);
    assert_echo(&mut Client::open(proxy.addr, &users[7]), 4, 100);
}
