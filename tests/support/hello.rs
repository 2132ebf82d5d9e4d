//! ClientHellos of Telegram's apps (PROTOCOL 3), built field by field.

use std::time::{SystemTime, UNIX_EPOCH};

use super::crypto::hmac;
use super::{hex, random, unhex};

const GREASE: u16 = 0x1a1a;
const X25519: u16 = 0x001d;
const X25519_MLKEM768: u16 = 0x11ec;

/// An `ee` secret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// The key.
    pub key: [u8; 16],
    /// The host name, sent as SNI.
    pub host: String,
}

impl Secret {
    /// A new random key for `host`.
    pub fn new(host: &str) -> Self {
        Self { key: random(), host: host.to_owned() }
    }

    /// Parses the hex form.
    pub fn parse(text: &str) -> Self {
        let bytes = unhex(text);
        assert_eq!(bytes[0], 0xee, "an ee secret");
        let key = bytes[1..17].try_into().expect("sixteen bytes");
        Self { key, host: String::from_utf8(bytes[17..].to_vec()).expect("an ASCII host") }
    }

    /// The hex form.
    pub fn text(&self) -> String {
        format!("ee{}{}", hex(&self.key), hex(self.host.as_bytes()))
    }
}

/// Generation of the app that a hello looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Until autumn 2025: 517 bytes with one x25519 share.
    Classic,
    /// In 2026: about 1.8 kB with X25519MLKEM768 first.
    PostQuantum,
}

/// The variable fields of a hello.
#[derive(Debug, Clone)]
pub struct HelloOptions {
    /// Generation of the app.
    pub app: App,
    /// The SNI; `None` omits the extension.
    pub sni: Option<String>,
    /// The client's clock, Unix seconds.
    pub clock: u32,
    /// The cipher suites after GREASE.
    pub suites: Vec<u16>,
}

impl HelloOptions {
    /// A valid hello of `app` for the host of the secret, now.
    pub fn new(secret: &Secret, app: App) -> Self {
        let suites = vec![
            0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
            0x009c, 0x009d, 0x002f, 0x0035,
        ];
        Self { app, sni: Some(secret.host.clone()), clock: unix_now(), suites }
    }
}

/// A ClientHello.
#[derive(Debug, Clone)]
pub struct Hello {
    /// One TLS record.
    pub wire: Vec<u8>,
    /// The cipher suite that the answer must choose.
    pub cipher: u16,
    /// It offers a share for X25519MLKEM768.
    pub is_post_quantum: bool,
}

impl Hello {
    /// A valid hello.
    pub fn new(secret: &Secret, app: App) -> Self {
        Self::build(secret, &HelloOptions::new(secret, app))
    }

    /// A hello with a valid digest for `secret`.
    pub fn build(secret: &Secret, options: &HelloOptions) -> Self {
        let mut wire = record_of(options);
        let mut digest = hmac(&secret.key, &[&wire]);
        for (byte, clock) in digest[28..].iter_mut().zip(options.clock.to_le_bytes()) {
            *byte ^= clock;
        }
        wire[11..43].copy_from_slice(&digest);
        let cipher = options.suites.iter().copied().find(|suite| (0x1301..=0x1303).contains(suite));
        Self {
            wire,
            cipher: cipher.unwrap_or_default(),
            is_post_quantum: options.app == App::PostQuantum,
        }
    }

    /// The random field: the digest, combined with the clock.
    pub fn random(&self) -> &[u8] {
        &self.wire[11..43]
    }

    /// The session id.
    pub fn session_id(&self) -> &[u8] {
        &self.wire[44..76]
    }

    /// The same hello cut into `count` TLS records of about equal length.
    pub fn in_records(&self, count: usize) -> Vec<u8> {
        let message = &self.wire[5..];
        let mut wire = Vec::new();
        for index in 0..count {
            let part = &message[message.len() * index / count..message.len() * (index + 1) / count];
            wire.extend_from_slice(&[0x16, 3, 1]);
            wire.extend_from_slice(&(part.len() as u16).to_be_bytes());
            wire.extend_from_slice(part);
        }
        wire
    }
}

/// Seconds since 1970.
pub fn unix_now() -> u32 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u32::try_from(passed.as_secs()).expect("a year before 2106")
}

/// The record with a random field of zeros.
fn record_of(options: &HelloOptions) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0; 32]);
    body.push(32);
    body.extend_from_slice(&random::<32>());
    let suites: Vec<u8> =
        [GREASE].iter().chain(&options.suites).flat_map(|suite| suite.to_be_bytes()).collect();
    body.extend_from_slice(&with_length(&suites));
    body.extend_from_slice(&[1, 0]);
    let fixed = 5 + 4 + body.len() + 2;
    body.extend_from_slice(&with_length(&extensions(options, fixed)));

    let mut message = vec![1, 0];
    message.extend_from_slice(&with_length(&body));
    let mut record = vec![0x16, 3, 1];
    record.extend_from_slice(&with_length(&message));
    record
}

/// The extension block; `fixed` is the length of the rest of the record.
fn extensions(options: &HelloOptions, fixed: usize) -> Vec<u8> {
    let mut block = extension(GREASE, &[]);
    if let Some(name) = &options.sni {
        let mut entry = vec![0];
        entry.extend_from_slice(&with_length(name.as_bytes()));
        block.extend(extension(0x0000, &with_length(&entry)));
    }
    block.extend(extension(0x0017, &[]));
    block.extend(extension(0xff01, &[0]));
    block.extend(match options.app {
        App::Classic => extension(0x000a, &[0, 6, 0x1a, 0x1a, 0, 0x1d, 0, 0x17]),
        App::PostQuantum => extension(0x000a, &[0, 8, 0x1a, 0x1a, 0x11, 0xec, 0, 0x1d, 0, 0x17]),
    });
    block.extend(extension(0x000b, &[1, 0]));
    block.extend(extension(0x0023, &[]));
    block.extend(extension(0x0010, b"\0\x0c\x02h2\x08http/1.1"));
    block.extend(extension(0x0005, &[1, 0, 0, 0, 0]));
    block.extend(extension(0x000d, &[0, 8, 4, 3, 8, 4, 4, 1, 5, 3]));
    block.extend(extension(0x0012, &[]));
    block.extend(extension(0x0033, &with_length(&shares(options.app))));
    block.extend(extension(0x002d, &[1, 1]));
    block.extend(extension(0x002b, &[6, 0x1a, 0x1a, 3, 4, 3, 3]));
    block.extend(match options.app {
        App::Classic => extension(0x0015, &vec![0; 517 - fixed - block.len() - 4]),
        App::PostQuantum => extension(0xfe0d, &random::<208>()),
    });
    block
}

/// The key shares. As in the apps, there are no private keys.
fn shares(app: App) -> Vec<u8> {
    let mut list = share(GREASE, &[0]);
    if app == App::PostQuantum {
        list.extend(share(X25519_MLKEM768, &random::<1216>()));
    }
    list.extend(share(X25519, &random::<32>()));
    list
}

fn share(group: u16, key: &[u8]) -> Vec<u8> {
    extension(group, key)
}

/// A type, a length and a body. A key share has the same layout.
fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend_from_slice(&with_length(body));
    out
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short body");
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}
