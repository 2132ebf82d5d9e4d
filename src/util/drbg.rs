//! A deterministic random bit generator: AES-256-CTR with fast key erasure, so that earlier output
//! cannot be computed from the state. The caller passes the seed, so that simulations are
//! reproducible.

use keystream::Keystream;

/// A generator of random bytes that are suitable as keys.
pub struct Drbg {
    key: [u8; KEY],
    counter: [u8; COUNTER],
    buffer: [u8; BUFFER],
    used: usize,
}

impl Drbg {
    /// A generator whose output depends only on `seed`.
    pub fn new(seed: [u8; SEED]) -> Self {
        let (mut key, mut counter) = ([0; KEY], [0; COUNTER]);
        key.copy_from_slice(&seed[..KEY]);
        counter.copy_from_slice(&seed[KEY..]);
        Self { key, counter, buffer: [0; BUFFER], used: BUFFER }
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == BUFFER {
                self.refill();
            }
            let len = out.len().min(BUFFER - self.used);
            let (now, later) = out.split_at_mut(len);
            let drawn = &mut self.buffer[self.used..self.used + len];
            now.copy_from_slice(drawn);
            drawn.fill(0);
            self.used += len;
            out = later;
        }
    }

    /// A random number below `bound`, or 0 if `bound` is 0. The bias is less than 2^-32.
    pub fn u32_below(&mut self, bound: u32) -> u32 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let wide = u128::from(u64::from_le_bytes(bytes)) * u128::from(bound);
        (wide >> 64) as u32
    }

    /// Shuffles a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.u32_below(at as u32 + 1) as usize);
        }
    }

    /// A uniformly distributed random number.
    pub fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// The first bytes of the keystream become the next key and counter, the others are the output.
    fn refill(&mut self) {
        let mut stream = Keystream::new(&self.key, &self.counter);
        stream.write(&mut self.key);
        stream.write(&mut self.counter);
        stream.write(&mut self.buffer);
        self.used = 0;
    }
}

const KEY: usize = 32;
const COUNTER: usize = 16;
/// Length of a seed in bytes: a key and a counter block.
pub const SEED: usize = KEY + COUNTER;
/// Bytes of output per key: 128 cipher blocks per key expansion.
const BUFFER: usize = 2048;

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
    fn the_stream_is_aes_256_in_counter_mode() {
        // The first output follows the next key and counter: bytes 48.. of the keystream.
        let mut plain = [0; SEED + 64];
        Keystream::new(&[5; KEY], &[5; COUNTER]).apply(&mut plain);
        let mut out = [0; 64];
        Drbg::new([5; SEED]).fill(&mut out);
        assert_eq!(out, plain[SEED..]);
    }

    #[test]
    fn the_state_does_not_keep_the_output() {
        let mut drbg = Drbg::new([4; SEED]);
        let mut out = [0; 100];
        drbg.fill(&mut out);
        assert_eq!(drbg.buffer[..100], [0; 100]);
        assert_ne!((drbg.key, drbg.counter), ([4; KEY], [4; COUNTER]));
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
