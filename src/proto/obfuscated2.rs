//! obfuscated2 (PROTOCOL 6 and 14): the 64-byte frame that opens a connection, read from a
//! client and forged for a DC, and the AES-256-CTR streams that it sets up. Randomness comes
//! from the caller.

use keystream::Keystream;
use sha2::{Digest, Sha256};

/// Length of the opening frame in bytes.
pub const FRAME_LEN: usize = 64;

/// How messages are framed inside the stream; the frame repeats one byte four times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// DD: a length word, then padding of random length.
    PaddedIntermediate,
    /// EE: a length word.
    Intermediate,
    /// EF: one or four bytes of length.
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

/// What a client's opening frame says, and the streams that follow it.
pub struct ClientFrame {
    /// The DC field as sent: signed, undecoded (see `dc.rs`).
    pub dc: i16,
    /// The framing that the DC must be told too, since messages pass untouched.
    pub tag: Tag,
    /// Client to proxy, positioned behind the frame.
    pub up: Keystream,
    /// Key of the direction proxy to client.
    pub down_key: [u8; 32],
    /// Counter start of the direction proxy to client.
    pub down_iv: [u8; 16],
}

impl ClientFrame {
    /// Proxy to client, at its first byte. Not needed when the DC encrypts with the same key.
    pub fn down(&self) -> Keystream {
        stream(&self.down_key, &self.down_iv)
    }
}

/// Opens the first 64 payload bytes of a client with the key of its secret. Any first eight bytes
/// will do: inside FakeTLS clients do not avoid the ones that [`is_allowed_prefix`] refuses.
pub fn decrypt_client_frame(
    frame: &[u8; FRAME_LEN],
    secret_key: &[u8; 16],
) -> Result<ClientFrame, FrameFault> {
    let middle = FrameFields::of(frame).middle;
    let (up_key, up_iv) = split_middle(&middle);
    let mut up = stream(&hashed(&up_key, secret_key), &up_iv);
    let mut plain = *frame;
    up.apply(&mut plain);
    let FrameFields { tag, dc, .. } = FrameFields::of(&plain);
    match Tag::read(tag) {
        Some(Tag::PaddedIntermediate) => {}
        Some(other) => return Err(FrameFault::OtherTransport(other)),
        None => return Err(FrameFault::NotOurs),
    }
    let (down_key, down_iv) = split_middle(&reversed(middle));
    let down_key = hashed(&down_key, secret_key);
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
    /// Made with this secret, but for a framing that clients must not use inside FakeTLS.
    OtherTransport(Tag),
    /// Made with another secret, or no frame at all.
    NotOurs,
}

impl FrameFault {
    /// A short name for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherTransport(_) => "other-transport",
            Self::NotOurs => "not-ours",
        }
    }
}

/// Our opening frame towards a DC, and the streams that follow it.
pub struct DcFrame {
    /// The 64 bytes to send first.
    pub wire: [u8; FRAME_LEN],
    /// Proxy to DC, positioned behind the frame.
    pub up: Keystream,
    /// Key of the direction DC to proxy.
    pub down_key: [u8; 32],
    /// Counter start of the direction DC to proxy.
    pub down_iv: [u8; 16],
}

impl DcFrame {
    /// DC to proxy, at its first byte. Not needed when the client decrypts with the same key.
    pub fn down(&self) -> Keystream {
        stream(&self.down_key, &self.down_iv)
    }
}

/// Makes the frame for a DC. `dc` is the plain number that `dc.rs` decoded. With `matched`, the
/// key and counter start of a client's download, the DC encrypts exactly as that client decrypts,
/// so its bytes pass untouched (PROTOCOL 14.1). `random` fills bytes, in the order of the
/// frame; first bytes that a DC would mistake for another protocol are drawn again.
pub fn build_dc_frame(
    tag: Tag,
    dc: i16,
    matched: Option<(&[u8; 32], &[u8; 16])>,
    random: &mut dyn FnMut(&mut [u8]),
) -> DcFrame {
    let (mut first, mut middle, mut last) = ([0; 8], [0; 48], [0; 2]);
    // One draw in 253 is refused, so all of these fail only when the source does.
    for _ in 0..32 {
        random(&mut first);
        if is_allowed_prefix(&first) {
            break;
        }
    }
    match matched {
        Some((key, iv)) => middle = reversed(joined_middle(key, iv)),
        None => random(&mut middle),
    }
    random(&mut last);
    let plain =
        FrameFields { first, middle, tag: [tag.byte(); 4], dc: dc.to_le_bytes(), last }.joined();

    let (up_key, up_iv) = split_middle(&middle);
    let mut up = stream(&up_key, &up_iv);
    let mut sealed = plain;
    up.apply(&mut sealed);
    // The receiver decrypts the whole frame, but only its end travels encrypted.
    let FrameFields { tag, dc, last, .. } = FrameFields::of(&sealed);
    let wire = FrameFields { first, middle, tag, dc, last }.joined();
    let (down_key, down_iv) = split_middle(&reversed(middle));
    DcFrame { wire, up, down_key, down_iv }
}

