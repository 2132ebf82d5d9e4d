//! obfuscated2 (PROTOCOL 6 and 14): the 64-byte frame that starts a connection, parsed from a
//! client and built for a DC, and the AES-256-CTR streams that it keys. The caller supplies random
//! bytes.

use keystream::Keystream;
use sha2::{Digest, Sha256};

/// Length of the initial frame in bytes.
pub const FRAME_LEN: usize = 64;

/// Transport of the messages inside the stream. Its byte occurs four times in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// 0xdd: a length word before each message, and random padding after it.
    PaddedIntermediate,
    /// 0xee: a length word before each message.
    Intermediate,
    /// 0xef: a length of one or four bytes before each message.
    Abridged,
}

impl Tag {
    fn byte(self) -> u8 {
        match self {
            Self::PaddedIntermediate => 0xdd,
            Self::Intermediate => 0xee,
            Self::Abridged => 0xef,
        }
    }

    fn read(field: [u8; 4]) -> Option<Self> {
        [Self::PaddedIntermediate, Self::Intermediate, Self::Abridged]
            .into_iter()
            .find(|tag| field == [tag.byte(); 4])
    }
}

/// The contents of a client's initial frame, and the streams after it.
pub struct ClientFrame {
    /// The DC field as sent, see [`crate::proto::dc::DcId::decode`].
    pub dc: i16,
    /// The transport. The DC must use the same one, since messages are relayed unchanged.
    pub tag: Tag,
    /// Stream from client to proxy, positioned after the frame.
    pub up: Keystream,
    /// Key of the stream from proxy to client.
    pub down_key: [u8; 32],
    /// Initial counter of the stream from proxy to client.
    pub down_iv: [u8; 16],
}

impl ClientFrame {
    /// Stream from proxy to client, at its first byte. Not needed if the DC encrypts with the same
    /// key.
    pub fn down(&self) -> Keystream {
        stream(&self.down_key, &self.down_iv)
    }
}

/// Decrypts the first 64 payload bytes of a client with the key of its secret. Accepts any first
/// eight bytes: inside FakeTLS, clients send also those that [`is_allowed_prefix`] refuses.
///
/// # Errors
/// See [`FrameFault`].
pub fn decrypt_client_frame(
    frame: &[u8; FRAME_LEN],
    secret_key: &[u8; 16],
) -> Result<ClientFrame, FrameFault> {
    let middle = FrameFields::parse(frame).middle;
    let (up_key, up_iv) = split_middle(&middle);
    let mut up = stream(&mix_secret(&up_key, secret_key), &up_iv);
    let mut plain = *frame;
    up.apply(&mut plain);
    let FrameFields { tag, dc, .. } = FrameFields::parse(&plain);
    match Tag::read(tag) {
        Some(Tag::PaddedIntermediate) => {}
        Some(other) => return Err(FrameFault::OtherTransport(other)),
        None => return Err(FrameFault::NotOurs),
    }
    let (down_key, down_iv) = split_middle(&reversed(middle));
    let down_key = mix_secret(&down_key, secret_key);
    Ok(ClientFrame {
        dc: i16::from_le_bytes(dc),
        tag: Tag::PaddedIntermediate,
        up,
        down_key,
        down_iv,
    })
}

/// Why a client's frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// Made with this secret, but with a transport that is not allowed inside FakeTLS.
    OtherTransport(Tag),
    /// Made with another secret, or not a frame.
    NotOurs,
}

impl FrameFault {
    /// Name in logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherTransport(_) => "other-transport",
            Self::NotOurs => "not-ours",
        }
    }
}

/// The initial frame to a DC, and the streams after it.
pub struct DcFrame {
    /// The 64 bytes to send first.
    pub wire: [u8; FRAME_LEN],
    /// Stream from proxy to DC, positioned after the frame.
    pub up: Keystream,
    /// Key of the stream from DC to proxy.
    pub down_key: [u8; 32],
    /// Initial counter of the stream from DC to proxy.
    pub down_iv: [u8; 16],
}

