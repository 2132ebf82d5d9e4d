//! The client's side of FakeTLS and obfuscated2 (PROTOCOL 3, 4, 6), as far as the handshake
//! needs it. After it any bytes are valid ciphertext, so nothing else is encrypted here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::options::Outcome;

/// The host of every secret.
const HOST: &[u8] = b"bench.example.org";

/// Offset of the 32 digest bytes in ClientHello and ServerHello.
const DIGEST_AT: usize = 11;

/// Bytes of the first segment of a hello.
const SEGMENT: usize = 1_400;

/// The record before the client's first data.
const CHANGE_CIPHER_SPEC: [u8; 6] = [0x14, 3, 3, 0, 1, 1];

/// A user with a secret.
#[derive(Clone)]
pub struct User {
    key: [u8; 16],
}

impl User {
    /// `count` users with random keys.
    pub fn random(count: usize, random: &mut fastrand::Rng) -> Vec<Self> {
        (0..count).map(|_| Self { key: std::array::from_fn(|_| random.u8(..)) }).collect()
    }

    /// Reads a secret in the form of the configuration.
    pub fn parse(text: &str) -> Outcome<Self> {
        let digits = text.get(2..34).ok_or("the secret is too short")?;
        let mut key = [0; 16];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16)?;
        }
        Ok(Self { key })
    }

    /// The secret in the form of the configuration.
    pub fn secret_hex(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        format!("ee{}{}", hex(&self.key), hex(HOST))
    }

    /// Performs the handshake and sends the 64-byte frame for DC 2. Returns the bytes sent.
    pub fn handshake(&self, stream: &mut TcpStream, random: &mut fastrand::Rng) -> Outcome<usize> {
        let hello = self.hello(random)?;
        stream.write_all(&hello)?;
        self.finish(stream, &hello, random)
    }

    /// The same with the hello in two segments, as on a network with an MTU of 1500.
    pub fn handshake_in_segments(
        &self,
        stream: &mut TcpStream,
        random: &mut fastrand::Rng,
    ) -> Outcome<usize> {
        let hello = self.hello(random)?;
        let (first, second) = hello.split_at(SEGMENT);
        stream.write_all(first)?;
        sleep(Duration::from_millis(5));
        stream.write_all(second)?;
        self.finish(stream, &hello, random)
    }

    fn finish(
        &self,
        stream: &mut TcpStream,
        hello: &[u8],
        random: &mut fastrand::Rng,
    ) -> Outcome<usize> {
        self.read_answer(stream, hello)?;
        let opening = self.opening(random);
        stream.write_all(&opening)?;
        Ok(hello.len() + opening.len())
    }

    /// A ClientHello of current size and form: TLS 1.3, X25519MLKEM768 and x25519 shares. Each is
    /// new, so the replay store accepts it.
    pub fn hello(&self, random: &mut fastrand::Rng) -> Outcome<Vec<u8>> {
        let mut shares = [0x11, 0xec, 0x04, 0xc0].to_vec();
        shares.extend(noise(random, 1216));
        shares.extend([0x00, 0x1d, 0x00, 0x20]);
        shares.extend(noise(random, 32));
        let mut name = vec![0];
        name.extend(sized(HOST));

        let mut extensions = Vec::new();
        for (kind, body) in [
            (0x0000, sized(&name)),
            (0x000a, sized(&[0x11, 0xec, 0x00, 0x1d])),
            (0x000d, sized(&[0x04, 0x03, 0x08, 0x04, 0x04, 0x01])),
            (0x002b, vec![2, 0x03, 0x04]),
            (0x0033, sized(&shares)),
            // A GREASE encrypted_client_hello extension, for its size.
            (0xfe0d, noise(random, 282)),
        ] {
            extensions.extend(u16::to_be_bytes(kind));
            extensions.extend(sized(&body));
        }

        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.push(32);
        body.extend(noise(random, 32));
        body.extend(sized(&[0x13, 0x01, 0x13, 0x02, 0x13, 0x03]));
        body.extend([1, 0]);
        body.extend(sized(&extensions));

        let mut handshake = vec![1, 0];
        handshake.extend(sized(&body));
        let mut hello = vec![0x16, 3, 1];
        hello.extend(sized(&handshake));

        let mut digest = self.digest(&[&hello])?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        for (byte, stamp) in digest[28..].iter_mut().zip(u32::try_from(now)?.to_le_bytes()) {
            *byte ^= stamp;
        }
        hello[DIGEST_AT..DIGEST_AT + 32].copy_from_slice(&digest);
        Ok(hello)
    }

    /// Reads ServerHello, ChangeCipherSpec and one data record, and checks the server's digest.
    fn read_answer(&self, stream: &mut TcpStream, hello: &[u8]) -> Outcome<()> {
        let mut answer = Vec::new();
        for kind in [0x16, 0x14, 0x17] {
            let start = answer.len();
            let body = read_record(stream, &mut answer)?;
            if answer[start] != kind || body == 0 {
                return Err(format!("record {:#04x} in the answer", answer[start]).into());
            }
        }
        let digest = answer[DIGEST_AT..DIGEST_AT + 32].to_vec();
        answer[DIGEST_AT..DIGEST_AT + 32].fill(0);
        match self.digest(&[&hello[DIGEST_AT..DIGEST_AT + 32], &answer])? == *digest {
            true => Ok(()),
            false => Err("the answer's digest is wrong".into()),
        }
    }

    /// ChangeCipherSpec and the record with the obfuscated2 frame, in one write as apps send it.
    fn opening(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut frame: [u8; 64] = std::array::from_fn(|_| random.u8(..));
        frame[56..62].copy_from_slice(&[0xdd, 0xdd, 0xdd, 0xdd, 2, 0]);
        let key = Sha256::new().chain_update(&frame[8..40]).chain_update(self.key).finalize();
        let iv: [u8; 16] = std::array::from_fn(|i| frame[40 + i]);
        let mut sealed = frame;
        Ctr128BE::<Aes256Enc>::new(&key, &iv.into()).apply_keystream(&mut sealed);
        frame[56..].copy_from_slice(&sealed[56..]);
        [&CHANGE_CIPHER_SPEC, record(&frame).as_slice()].concat()
    }

    fn digest(&self, parts: &[&[u8]]) -> Outcome<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key)?;
        for part in parts {
            mac.update(part);
        }
        Ok(mac.finalize().into_bytes().into())
    }
}

