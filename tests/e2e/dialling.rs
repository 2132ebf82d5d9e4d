//! Several addresses of one DC, some of them bad (spec: network 4, gotchas B3 and B4).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::blackhole::BlackHole;
use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::hello::Secret;
use crate::support::origin::Origin;
use crate::support::peer::End;
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::stage::HOST;

/// A proxy whose DC 2 has these addresses, and a dial timeout too long to wait for.
fn proxy_with(addresses: &[SocketAddr], secret: &Secret, origin: &Origin) -> Proxy {
    let list: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    Config::new(addresses[0], origin.addr)
        .user("alice", secret)
        .set("telegram.dc-overrides", "2", &format!("[{}]", list.join(", ")))
        .set("network.timeout", "tcp", "\"25s\"")
        .start()
}

fn refused() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn a_refused_address_is_passed_over() {
    let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
    let proxy = proxy_with(&[refused(), refused(), dc.addr], &secret, &origin);
    for _ in 0..5 {
        let mut client = Client::open(proxy.addr, &secret);
        client.up.send(b"anyone?");
        assert_eq!(dc.accept().from.recv(7), b"anyone?");
    }
}

#[test]
fn a_black_hole_is_overtaken_by_the_next_address() {
    let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
    let hole = BlackHole::dig();
    let proxy = proxy_with(&[hole.addr, dc.addr], &secret, &origin);
    for _ in 0..5 {
        let start = Instant::now();
        let mut client = Client::open(proxy.addr, &secret);
        client.up.send(b"anyone?");
        assert_eq!(dc.accept().from.recv(7), b"anyone?");
        // The hole would hold a patient dialler for 25 s.
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    }
}

#[test]
fn a_dc_with_no_living_address_ends_the_session() {
    let (origin, secret) = (Origin::listen(), Secret::new(HOST));
    let proxy = proxy_with(&[refused(), refused()], &secret, &origin);
    let files = proxy.files();
    let mut client = Client::open(proxy.addr, &secret);
    client.up.peer.recv_rest();
    proxy.wait_for_rest(files);
}

#[test]
fn a_client_that_leaves_during_the_dial_takes_the_dial_with_it() {
    let (origin, secret) = (Origin::listen(), Secret::new(HOST));
    let hole = BlackHole::dig();
    let proxy = proxy_with(&[hole.addr], &secret, &origin);
    let files = proxy.files();
    let client = Client::open(proxy.addr, &secret);
    proxy.wait_for_connections("alice", 1);
    let start = Instant::now();
    client.reset();
    proxy.wait_for_rest(files);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn what_a_client_says_before_its_fin_during_the_dial_is_answered() {
    let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
    let hole = BlackHole::dig();
    let proxy = proxy_with(&[hole.addr, dc.addr], &secret, &origin);
    for _ in 0..4 {
        let mut client = Client::open(proxy.addr, &secret);
        proxy.wait_for_connections("alice", 1);
        client.up.send(b"last words");
        client.up.finish();
        let mut session = dc.accept();
        assert_eq!(session.from.recv_rest(), (b"last words".to_vec(), End::Fin));
        session.to.send(b"heard");
        session.to.finish();
        assert_eq!(client.down.recv_rest(), (b"heard".to_vec(), End::Fin));
        proxy.wait_for_connections("alice", 0);
    }
}
