//! Two hundred openings that nobody should send: the process lives, and nothing is left over.

use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::support::client::{CCS, Client, Visitor, record};
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::Config;
use crate::support::stage::HOST;
use crate::support::tls::TlsOrigin;

const WORKERS: u64 = 8;
const OPENINGS_EACH: usize = 25;

#[test]
fn mutated_openings_neither_kill_nor_leak() {
    let secret = Secret::new(HOST);
    let site = TlsOrigin::listen(&[HOST]);
    let proxy = Config::new(Dc::echoing(), site.addr)
        .user("alice", &secret)
        .set("network.timeout", "handshake", "\"1s\"")
        .set("network.timeout", "idle", "\"2s\"")
        .start();
    let files = proxy.files();
    let seed = std::env::var("E2E_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from_le_bytes(crate::support::random()));
    println!("E2E_SEED={seed}");
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (proxy, secret) = (&proxy, &secret);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed.wrapping_add(worker));
                for _ in 0..OPENINGS_EACH {
                    molest(proxy.addr, secret, &mut rng);
                }
            });
        }
    });
    proxy.wait_for_rest(files);
    let mut client = Client::open(proxy.addr, &secret);
    client.up.send(b"still serving");
    assert_eq!(client.down.recv(13), b"still serving");
}

/// One visit with something wrong in it.
fn molest(addr: std::net::SocketAddr, secret: &Secret, rng: &mut Rng) {
    let mut peer = Peer::connect("molester", addr);
    let hello = Hello::fresh(secret, Shape::PostQuantum);
    let bytes = match rng.u8(..5) {
        0 => (0..rng.usize(1..5000)).map(|_| rng.u8(..)).collect(),
        1 => hello.wire[..rng.usize(1..hello.wire.len())].to_vec(),
        2 => hello.in_records(rng.usize(1..16)),
        3 => {
            // Every answer is welcome here; what follows it is what is wrong.
            let (mut client, header) = Visitor::greet(peer, secret, &hello).prepare(DD, 2);
            let sealed = client.up.seal(&[7; 3000]);
            let stream = [&CCS[..], &record(0x17, &header), &record(0x17, &sealed)].concat();
            return spit(&mut client.up.peer, &mutated(stream, rng), rng);
        }
        _ => hello.wire.clone(),
    };
    spit(&mut peer, &mutated(bytes, rng), rng);
}

/// Up to five flipped, removed or doubled bytes; sometimes none.
fn mutated(mut bytes: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    for _ in 0..rng.u8(..6) {
        let at = rng.usize(..bytes.len());
        match rng.u8(..4) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, rng.u8(..)),
            _ => bytes[at] = rng.u8(..),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// Sends in pieces, then leaves in one of the ways that there are.
fn spit(peer: &mut Peer, bytes: &[u8], rng: &mut Rng) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
        if peer.try_send(now).is_err() {
            return;
        }
        rest = later;
    }
    match rng.u8(..4) {
        0 => peer.finish(),
        1 => peer.twin().reset(),
        2 => return,
        _ => {}
    }
    peer.hears_within(Duration::from_millis(100));
}
