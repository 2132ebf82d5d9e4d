//! The answer to a ClientHello: ServerHello, ChangeCipherSpec and one record of random bytes,
//! authenticated by a digest over all three (PROTOCOL 4). Clients check only framing and
//! digest; everything else imitates a TLS server for observers. The caller sends it with one write.

use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use crate::proto::client_hello::{
    HelloKey, KEY_SHARE, RANDOM_AT, SESSION_ID_MAX, X25519, X25519MLKEM768,
};
use crate::proto::tls;

/// The variable parts of an answer.
#[derive(Debug, Clone, Copy)]
pub struct ServerHelloSpec<'a> {
    /// The client's session id, which is echoed; bytes after the 32nd are ignored.
    pub session_id: &'a [u8],
    /// The chosen cipher suite.
    pub cipher: u16,
    /// The server's key share.
    pub share: KeyShare<'a>,
    /// Random bytes in place of the encrypted flight: 1 to [`NOISE_MAX`]; more are cut off.
    pub noise: &'a [u8],
    /// Order of the two extensions.
    pub order: ExtensionOrder,
}

/// The server's key share.
#[derive(Debug, Clone, Copy)]
pub enum KeyShare<'a> {
    /// x25519: a public key, see [`x25519_point`].
    X25519(&'a [u8; 32]),
    /// X25519MLKEM768: a ciphertext, see [`plausible_mlkem_ciphertext`], then an x25519 public key.
    MlKem(&'a [u8; 1120]),
}

/// Order of the extensions of a ServerHello. OpenSSL and Go put the version first, BoringSSL and
/// rustls the key share (PROTOCOL 15.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExtensionOrder {
    /// supported_versions, key_share.
    #[default]
    VersionsFirst,
    /// key_share, supported_versions.
    ShareFirst,
}

/// Appends the answer to `out`, less than 12 KiB. `client_random` is the random of the hello as
/// received, and `key` is the key that verified it.
pub fn seal(
    out: &mut Vec<u8>,
    key: &HelloKey,
    client_random: &[u8; 32],
    answer: &ServerHelloSpec<'_>,
) {
    let noise = answer.noise.get(..NOISE_MAX).unwrap_or(answer.noise);
    let start = out.len();
    out.reserve(SERVER_HELLO_MAX + CHANGE_CIPHER_SPEC.len() + tls::HEADER_LEN + noise.len());
    put_server_hello(out, answer);
    out.extend(CHANGE_CIPHER_SPEC);
    out.extend(tls::header(tls::APPLICATION_DATA, noise.len() as u16));
    out.extend(noise);

    let sealed = out.get(start..).unwrap_or_default();
    let digest = key.mac([client_random, sealed]);
    let random = out.iter_mut().skip(start + RANDOM_AT);
    random.zip(digest).for_each(|(slot, byte)| *slot = byte);
}

/// Appends the first record, with a random of zeros. All lengths fit in 16 bits.
fn put_server_hello(out: &mut Vec<u8>, answer: &ServerHelloSpec<'_>) {
    let session_id = answer.session_id.get(..SESSION_ID_MAX).unwrap_or(answer.session_id);
    let (group, share) = match answer.share {
        KeyShare::X25519(share) => (X25519, share.as_slice()),
        KeyShare::MlKem(share) => (X25519MLKEM768, share.as_slice()),
    };
    let extensions_len = SUPPORTED_VERSIONS.len() + 8 + share.len();
    let body_len = 2 + 32 + 1 + session_id.len() + 2 + 1 + 2 + extensions_len;

    out.extend(tls::header(tls::HANDSHAKE, 4 + body_len as u16));
    out.extend([SERVER_HELLO, 0]);
    out.extend((body_len as u16).to_be_bytes());
    out.extend(tls::VERSION);
    out.extend([0; 32]);
    out.push(session_id.len() as u8);
    out.extend(session_id);
    out.extend(answer.cipher.to_be_bytes());
    out.push(0); // No compression.
    out.extend((extensions_len as u16).to_be_bytes());
    if answer.order == ExtensionOrder::VersionsFirst {
        out.extend(SUPPORTED_VERSIONS);
    }
    for word in [KEY_SHARE, 4 + share.len() as u16, group, share.len() as u16] {
        out.extend(word.to_be_bytes());
    }
    out.extend(share);
    if answer.order == ExtensionOrder::ShareFirst {
        out.extend(SUPPORTED_VERSIONS);
    }
}

/// The x25519 public key of a random `scalar`. It is a valid point; half of all random strings are
/// not, which an observer could test (PROTOCOL 4.2).
pub fn x25519_point(scalar: [u8; 32]) -> [u8; 32] {
    x25519(scalar, X25519_BASEPOINT_BYTES)
}

