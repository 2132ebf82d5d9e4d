//! Fast random bytes of one process: AES-256-CTR with fast key erasure, so that what was drawn
//! cannot be computed from what is kept. Seeded from outside, so simulations repeat.

use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

/// A stream of random bytes, fit for keys.
pub struct Drbg {
    seed: [u8; SEED],
    stock: [u8; STOCK],
    used: usize,
}

impl Drbg {
    /// A stream that depends on `seed` only.
    pub fn new(seed: [u8; SEED]) -> Self {
        Self { seed, stock: [0; STOCK], used: STOCK }
    }

    /// Fills `out`.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == STOCK {
                self.restock();
            }
            let len = out.len().min(STOCK - self.used);
            let (now, later) = out.split_at_mut(len);
            let drawn = &mut self.stock[self.used..self.used + len];
            now.copy_from_slice(drawn);
            drawn.fill(0);
            self.used += len;
            out = later;
        }
    }

    /// A number from 0 to `bound` - 1, each as likely as the other to one part in 2^32; 0 for a
    /// bound of 0.
    pub fn u32_below(&mut self, bound: u32) -> u32 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let wide = u128::from(u64::from_le_bytes(bytes)) * u128::from(bound);
        (wide >> 64) as u32
    }

    /// The first bytes of each stretch become the next key and counter; the rest is given out.
    fn restock(&mut self) {
        let (key, iv) = self.seed.split_at(KEY);
        let mut stream = Ctr128BE::<Aes256Enc>::new_from_slices(key, iv)
            .unwrap_or_else(|_| unreachable!("the seed is a key and a counter"));
        let mut next = [0; SEED];
        stream.apply_keystream(&mut next);
        self.stock.fill(0);
        stream.apply_keystream(&mut self.stock);
        self.seed = next;
        self.used = 0;
    }
}

const KEY: usize = 32;
/// Bytes of a seed: a key and a counter block.
pub const SEED: usize = 48;
const STOCK: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_depends_on_the_seed_only() {
        let (mut a, mut b) = (Drbg::new([1; SEED]), Drbg::new([1; SEED]));
        let (mut whole, mut parts) = (vec![0; 5_000], vec![0; 5_000]);
        a.fill(&mut whole);
        parts.chunks_mut(77).for_each(|part| b.fill(part));
        assert_eq!(whole, parts);
        let mut other = vec![0; 5_000];
        Drbg::new([2; SEED]).fill(&mut other);
        assert_ne!(whole, other);
        assert_ne!(whole[..2_048], whole[2_048..4_096]);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut drbg = Drbg::new([3; SEED]);
        let mut seen = [false; 7];
        for _ in 0..1_000 {
            seen[drbg.u32_below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(drbg.u32_below(0), 0);
    }
}