/// `payload` (at most 65535 bytes) in one data record.
pub fn record(payload: &[u8]) -> Vec<u8> {
    [&[0x17, 3, 3], sized(payload).as_slice()].concat()
}

/// Reads one record, appends it to `into` with its header, and returns the length of its body.
pub fn read_record(stream: &mut TcpStream, into: &mut Vec<u8>) -> Outcome<usize> {
    let start = into.len();
    into.resize(start + 5, 0);
    stream.read_exact(&mut into[start..])?;
    let body = usize::from(u16::from_be_bytes([into[start + 3], into[start + 4]]));
    into.resize(start + 5 + body, 0);
    stream.read_exact(&mut into[start + 5..])?;
    Ok(body)
}

/// Reads data records until exactly `count` bytes of payload have arrived.
pub fn read_payload(stream: &mut TcpStream, count: usize) -> Outcome<()> {
    let (mut bytes, mut payload) = (Vec::new(), 0);
    while payload < count {
        bytes.clear();
        payload += read_record(stream, &mut bytes)?;
    }
    match payload == count && bytes.starts_with(&[0x17, 3, 3]) {
        true => Ok(()),
        false => Err(format!("{payload} bytes of payload instead of {count}").into()),
    }
}

/// `bytes` after their length in two bytes; they are shorter than 65536.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - 2..], bytes].concat()
}

fn noise(random: &mut fastrand::Rng, count: usize) -> Vec<u8> {
    (0..count).map(|_| random.u8(..)).collect()
}
