//! AES-256 in counter mode (NIST SP 800-38A 6.5) with a 128-bit big-endian counter.
//!
//! The cipher crates are generic, so they are compiled with the options of the crate that uses
//! them: in a program built for size they would be half as fast. This crate is not generic, and the
//! program's profiles compile it with `opt-level = 3`.

use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

/// A keystream, determined by key and initial counter block, and the current position in it.
pub struct Keystream(Ctr128BE<Aes256Enc>);

impl Keystream {
    /// Starts at the first byte of the keystream.
    #[inline(never)]
    pub fn new(key: &[u8; 32], counter: &[u8; 16]) -> Self {
        Self(Ctr128BE::new(key.into(), counter.into()))
    }

    /// XORs the next bytes of the keystream into `bytes`: encrypts or decrypts.
    ///
    /// Uses [`Keystream::write`], since the cipher's own XOR would be compiled again for each CPU
    /// feature level. For long inputs on a hot path use [`xor_pair`].
    #[inline(never)]
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let mut stream = [0; CHUNK];
        for chunk in bytes.chunks_mut(CHUNK) {
            let (stream, _) = stream.split_at_mut(chunk.len());
            self.write(stream);
            xor(chunk, stream);
        }
    }

    /// Overwrites `out` with the next bytes of the keystream.
    #[inline(never)]
    pub fn write(&mut self, out: &mut [u8]) {
        self.0.write_keystream(out);
    }
}

/// XORs `stream` into `bytes`, which have the same length.
fn xor(bytes: &mut [u8], stream: &[u8]) {
    let (words, rest) = bytes.as_chunks_mut();
    let (stream_words, stream_rest) = stream.as_chunks();
    for (word, stream) in words.iter_mut().zip(stream_words) {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*stream)).to_ne_bytes();
    }
    for (byte, stream) in rest.iter_mut().zip(stream_rest) {
        *byte ^= *stream;
    }
}

/// XORs two keystreams into `bytes`: decrypts with one and encrypts with the other. All three
/// slices have the same length.
///
/// Works on 64-bit words, since a program built for size is not vectorised.
#[inline(never)]
pub fn xor_pair(bytes: &mut [u8], decrypt: &[u8], encrypt: &[u8]) {
    let (lines, rest) = bytes.as_chunks_mut();
    let (decrypt_lines, decrypt_rest) = decrypt.as_chunks();
    let (encrypt_lines, encrypt_rest) = encrypt.as_chunks();
    for ((line, decrypt), encrypt) in lines.iter_mut().zip(decrypt_lines).zip(encrypt_lines) {
        xor_pair_line(line, decrypt, encrypt);
    }
    for ((byte, decrypt), encrypt) in rest.iter_mut().zip(decrypt_rest).zip(encrypt_rest) {
        *byte ^= *decrypt ^ *encrypt;
    }
}

/// Eight words; the compiler unrolls the loop.
#[inline(always)]
fn xor_pair_line(bytes: &mut [u8; 64], decrypt: &[u8; 64], encrypt: &[u8; 64]) {
    let words = decrypt.as_chunks().0.iter().zip(encrypt.as_chunks().0);
    for (word, (decrypt, encrypt)) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        let keys = u64::from_ne_bytes(*decrypt) ^ u64::from_ne_bytes(*encrypt);
        *word = (u64::from_ne_bytes(*word) ^ keys).to_ne_bytes();
    }
}

/// Bytes of keystream generated at a time, on the stack: 64 cipher blocks.
const CHUNK: usize = 1024;

impl core::fmt::Debug for Keystream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keystream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38A F.5.5, CTR-AES256: the first two blocks.
    #[test]
    fn the_blocks_are_those_of_the_standard() {
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
    fn writing_and_applying_use_the_same_stream() {
        for length in [0, 1, 7, 8, 9, 63, 64, 65, 1_023, 1_024, 1_025, 5_000] {
            let cipher = || Keystream::new(&[3; 32], &[4; 16]);
            let mut written = vec![7; length];
            cipher().write(&mut written);
            let mut applied = vec![0; length];
            cipher().apply(&mut applied);
            assert_eq!(written, applied);
            let mut pieces = vec![0; length];
            let mut stream = cipher();
            pieces.chunks_mut(13).for_each(|chunk| stream.apply(chunk));
            assert_eq!(written, pieces);
            xor_pair(&mut applied, &written, &vec![1; length]);
            assert_eq!(applied, vec![1; length]);
        }
    }
}
