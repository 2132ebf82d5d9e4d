//! Several addresses of one DC, some of them bad (COMPATIBILITY 5.4, B3 and B4).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::blackhole::BlackHole;
use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::peer::End;
use crate::support::proxy::{Config, Proxy, free_port};

/// A proxy whose DC 2 has these addresses; no test can wait for its dial timeout.
fn proxy_with(addresses: &[SocketAddr], secret: &Secret, front: &Front) -> Proxy {
    let list: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    Config::new(addresses[0], front.addr)
        .user("alice", secret)
        .set("telegram.dc-overrides", "2", &format!("[{}]", list.join(", ")))
        .set("network.timeout", "tcp", "\"25s\"")
        .start()
}

fn refused() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn a_refused_address_is_skipped() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let proxy = proxy_with(&[refused(), refused(), dc.addr], &secret, &front);
    for _ in 0..5 {
        let mut client = Client::open(proxy.addr, &secret);
        client.up.send(b"anyone?");
        assert_eq!(dc.accept().from.recv(7), b"anyone?");
    }
}

#[test]
fn a_black_hole_is_overtaken_by_the_next_address() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let hole = BlackHole::open();
    let proxy = proxy_with(&[hole.addr, dc.addr], &secret, &front);
    for _ in 0..5 {
        let start = Instant::now();
        let mut client = Client::open(proxy.addr, &secret);
        client.up.send(b"anyone?");
        assert_eq!(dc.accept().from.recv(7), b"anyone?");
        // Waiting for the black hole would take 25 s.
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    }
}

#[test]
fn a_dc_without_a_reachable_address_ends_the_session() {
    let (front, secret) = (Front::listen(), Secret::new(HOST));
    let proxy = proxy_with(&[refused(), refused()], &secret, &front);
    let files = proxy.files();
    let mut client = Client::open(proxy.addr, &secret);
    client.up.peer.recv_rest();
    proxy.wait_until_idle(files);
}

#[test]
fn a_client_that_closes_during_the_dial_ends_the_dial() {
    let (front, secret) = (Front::listen(), Secret::new(HOST));
    let hole = BlackHole::open();
    let proxy = proxy_with(&[hole.addr], &secret, &front);
    let files = proxy.files();
    let client = Client::open(proxy.addr, &secret);
    proxy.wait_for_connections("alice", 1);
    let start = Instant::now();
    client.reset();
    proxy.wait_until_idle(files);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn bytes_and_a_fin_sent_during_the_dial_are_answered() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let hole = BlackHole::open();
    let proxy = proxy_with(&[hole.addr, dc.addr], &secret, &front);
    for _ in 0..4 {
        let mut client = Client::open(proxy.addr, &secret);
        proxy.wait_for_connections("alice", 1);
        client.up.send(b"last bytes");
        client.up.send_fin();
        let mut session = dc.accept();
        assert_eq!(session.from.recv_rest(), (b"last bytes".to_vec(), End::Fin));
        session.to.send(b"received");
        session.to.send_fin();
        assert_eq!(client.down.recv_rest(), (b"received".to_vec(), End::Fin));
        proxy.wait_for_connections("alice", 0);
    }
}
