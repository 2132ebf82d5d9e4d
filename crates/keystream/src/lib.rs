//! AES-256 in counter mode (NIST SP 800-38A, 6.5; the whole block counts, big-endian).
//!
//! The ciphers are generic code, which is compiled where it is used: in a program that is built for
//! size they would be twice as slow. Nothing here is generic, and the profiles of the program keep
//! this crate at `opt-level = 3`.

use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

/// A stream of bytes that a key and a first counter determine, and the place reached in it.
pub struct Keystream(Ctr128BE<Aes256Enc>);

impl Keystream {
    /// The stream from its first byte.
    #[inline(never)]
    pub fn new(key: &[u8; 32], counter: &[u8; 16]) -> Self {
        Self(Ctr128BE::new(key.into(), counter.into()))
    }

    /// Adds the next bytes of the stream to `bytes`: seals what is plain, opens what is sealed.
    ///
    /// By way of [`Keystream::write`], since adding within the cipher would be compiled once more
    /// for each kind of processor. What is long and hot wants [`xor_pair`].
    #[inline(never)]
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let mut stream = [0; PIECE];
        for piece in bytes.chunks_mut(PIECE) {
            let (stream, _) = stream.split_at_mut(piece.len());
            self.write(stream);
            add(piece, stream);
        }
    }

    /// Puts the next bytes of the stream into `out`, whatever was there.
    #[inline(never)]
    pub fn write(&mut self, out: &mut [u8]) {
        self.0.write_keystream(out);
    }
}

/// Adds a piece of keystream to as many bytes.
fn add(bytes: &mut [u8], stream: &[u8]) {
    let (words, rest) = bytes.as_chunks_mut();
    let (stream_words, stream_rest) = stream.as_chunks();
    for (word, stream) in words.iter_mut().zip(stream_words) {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*stream)).to_ne_bytes();
    }
    for (byte, stream) in rest.iter_mut().zip(stream_rest) {
        *byte ^= *stream;
    }
}

/// Adds two pieces of keystream to as many bytes: one cipher off, another on.
///
/// By words of our own, since a program that is built for size is linked without vectors.
#[inline(never)]
pub fn xor_pair(bytes: &mut [u8], off: &[u8], on: &[u8]) {
    let (lines, rest) = bytes.as_chunks_mut();
    let ((off_lines, off_rest), (on_lines, on_rest)) = (off.as_chunks(), on.as_chunks());
    for ((line, off), on) in lines.iter_mut().zip(off_lines).zip(on_lines) {
        xor_pair_line(line, off, on);
    }
    for ((byte, off), on) in rest.iter_mut().zip(off_rest).zip(on_rest) {
        *byte ^= *off ^ *on;
    }
}

/// Eight words, written out by the compiler.
#[inline(always)]
fn xor_pair_line(bytes: &mut [u8; 64], off: &[u8; 64], on: &[u8; 64]) {
    let words = off.as_chunks().0.iter().zip(on.as_chunks().0);
    for (word, (off, on)) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        let sum = u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*off) ^ u64::from_ne_bytes(*on);
        *word = sum.to_ne_bytes();
    }
}

/// Bytes of keystream made at a time, on the stack: 64 blocks.
const PIECE: usize = 1024;

impl core::fmt::Debug for Keystream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keystream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38A, F.5.5: CTR-AES256, the first two blocks.
    #[test]
    fn the_standard_has_the_same_blocks() {
        let key: [u8; 32] = *b"\x60\x3d\xeb\x10\x15\xca\x71\xbe\x2b\x73\xae\xf0\x85\x7d\x77\x81\
            \x1f\x35\x2c\x07\x3b\x61\x08\xd7\x2d\x98\x10\xa3\x09\x14\xdf\xf4";
        let counter: [u8; 16] = core::array::from_fn(|at| 0xf0 + at as u8);
        let mut blocks = *b"\x6b\xc1\xbe\xe2\x2e\x40\x9f\x96\xe9\x3d\x7e\x11\x73\x93\x17\x2a\
            \xae\x2d\x8a\x57\x1e\x03\xac\x9c\x9e\xb7\x6f\xac\x45\xaf\x8e\x51";
        let mut stream = Keystream::new(&key, &counter);
        let (head, tail) = blocks.split_at_mut(5);
        stream.apply(head);
        stream.apply(tail);
        assert_eq!(
            blocks,
            *b"\x60\x1e\xc3\x13\x77\x57\x89\xa5\xb7\xa7\xf5\x04\xbb\xf3\xd2\x28\
               \xf4\x43\xe3\xca\x4d\x62\xb5\x9a\xca\x84\xe9\x90\xca\xca\xf5\xc5"
        );
    }

    #[test]
    fn what_is_written_and_what_is_added_are_the_same_stream() {
        for length in [0, 1, 7, 8, 9, 63, 64, 65, 1_023, 1_024, 1_025, 5_000] {
            let cipher = || Keystream::new(&[3; 32], &[4; 16]);
            let mut written = vec![7; length];
            cipher().write(&mut written);
            let mut applied = vec![0; length];
            cipher().apply(&mut applied);
            assert_eq!(written, applied);
            let mut pieces = vec![0; length];
            let mut stream = cipher();
            pieces.chunks_mut(13).for_each(|piece| stream.apply(piece));
            assert_eq!(written, pieces);
            xor_pair(&mut applied, &written, &vec![1; length]);
            assert_eq!(applied, vec![1; length]);
        }
    }
}