/// May a frame without secret begin so? A DC takes the others for another transport, for HTTP
/// or for TLS (PROTOCOL 6).
pub fn is_allowed_prefix(first: &[u8; 8]) -> bool {
    let [a, b, c, d, rest @ ..] = *first;
    a != Tag::Abridged.byte() && rest != [0; 4] && !FOREIGN_STARTS.contains(&[a, b, c, d])
}

const FOREIGN_STARTS: [[u8; 4]; 7] =
    [*b"HEAD", *b"POST", *b"GET ", *b"OPTI", [0x16, 3, 1, 2], [0xdd; 4], [0xee; 4]];

/// The fields of a frame.
struct FrameFields {
    first: [u8; 8],
    /// Key and counter start of the sender's direction; those of the other one read backwards.
    middle: [u8; 48],
    tag: [u8; 4],
    dc: [u8; 2],
    last: [u8; 2],
}

impl FrameFields {
    fn of(frame: &[u8; FRAME_LEN]) -> Self {
        let mut bytes = frame.iter().copied();
        Self {
            first: filled(&mut bytes),
            middle: filled(&mut bytes),
            tag: filled(&mut bytes),
            dc: filled(&mut bytes),
            last: filled(&mut bytes),
        }
    }

    fn joined(&self) -> [u8; FRAME_LEN] {
        let Self { first, middle, tag, dc, last } = self;
        filled(&mut [&first[..], middle, tag, dc, last].into_iter().flatten().copied())
    }
}

/// An array of the next `N` bytes, with zeros where there are no more.
fn filled<const N: usize>(bytes: &mut impl Iterator<Item = u8>) -> [u8; N] {
    std::array::from_fn(|_| bytes.next().unwrap_or(0))
}

fn split_middle(middle: &[u8; 48]) -> ([u8; 32], [u8; 16]) {
    let mut bytes = middle.iter().copied();
    (filled(&mut bytes), filled(&mut bytes))
}

fn joined_middle(key: &[u8; 32], iv: &[u8; 16]) -> [u8; 48] {
    filled(&mut key.iter().chain(iv).copied())
}

fn reversed(mut middle: [u8; 48]) -> [u8; 48] {
    middle.reverse();
    middle
}

/// A secret changes only the key; the counter start stays as it is in the frame.
fn hashed(key: &[u8; 32], secret_key: &[u8; 16]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update(secret_key).finalize().into()
}

fn stream(key: &[u8; 32], iv: &[u8; 16]) -> Keystream {
    Keystream::new(key, iv)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = *b"0123456789abcdef";

    /// Makes a client's frame, the way a client does.
    fn client_frame(tag: Tag, dc: i16, key: &[u8; 16]) -> [u8; 64] {
        let mut parts = FrameFields {
            first: *b"anything",
            middle: std::array::from_fn(|index| index as u8),
            tag: [tag.byte(); 4],
            dc: dc.to_le_bytes(),
            last: [1, 2],
        };
        let (up_key, up_iv) = split_middle(&parts.middle);
        let mut sealed = parts.joined();
        stream(&hashed(&up_key, key), &up_iv).apply(&mut sealed);
        let sealed = FrameFields::of(&sealed);
        (parts.tag, parts.dc, parts.last) = (sealed.tag, sealed.dc, sealed.last);
        parts.joined()
    }

    /// A source that counts, from `next` upwards.
    fn counting(next: &mut u8) -> impl FnMut(&mut [u8]) {
        |bytes| {
            for byte in bytes {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
        }
    }

    #[test]
    fn only_the_padded_transport_is_taken_from_a_client() {
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
    fn matched_keys_let_the_bytes_of_the_dc_pass_to_the_client() {
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
    fn a_forbidden_start_is_drawn_again_and_nothing_else_is() {
        let mut draws = vec![vec![9; 2], vec![8; 48], vec![7; 8], vec![0xef; 8], vec![0xdd; 8]];
        let dc = build_dc_frame(Tag::PaddedIntermediate, 2, None, &mut |bytes| {
            bytes.copy_from_slice(&draws.pop().unwrap());
        });
        assert_eq!((&dc.wire[..8], &dc.wire[8..56]), (&[7; 8][..], &[8; 48][..]));
        assert!(draws.is_empty());
    }

    #[test]
    fn a_broken_source_does_not_hold_the_loop() {
        let dc = build_dc_frame(Tag::PaddedIntermediate, 2, None, &mut |bytes| bytes.fill(0));
        assert_eq!(dc.wire[..56], [0; 56]);
    }
}
