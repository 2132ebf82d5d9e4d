//! Two hundred malformed openings: the process survives, and nothing is left over.

use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::support::client::{CCS, Client, Handshake, record};
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::Config;
use crate::support::tls::TlsFront;

const WORKERS: u64 = 8;
const OPENINGS_EACH: usize = 25;

#[test]
fn mutated_openings_neither_crash_nor_leak() {
    let secret = Secret::new(HOST);
    let site = TlsFront::listen(&[HOST]);
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
                    attack(proxy.addr, secret, &mut rng);
                }
            });
        }
    });
    proxy.wait_until_idle(files);
    let mut client = Client::open(proxy.addr, &secret);
    client.up.send(b"still serving");
    assert_eq!(client.down.recv(13), b"still serving");
}

/// One connection with a malformed opening.
fn attack(addr: std::net::SocketAddr, secret: &Secret, rng: &mut Rng) {
    let mut peer = Peer::connect("molester", addr);
    let hello = Hello::new(secret, App::PostQuantum);
    let bytes = match rng.u8(..5) {
        0 => (0..rng.usize(1..5000)).map(|_| rng.u8(..)).collect(),
        1 => hello.wire[..rng.usize(1..hello.wire.len())].to_vec(),
        2 => hello.in_records(rng.usize(1..16)),
        3 => {
            // Any answer is allowed here. What follows it is malformed.
            let (mut client, header) =
                Handshake::send_hello(peer, secret, &hello).make_frame(DD, 2);
            let sealed = client.up.encrypt(&[7; 3000]);
            let stream = [&CCS[..], &record(0x17, &header), &record(0x17, &sealed)].concat();
            return send_pieces(&mut client.up.peer, &mutated(stream, rng), rng);
        }
        _ => hello.wire.clone(),
    };
    send_pieces(&mut peer, &mutated(bytes, rng), rng);
}

/// Flips, removes or doubles up to five bytes.
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

/// Sends in pieces, then ends with FIN, with RST, or by closing.
fn send_pieces(peer: &mut Peer, bytes: &[u8], rng: &mut Rng) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
        if peer.try_send(now).is_err() {
            return;
        }
        rest = later;
    }
    match rng.u8(..4) {
        0 => peer.send_fin(),
        1 => peer.duplicate().reset(),
        2 => return,
        _ => {}
    }
    peer.receives_within(Duration::from_millis(100));
}
