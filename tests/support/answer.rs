//! Checks the proxy's answer to a hello as the strictest app does (PROTOCOL 4).

use super::crypto::hmac;
use super::curve::is_on_curve25519;
use super::hello::{Hello, Secret};
use super::peer::Peer;

/// The share of ML-KEM-768 in front of the x25519 key.
pub const MLKEM_CIPHERTEXT: usize = 1088;

/// The choices of an answer.
pub struct Answer {
    /// Key share group: 001d (x25519) or 11ec (X25519MLKEM768).
    pub group: u16,
    /// The whole key share.
    pub share: Vec<u8>,
    /// supported_versions comes before key_share.
    pub versions_first: bool,
    /// Length of the encrypted flight in bytes.
    pub noise: usize,
}

/// Receives exactly three records and checks them; the next byte stays in the socket.
pub fn receive(peer: &mut Peer, hello: &Hello, secret: &Secret) -> Answer {
    let mut wire = Vec::new();
    for _ in 0..3 {
        let header = peer.recv(5);
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        wire.extend_from_slice(&header);
        wire.extend_from_slice(&peer.recv(length));
    }
    let answer = check(&wire, hello, secret);
    let x25519 = &answer.share[answer.share.len() - 32..];
    assert!(is_on_curve25519(x25519), "the x25519 key is a point of the curve");
    answer
}

/// Checks a complete answer, but not that the key share is a point of the curve: apps do not check
/// it, and old proxies sent random bytes.
pub fn check(wire: &[u8], hello: &Hello, secret: &Secret) -> Answer {
    let (first, rest) = record(wire, 0x16);
    assert!(rest.starts_with(&[0x14, 3, 3, 0, 1, 1, 0x17, 3, 3]), "CCS and one app-data record");
    let (_, rest) = record(rest, 0x14);
    let (noise, rest) = record(rest, 0x17);
    assert!(rest.is_empty(), "three records, not one byte more");
    assert!((1..=10_240).contains(&noise.len()), "flight of {}", noise.len());

    let mut unsigned = wire.to_vec();
    unsigned[11..43].fill(0);
    let digest = hmac(&secret.key, &[hello.random(), &unsigned]);
    assert_eq!(wire[11..43], digest, "the digest proves the proxy");

    let (group, share, versions_first) = server_hello(first, hello);
    match (hello.is_post_quantum, group) {
        (true, 0x11ec) => assert_eq!(share.len(), MLKEM_CIPHERTEXT + 32),
        (_, 0x001d) => assert_eq!(share.len(), 32),
        _ => panic!("group {group:04x} was not offered"),
    }
    Answer { group, share, versions_first, noise: noise.len() }
}

/// Parses ServerHello. Returns group, share, and whether supported_versions comes first.
fn server_hello(message: &[u8], hello: &Hello) -> (u16, Vec<u8>, bool) {
    assert_eq!(message[0], 2, "a ServerHello");
    assert_eq!(message[1], 0);
    assert_eq!(number(&message[2..4]), message.len() - 4, "one whole message");
    assert_eq!(message[4..6], [3, 3], "legacy version");
    assert_eq!(message[38], 32, "a session id of 32 bytes");
    assert_eq!(&message[39..71], hello.session_id(), "the session id echoed");
    assert_eq!(message[71..73], hello.cipher.to_be_bytes(), "the suite");
    assert_eq!(message[73], 0, "no compression");
    let mut extensions = &message[76..];
    assert_eq!(number(&message[74..76]), extensions.len(), "extensions up to the end");

    let (mut versions, mut chosen, mut versions_first) = (0, None, true);
    while let [_, _, _, _, rest @ ..] = extensions {
        let (body, after) = rest.split_at(number(&extensions[2..4]));
        match number(&extensions[..2]) {
            0x002b => {
                assert_eq!(body, [3, 4], "TLS 1.3");
                versions += 1;
            }
            0x0033 => {
                assert!(chosen.is_none(), "one key share");
                assert_eq!(number(&body[2..4]), body.len() - 4);
                versions_first = versions > 0;
                chosen = Some((number(&body[..2]) as u16, body[4..].to_vec()));
            }
            other => panic!("extension {other:04x} in ServerHello"),
        }
        extensions = after;
    }
    assert!(extensions.is_empty(), "no bytes left");
    assert_eq!(versions, 1, "supported_versions once");
    let (group, share) = chosen.expect("a key share");
    let length = if group == 0x11ec { 1210 } else { 122 };
    assert_eq!(message.len(), length, "the size of ServerHello follows from the group");
    (group, share, versions_first)
}

/// The payload of the first record and what follows it.
fn record(wire: &[u8], kind: u8) -> (&[u8], &[u8]) {
    assert_eq!(wire[..3], [kind, 3, 3], "record header");
    wire[5..].split_at(number(&wire[3..5]))
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}
