//! The smallest proxy that the protocol allows: one session, no defence, no mercy. It exists to let
//! client and DC be tested against each other before they judge anybody else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use x25519_dalek::{PublicKey, StaticSecret};

use super::client::record;
use super::crypto::hmac;
use super::hello::Secret;
use super::obfuscated2;
use super::peer::Peer;
use super::random;

/// Serves one client of `secret` towards `dc`; returns where it listens.
pub fn serve_once(secret: &Secret, dc: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    let key = secret.key;
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        session(Peer::new("reference proxy", stream), &key, dc);
    });
    addr
}

fn session(mut client: Peer, key: &[u8; 16], dc: SocketAddr) {
    let header = client.recv(5);
    let body = client.recv(usize::from(u16::from_be_bytes([header[3], header[4]])));
    let mut hello = [header, body].concat();
    let random: [u8; 32] = hello[11..43].try_into().expect("32 bytes");
    hello[11..43].fill(0);
    let digest = hmac(key, &[&hello]);
    assert_eq!(digest[..28], random[..28], "the hello proves the secret");
    client.send(&answer(&hello, &random, key));

    let (first, mut pending) = header_and_rest(&mut client);
    let mut from_client = obfuscated2::read(&first, Some(key));
    let mut to_dc = obfuscated2::write(from_client.tag, from_client.dc, None);
    let mut upstream = Peer::connect("reference proxy", dc);
    upstream.send(&to_dc.wire);

    let (mut from_dc, mut to_client) = (upstream.twin(), client.twin());
    let mut back = from_client.back;
    thread::spawn(move || {
        let mut chunk = vec![0; 16_384];
        while let Ok(count) = from_dc.read(&mut chunk) {
            let plain = to_dc.back.turn(&chunk[..count]);
            to_client.send(&record(0x17, &back.turn(&plain)));
        }
        to_client.finish();
    });
    loop {
        let plain = from_client.forth.turn(&pending);
        upstream.send(&to_dc.forth.turn(&plain));
        match next_payload(&mut client) {
            Some(payload) => pending = payload,
            None => return upstream.finish(),
        }
    }
}

/// The 64-byte header and what came with it.
fn header_and_rest(client: &mut Peer) -> ([u8; 64], Vec<u8>) {
    let mut seen = Vec::new();
    while seen.len() < 64 {
        seen.extend(next_payload(client).expect("a header before the end"));
    }
    let rest = seen.split_off(64);
    (seen.try_into().expect("64 bytes"), rest)
}

/// The payload of the next record, empty for CCS; `None` at FIN.
fn next_payload(client: &mut Peer) -> Option<Vec<u8>> {
    let mut header = [0; 5];
    client.read(&mut header[..1]).ok()?;
    header[1..].copy_from_slice(&client.recv(4));
    let body = client.recv(usize::from(u16::from_be_bytes([header[3], header[4]])));
    Some(if header[0] == 0x17 { body } else { Vec::new() })
}

/// ServerHello with x25519, CCS and one record of noise, sealed.
fn answer(hello: &[u8], client_random: &[u8; 32], key: &[u8; 16]) -> Vec<u8> {
    let share = PublicKey::from(&StaticSecret::from(random::<32>()));
    let mut wire = vec![0x16, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3];
    wire.extend_from_slice(&[0; 32]);
    wire.push(32);
    wire.extend_from_slice(&hello[44..76]);
    wire.extend_from_slice(&[0x13, 0x01, 0, 0, 46, 0, 0x2b, 0, 2, 3, 4]);
    wire.extend_from_slice(&[0, 0x33, 0, 36, 0, 0x1d, 0, 32]);
    wire.extend_from_slice(share.as_bytes());
    wire.extend_from_slice(&[0x14, 3, 3, 0, 1, 1]);
    wire.extend_from_slice(&record(0x17, &random::<2900>()));
    let digest = hmac(key, &[client_random, &wire]);
    wire[11..43].copy_from_slice(&digest);
    wire
}