/// Bytes with the distribution of an ML-KEM-768 ciphertext (FIPS 203 4.2.1): compressed uniform
/// residues. Uniform random bytes are distinguishable, since compression yields some symbols more
/// often than others. Draws 3072 random bytes from `fill`.
pub fn plausible_mlkem_ciphertext(fill: &mut dyn FnMut(&mut [u8])) -> [u8; 1088] {
    let mut out = [0; 1088];
    // The vector u has 768 symbols of 10 bits, the polynomial v has 256 symbols of 4 bits. Both are
    // packed with the least significant bit first.
    let (u, v) = out.split_at_mut(960);
    for place in u.as_chunks_mut::<5>().0 {
        let mut noise = [0; 12];
        fill(&mut noise);
        let symbols = noise.as_chunks().0.iter().map(|draw| compressed(residue(*draw), 10));
        let packed = symbols.rev().fold(0, |word, symbol| word << 10 | u64::from(symbol));
        place.iter_mut().zip(packed.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
    }
    for place in v {
        let mut noise = [0; 6];
        fill(&mut noise);
        let symbols = noise.as_chunks().0.iter().map(|draw| compressed(residue(*draw), 4));
        *place = symbols.rev().fold(0, |byte, symbol| byte << 4 | symbol as u8);
    }
    out
}

/// Scales 24 random bits to 0..3329. No draw is rejected, so the time is constant. The bias is
/// below 1 in 5000; detecting it would take millions of answers.
pub(super) fn residue(draw: [u8; 3]) -> u32 {
    let [low, middle, high] = draw;
    let draw = u32::from_le_bytes([low, middle, high, 0]);
    ((u64::from(draw) * u64::from(MLKEM_Q)) >> 24) as u32
}

/// Compress of FIPS 203 4.2.1: `round(x * 2^bits / q) mod 2^bits`.
fn compressed(residue: u32, bits: u32) -> u32 {
    let rounded = ((residue << (bits + 1)) + MLKEM_Q) / (2 * MLKEM_Q);
    rounded & ((1 << bits) - 1)
}

/// Longest noise in bytes; the iOS client refuses longer records (PROTOCOL 4.1).
pub const NOISE_MAX: usize = 10_240;

/// Length in bytes of the first record with the longer key share and a full session id.
const SERVER_HELLO_MAX: usize = 1215;
/// Handshake type of a ServerHello.
pub(super) const SERVER_HELLO: u8 = 0x02;
/// A complete ChangeCipherSpec record.
const CHANGE_CIPHER_SPEC: [u8; 6] = [0x14, 0x03, 0x03, 0x00, 0x01, 0x01];
/// A complete supported_versions extension: TLS 1.3.
const SUPPORTED_VERSIONS: [u8; 6] = [0x00, 0x2b, 0x00, 0x02, 0x03, 0x04];
/// The modulus of ML-KEM.
const MLKEM_Q: u32 = 3329;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_noise_is_cut_and_earlier_bytes_are_kept() {
        let mut out = b"before".to_vec();
        let answer = ServerHelloSpec {
            session_id: &[1; 32],
            cipher: 0x1301,
            share: KeyShare::MlKem(&[2; 1120]),
            noise: &[3; 20_000],
            order: ExtensionOrder::ShareFirst,
        };
        let key = HelloKey::new(&[4; 16]);
        seal(&mut out, &key, &[5; 32], &answer);
        let answer = out.strip_prefix(b"before").unwrap();
        assert_eq!(answer.len(), SERVER_HELLO_MAX + 6 + 5 + NOISE_MAX);
        let digest = key.mac([&[5; 32], &answer[..11], &[0; 32], &answer[43..]]);
        assert_eq!(answer[11..43], digest);
    }

    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        // Alice's key pair in section 6.1.
        let secret = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        assert_eq!(x25519_point(secret)[..4], [0x85, 0x20, 0xf0, 0x09]);
    }

    #[test]
    fn residues_cover_the_range_and_compress_by_rounding() {
        assert_eq!((residue([0; 3]), residue([0xff; 3])), (0, 3328));
        assert_eq!((compressed(0, 10), compressed(3328, 10), compressed(1664, 10)), (0, 0, 512));
        assert_eq!((compressed(3224, 4), compressed(3225, 4), compressed(104, 4)), (15, 0, 0));
    }

    #[test]
    fn symbols_are_packed_from_the_lowest_bit() {
        let mut draws = [0xff_u8, 0, 0, 0, 0, 0xff].iter().cycle();
        let mut fill =
            |bytes: &mut [u8]| bytes.iter_mut().for_each(|b| *b = *draws.next().unwrap());
        let out = plausible_mlkem_ciphertext(&mut fill);
        // Draws 0000ff and ff0000 give the residues 0 and 3316, thus the symbols 0 and 1020.
        assert_eq!(out[..5], [0x00, 0xf0, 0x0f, 0x00, 0xff]);
        assert_eq!(out[960], 0x00);
    }

    /// The likelihood test of an observer (PROTOCOL 4.2): positive means ML-KEM.
    fn score(ciphertext: &[u8; 1088]) -> f64 {
        let mut preimages = [0_u32; 1024];
        (0..MLKEM_Q).for_each(|x| preimages[compressed(x, 10) as usize] += 1);
        let likelihood = |symbol: u16| {
            (f64::from(preimages[usize::from(symbol)]) / f64::from(MLKEM_Q) * 1024.0).ln()
        };
        let symbols = ciphertext[..960].as_chunks::<5>().0.iter().flat_map(|five| {
            let word = five.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
            (0..4).map(move |index| (word >> (10 * index) & 0x3ff) as u16)
        });
        symbols.map(likelihood).sum()
    }

    #[test]
    fn a_likelihood_test_accepts_the_ciphertext_as_genuine() {
        let mut rng = fastrand::Rng::with_seed(20_261_123);
        let (mut ours, mut random) = (0.0, 0.0);
        for _ in 0..300 {
            ours += score(&plausible_mlkem_ciphertext(&mut |bytes| rng.fill(bytes))) / 300.0;
            let mut bytes = [0; 1088];
            rng.fill(&mut bytes);
            random += score(&bytes) / 300.0;
        }
        // Genuine ciphertexts have a mean of 6.6 and a standard deviation of 3.7, or 0.2 for 300 of
        // them.
        assert!((5.8..7.4).contains(&ours), "{ours}");
        assert!((-7.0..-5.4).contains(&random), "{random}");
    }
}