impl DcFrame {
    /// Stream from DC to proxy, at its first byte. Not needed if the client decrypts with the same
    /// key.
    pub fn down(&self) -> Keystream {
        stream(&self.down_key, &self.down_iv)
    }
}

/// Builds the initial frame for a DC. `dc` is the result of [`crate::proto::dc::DcId::encode`].
///
/// `matched` is the key and initial counter of a client's download. With it, the DC encrypts
/// exactly as the client decrypts, so that the bytes need no change (PROTOCOL 14.1). `random`
/// supplies bytes in the order of the frame. First bytes that a DC would take for another protocol
/// are drawn again.
pub fn build_dc_frame(
    tag: Tag,
    dc: i16,
    matched: Option<(&[u8; 32], &[u8; 16])>,
    random: &mut dyn FnMut(&mut [u8]),
) -> DcFrame {
    let (mut first, mut middle, mut last) = ([0; 8], [0; 48], [0; 2]);
    // One draw in 253 is refused, so 32 refusals in a row mean a broken random source.
    for _ in 0..32 {
        random(&mut first);
        if is_allowed_prefix(&first) {
            break;
        }
    }
    match matched {
        Some((key, iv)) => middle = reversed(join_middle(key, iv)),
        None => random(&mut middle),
    }
    random(&mut last);
    let plain =
        FrameFields { first, middle, tag: [tag.byte(); 4], dc: dc.to_le_bytes(), last }.to_bytes();

    let (up_key, up_iv) = split_middle(&middle);
    let mut up = stream(&up_key, &up_iv);
    let mut sealed = plain;
    up.apply(&mut sealed);
    // The receiver decrypts the whole frame, but only its last 8 bytes are sent encrypted.
    let FrameFields { tag, dc, last, .. } = FrameFields::parse(&sealed);
    let wire = FrameFields { first, middle, tag, dc, last }.to_bytes();
    let (down_key, down_iv) = split_middle(&reversed(middle));
    DcFrame { wire, up, down_key, down_iv }
}

/// Whether a frame to a DC may start with these bytes. A DC takes others for another transport,
/// HTTP or TLS (PROTOCOL 6).
pub fn is_allowed_prefix(first: &[u8; 8]) -> bool {
    let [a, b, c, d, rest @ ..] = *first;
    a != Tag::Abridged.byte() && rest != [0; 4] && !FORBIDDEN_PREFIXES.contains(&[a, b, c, d])
}

const FORBIDDEN_PREFIXES: [[u8; 4]; 7] =
    [*b"HEAD", *b"POST", *b"GET ", *b"OPTI", [0x16, 3, 1, 2], [0xdd; 4], [0xee; 4]];

/// The fields of a frame.
struct FrameFields {
    first: [u8; 8],
    /// Key and initial counter of the sender's stream; in reverse byte order those of the other
    /// stream.
    middle: [u8; 48],
    tag: [u8; 4],
    dc: [u8; 2],
    last: [u8; 2],
}

impl FrameFields {
    fn parse(frame: &[u8; FRAME_LEN]) -> Self {
        let mut bytes = frame.iter().copied();
        Self {
            first: next_array(&mut bytes),
            middle: next_array(&mut bytes),
            tag: next_array(&mut bytes),
            dc: next_array(&mut bytes),
            last: next_array(&mut bytes),
        }
    }

    fn to_bytes(&self) -> [u8; FRAME_LEN] {
        let Self { first, middle, tag, dc, last } = self;
        next_array(&mut [&first[..], middle, tag, dc, last].into_iter().flatten().copied())
    }
}

/// The next `N` bytes, padded with zeros.
fn next_array<const N: usize>(bytes: &mut impl Iterator<Item = u8>) -> [u8; N] {
    std::array::from_fn(|_| bytes.next().unwrap_or(0))
}

fn split_middle(middle: &[u8; 48]) -> ([u8; 32], [u8; 16]) {
    let mut bytes = middle.iter().copied();
    (next_array(&mut bytes), next_array(&mut bytes))
}

