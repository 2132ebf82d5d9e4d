//! The three cryptographic primitives of the protocol.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// AES-256-CTR with a 128-bit big-endian counter. Each call continues the key stream.
pub struct Stream(Ctr128BE<Aes256>);

impl Stream {
    /// `key` has 32 bytes, `iv` 16.
    pub fn new(key: &[u8], iv: &[u8]) -> Self {
        Self(Ctr128BE::new_from_slices(key, iv).expect("a key of 32 and an IV of 16 bytes"))
    }

    /// Encrypts or decrypts in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply_keystream(bytes);
    }

    /// Encrypts or decrypts a copy.
    pub fn transform(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = bytes.to_vec();
        self.apply(&mut copy);
        copy
    }
}

/// SHA-256 of the concatenated parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// HMAC-SHA256 of the concatenated parts.
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
