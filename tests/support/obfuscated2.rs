//! The 64-byte frame and the two ciphers that it starts (PROTOCOL 6), for both roles.

use super::crypto::{Stream, sha256};
use super::random;

/// Padded intermediate transport, used by every official app.
pub const DD: [u8; 4] = [0xdd; 4];
/// Intermediate transport.
pub const EE: [u8; 4] = [0xee; 4];
/// Abridged transport.
pub const EF: [u8; 4] = [0xef; 4];

/// A frame to be sent, and the sender's ciphers.
pub struct Outgoing {
    /// The 64 bytes on the wire.
    pub wire: [u8; 64],
    /// Encrypts what the sender sends.
    pub to_receiver: Stream,
    /// Decrypts what the sender receives.
    pub to_sender: Stream,
}

/// A received frame, and the receiver's ciphers.
pub struct Incoming {
    /// The 64 bytes on the wire.
    pub wire: [u8; 64],
    /// The transport tag.
    pub tag: [u8; 4],
    /// The DC id.
    pub dc: i16,
    /// Decrypts what the receiver receives.
    pub to_receiver: Stream,
    /// Encrypts what the receiver sends.
    pub to_sender: Stream,
}

/// Makes a frame; `secret` is the key of the proxy's secret, `None` towards a DC.
pub fn write(tag: [u8; 4], dc: i16, secret: Option<&[u8; 16]>) -> Outgoing {
    let mut plain: [u8; 64] = random();
    plain[56..60].copy_from_slice(&tag);
    plain[60..62].copy_from_slice(&dc.to_le_bytes());
    let (mut to_receiver, to_sender) = streams(&plain, secret);
    let sealed = to_receiver.transform(&plain);
    let mut wire = plain;
    wire[56..].copy_from_slice(&sealed[56..]);
    Outgoing { wire, to_receiver, to_sender }
}

/// Decrypts a frame. It cannot fail: any 64 bytes decrypt to something.
pub fn read(wire: &[u8; 64], secret: Option<&[u8; 16]>) -> Incoming {
    let (mut to_receiver, to_sender) = streams(wire, secret);
    let plain = to_receiver.transform(wire);
    Incoming {
        wire: *wire,
        tag: plain[56..60].try_into().expect("four bytes"),
        dc: i16::from_le_bytes([plain[60], plain[61]]),
        to_receiver,
        to_sender,
    }
}

/// The ciphers from sender to receiver and from receiver to sender.
fn streams(frame: &[u8; 64], secret: Option<&[u8; 16]>) -> (Stream, Stream) {
    let to_receiver = &frame[8..56];
    let to_sender: Vec<u8> = to_receiver.iter().rev().copied().collect();
    (stream(to_receiver, secret), stream(&to_sender, secret))
}

fn stream(material: &[u8], secret: Option<&[u8; 16]>) -> Stream {
    let (key, iv) = material.split_at(32);
    match secret {
        Some(secret) => Stream::new(&sha256(&[key, secret]), iv),
        None => Stream::new(key, iv),
    }
}
