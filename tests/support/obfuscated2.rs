//! The 64-byte header and the two streams that it starts (spec: protocol 6), for either role.

use super::crypto::{Stream, sha256};
use super::random;

/// Padded intermediate framing, which every official client asks for.
pub const DD: [u8; 4] = [0xdd; 4];
/// Intermediate framing.
pub const EE: [u8; 4] = [0xee; 4];
/// Abridged framing.
pub const EF: [u8; 4] = [0xef; 4];

/// A header ready to be sent, and the sender's view of the streams behind it.
pub struct Outgoing {
    /// The 64 bytes as they travel.
    pub wire: [u8; 64],
    /// Encrypts what the sender says next.
    pub forth: Stream,
    /// Decrypts what the sender hears.
    pub back: Stream,
}

/// A header received, and the receiver's view of the streams behind it.
pub struct Incoming {
    /// The 64 bytes as they travelled.
    pub wire: [u8; 64],
    /// Which framing the sender uses.
    pub tag: [u8; 4],
    /// The data centre that it wants.
    pub dc: i16,
    /// Decrypts what the receiver hears.
    pub forth: Stream,
    /// Encrypts what the receiver says.
    pub back: Stream,
}

/// Makes a header; `secret` is the proxy's key, `None` towards a DC.
pub fn write(tag: [u8; 4], dc: i16, secret: Option<&[u8; 16]>) -> Outgoing {
    let mut plain: [u8; 64] = random();
    plain[56..60].copy_from_slice(&tag);
    plain[60..62].copy_from_slice(&dc.to_le_bytes());
    let (mut forth, back) = streams(&plain, secret);
    let sealed = forth.turn(&plain);
    let mut wire = plain;
    wire[56..].copy_from_slice(&sealed[56..]);
    Outgoing { wire, forth, back }
}

/// Opens a header; never fails, since any 64 bytes decrypt to something.
pub fn read(wire: &[u8; 64], secret: Option<&[u8; 16]>) -> Incoming {
    let (mut forth, back) = streams(wire, secret);
    let plain = forth.turn(wire);
    Incoming {
        wire: *wire,
        tag: plain[56..60].try_into().expect("four bytes"),
        dc: i16::from_le_bytes([plain[60], plain[61]]),
        forth,
        back,
    }
}

/// The streams sender to receiver and receiver to sender.
fn streams(frame: &[u8; 64], secret: Option<&[u8; 16]>) -> (Stream, Stream) {
    let forth = &frame[8..56];
    let back: Vec<u8> = forth.iter().rev().copied().collect();
    (stream(forth, secret), stream(&back, secret))
}

fn stream(material: &[u8], secret: Option<&[u8; 16]>) -> Stream {
    let (key, iv) = material.split_at(32);
    match secret {
        Some(secret) => Stream::new(&sha256(&[key, secret]), iv),
        None => Stream::new(key, iv),
    }
}
