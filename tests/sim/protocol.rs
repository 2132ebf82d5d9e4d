//! FakeTLS and obfuscated2 as a client and a DC speak them (PROTOCOL 3 to 6), written
//! without the code under test. All randomness comes from the seeded generator.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use fastrand::Rng;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What every app sends between the answer and its frame.
pub const CCS: [u8; 6] = [0x14, 3, 3, 0, 1, 1];

/// AES-256-CTR; each call continues the key stream.
pub struct Stream(Ctr128BE<Aes256>);

impl Stream {
    fn new(key: &[u8], iv: &[u8]) -> Self {
        Self(Ctr128BE::new_from_slices(key, iv).expect("32 and 16 bytes"))
    }

    /// Encrypts or decrypts in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply_keystream(bytes);
    }
}

/// The 64 bytes that begin obfuscated2, and the ciphers of both directions.
pub struct Frame {
    /// The bytes on the wire.
    pub wire: [u8; 64],
    /// The framing that the sender asks for.
    pub tag: [u8; 4],
    /// The data centre that the sender asks for.
    pub dc: i16,
    /// From the sender of the frame to its receiver.
    pub to_receiver: Stream,
    /// From the receiver of the frame to its sender.
    pub to_sender: Stream,
}

impl Frame {
    /// Makes a frame; `key` is the key of the secret, `None` towards a DC.
    pub fn write(rng: &mut Rng, dc: i16, key: Option<&[u8; 16]>) -> Self {
        let mut wire = [0; 64];
        rng.fill(&mut wire);
        // Apps never send first bytes that mean another transport.
        wire[0] = 0x42;
        let (mut to_receiver, to_sender) = streams(&wire, key);
        let mut plain = wire;
        plain[56..60].copy_from_slice(&[0xdd; 4]);
        plain[60..62].copy_from_slice(&dc.to_le_bytes());
        let mut sealed = plain;
        to_receiver.apply(&mut sealed);
        wire[56..].copy_from_slice(&sealed[56..]);
        Self { wire, tag: [0xdd; 4], dc, to_receiver, to_sender }
    }

    /// Decrypts a frame that a DC received.
    pub fn read(wire: &[u8; 64]) -> Self {
        let (mut to_receiver, to_sender) = streams(wire, None);
        let mut plain = *wire;
        to_receiver.apply(&mut plain);
        let tag = [plain[56], plain[57], plain[58], plain[59]];
        let dc = i16::from_le_bytes([plain[60], plain[61]]);
        Self { wire: *wire, tag, dc, to_receiver, to_sender }
    }
}

fn streams(frame: &[u8; 64], key: Option<&[u8; 16]>) -> (Stream, Stream) {
    let to_receiver = &frame[8..56];
    let to_sender: Vec<u8> = to_receiver.iter().rev().copied().collect();
    (stream(to_receiver, key), stream(&to_sender, key))
}

fn stream(material: &[u8], key: Option<&[u8; 16]>) -> Stream {
    let (own, iv) = material.split_at(32);
    match key {
        Some(key) => Stream::new(&Sha256::new().chain_update(own).chain_update(key).finalize(), iv),
        None => Stream::new(own, iv),
    }
}

/// A TLS record.
pub fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("at most 65535 bytes");
    let mut wire = vec![kind, 3, 3];
    wire.extend(len.to_be_bytes());
    wire.extend(payload);
    wire
}

/// A hello with a valid digest in one record. `hybrid` adds an X25519MLKEM768 share.
pub fn hello(rng: &mut Rng, key: &[u8; 16], host: &str, unix: u32, hybrid: bool) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.push(32);
    body.extend(random_bytes(rng, 32));
    body.extend(counted(&[0x1a, 0x1a, 0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2f]));
    body.extend([1, 0]);
    let mut name = vec![0];
    name.extend(counted(host.as_bytes()));
    let mut shares = Vec::new();
    if hybrid {
        shares.extend(extension(0x11ec, &random_bytes(rng, 1216)));
    }
    shares.extend(extension(0x001d, &random_bytes(rng, 32)));
    let groups: &[u8] = if hybrid { &[0, 4, 0x11, 0xec, 0, 0x1d] } else { &[0, 2, 0, 0x1d] };
    let extensions = [
        extension(0x0000, &counted(&name)),
        extension(0x000a, groups),
        extension(0x0010, b"\0\x0c\x02h2\x08http/1.1"),
        extension(0x0033, &counted(&shares)),
        extension(0x002b, &[4, 3, 4, 3, 3]),
        extension(0x0015, &vec![0; rng.usize(0..200)]),
    ];
    body.extend(counted(&extensions.concat()));
    let mut message = vec![1, 0];
    message.extend(counted(&body));
    let mut wire = record(0x16, &message);
    wire[2] = 1;
    let mut digest = hmac(key, &[&wire]);
    for (byte, clock) in digest[28..].iter_mut().zip(unix.to_le_bytes()) {
        *byte ^= clock;
    }
    wire[11..43].copy_from_slice(&digest);
    wire
}

/// The same hello in `count` records.
pub fn in_records(hello: &[u8], count: usize) -> Vec<u8> {
    let message = &hello[5..];
    let mut wire = Vec::new();
    for part in message.chunks(message.len().div_ceil(count)) {
        let mut piece = record(0x16, part);
        piece[2] = 1;
        wire.extend(piece);
    }
    wire
}

/// Checks the three records of an answer at the front of `input`: `None` = incomplete,
/// `Some(n)` = valid and `n` bytes long.
pub fn answer(input: &[u8], key: &[u8; 16], hello: &[u8]) -> Result<Option<usize>, String> {
    let mut len = 0;
    for kind in [0x16, 0x14, 0x17] {
        let Some(header) = input.get(len..len + 5) else { return Ok(None) };
        if header[..3] != [kind, 3, 3] {
            return Err(format!("the answer has a record {header:02x?} instead of {kind:02x}"));
        }
        len += 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
    }
    let Some(wire) = input.get(..len) else { return Ok(None) };
    let mut blank = wire.to_vec();
    blank[11..43].fill(0);
    if hmac(key, &[&hello[11..43], &blank]) != wire[11..43] {
        return Err("the answer's digest is wrong".to_owned());
    }
    Ok(Some(len))
}

/// Removes a complete application data record from the front of `input`.
pub fn next_payload(input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let Some(header) = input.get(..5) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if header[..3] != [0x17, 3, 3] || !(1..=16_401).contains(&len) {
        return Err(format!("the client got a record {header:02x?}"));
    }
    if input.len() < 5 + len {
        return Ok(None);
    }
    let rest = input.split_off(5 + len);
    let mut payload = std::mem::replace(input, rest);
    payload.drain(..5);
    Ok(Some(payload))
}

/// `count` bytes of an endless pattern from offset `from`.
pub fn pattern(seed: u64, from: usize, count: usize) -> Vec<u8> {
    let (first, last) = (from / 8, (from + count).div_ceil(8));
    let words = (first..last).flat_map(|index| {
        // SplitMix64 of the index.
        let mut word = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    });
    words.skip(from % 8).take(count).collect()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn random_bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// A type, a length and a body. A key share has the same layout.
fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend(counted(body));
    out
}

fn counted(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("a short body");
    let mut out = len.to_be_bytes().to_vec();
    out.extend(body);
    out
}