fn join_middle(key: &[u8; 32], iv: &[u8; 16]) -> [u8; 48] {
    next_array(&mut key.iter().chain(iv).copied())
}

fn reversed(mut middle: [u8; 48]) -> [u8; 48] {
    middle.reverse();
    middle
}

/// Mixes a secret into the key. The initial counter is used as it is in the frame.
fn mix_secret(key: &[u8; 32], secret_key: &[u8; 16]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update(secret_key).finalize().into()
}

fn stream(key: &[u8; 32], iv: &[u8; 16]) -> Keystream {
    Keystream::new(key, iv)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = *b"0123456789abcdef";

    /// Builds a frame as a client does.
    fn client_frame(tag: Tag, dc: i16, key: &[u8; 16]) -> [u8; 64] {
        let mut parts = FrameFields {
            first: *b"anything",
            middle: std::array::from_fn(|index| index as u8),
            tag: [tag.byte(); 4],
            dc: dc.to_le_bytes(),
            last: [1, 2],
        };
        let (up_key, up_iv) = split_middle(&parts.middle);
        let mut sealed = parts.to_bytes();
        stream(&mix_secret(&up_key, key), &up_iv).apply(&mut sealed);
        let sealed = FrameFields::parse(&sealed);
        (parts.tag, parts.dc, parts.last) = (sealed.tag, sealed.dc, sealed.last);
        parts.to_bytes()
    }

    /// A random source that counts upwards from `next`.
    fn counting(next: &mut u8) -> impl FnMut(&mut [u8]) {
        |bytes| {
            for byte in bytes {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
        }
    }

    #[test]
    fn only_the_padded_transport_is_accepted_from_a_client() {
        let frame = client_frame(Tag::PaddedIntermediate, -203, &KEY);
        let opened = decrypt_client_frame(&frame, &KEY).ok().unwrap();
        assert_eq!((opened.dc, opened.tag), (-203, Tag::PaddedIntermediate));
        for tag in [Tag::Intermediate, Tag::Abridged] {
            let refused = decrypt_client_frame(&client_frame(tag, 2, &KEY), &KEY).err();
            assert_eq!(refused, Some(FrameFault::OtherTransport(tag)));
        }
        let refused = decrypt_client_frame(&frame, b"another secret!!").err();
        assert_eq!(refused, Some(FrameFault::NotOurs));
    }

    #[test]
    fn with_matched_keys_the_client_decrypts_the_bytes_of_the_dc() {
        let frame = client_frame(Tag::PaddedIntermediate, 4, &KEY);
        let client = decrypt_client_frame(&frame, &KEY).ok().unwrap();
        let matched = Some((&client.down_key, &client.down_iv));
        let dc = build_dc_frame(client.tag, 4, matched, &mut counting(&mut 1));
        assert_eq!((dc.down_key, dc.down_iv), (client.down_key, client.down_iv));
        let mut bytes = *b"from the dc";
        dc.down().apply(&mut bytes);
        client.down().apply(&mut bytes);
        assert_eq!(&bytes, b"from the dc");
    }

    #[test]
    fn only_a_forbidden_prefix_is_drawn_again() {
        let mut draws = vec![vec![9; 2], vec![8; 48], vec![7; 8], vec![0xef; 8], vec![0xdd; 8]];
        let dc = build_dc_frame(Tag::PaddedIntermediate, 2, None, &mut |bytes| {
            bytes.copy_from_slice(&draws.pop().unwrap());
        });
        assert_eq!((&dc.wire[..8], &dc.wire[8..56]), (&[7; 8][..], &[8; 48][..]));
        assert!(draws.is_empty());
    }

    #[test]
    fn a_broken_random_source_does_not_block() {
        let dc = build_dc_frame(Tag::PaddedIntermediate, 2, None, &mut |bytes| bytes.fill(0));
        assert_eq!(dc.wire[..56], [0; 56]);
    }
}
