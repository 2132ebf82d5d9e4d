//! The smallest proxy that the protocol allows, for one session. Client and DC of the tests are
//! tested with it against each other.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use x25519_dalek::{PublicKey, StaticSecret};

use super::client::record;
use super::crypto::hmac;
use super::hello::Secret;
use super::obfuscated2;
use super::peer::Peer;
use super::random;

/// Serves one client of `secret` with the DC at `dc`. Returns the address of its listener.
pub fn serve_once(secret: &Secret, dc: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    let key = secret.key;
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        session(Peer::new("minimal proxy", stream), &key, dc);
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

    let (first, mut pending) = frame_and_rest(&mut client);
    let mut from_client = obfuscated2::read(&first, Some(key));
    let mut to_dc = obfuscated2::write(from_client.tag, from_client.dc, None);
    let mut upstream = Peer::connect("minimal proxy", dc);
    upstream.send(&to_dc.wire);

    let (mut from_dc, mut to_client) = (upstream.duplicate(), client.duplicate());
    let mut to_sender = from_client.to_sender;
    thread::spawn(move || {
        let mut chunk = vec![0; 16_384];
        while let Ok(count) = from_dc.read(&mut chunk) {
            let plain = to_dc.to_sender.transform(&chunk[..count]);
            to_client.send(&record(0x17, &to_sender.transform(&plain)));
        }
        to_client.send_fin();
    });
    loop {
        let plain = from_client.to_receiver.transform(&pending);
        upstream.send(&to_dc.to_receiver.transform(&plain));
        match next_payload(&mut client) {
            Some(payload) => pending = payload,
            None => return upstream.send_fin(),
        }
    }
}

/// The frame and the payload after it.
fn frame_and_rest(client: &mut Peer) -> ([u8; 64], Vec<u8>) {
    let mut received = Vec::new();
    while received.len() < 64 {
        received.extend(next_payload(client).expect("a frame before the end"));
    }
    let rest = received.split_off(64);
    (received.try_into().expect("64 bytes"), rest)
}

/// The payload of the next record; empty for CCS, `None` at FIN.
fn next_payload(client: &mut Peer) -> Option<Vec<u8>> {
    let mut header = [0; 5];
    client.read(&mut header[..1]).ok()?;
    header[1..].copy_from_slice(&client.recv(4));
    let body = client.recv(usize::from(u16::from_be_bytes([header[3], header[4]])));
    Some(if header[0] == 0x17 { body } else { Vec::new() })
}

/// The answer: ServerHello with x25519, CCS and one record of noise.
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
