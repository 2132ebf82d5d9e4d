//! In-place transformation of the bytes of a session: removes or adds record headers and changes
//! the cipher.
//!
//! A transform works on the shared scratch buffer. It keeps only cipher offsets and at most 17 held
//! bytes of a shaped download, so a session without unsent bytes owns no buffer (PROTOCOL 5,
//! 9, 12, 14).

use std::io::IoSliceMut;

use crate::flow::recrypt::Recrypt;
use crate::flow::shape::{PAYLOAD_MIN, Shape};
use crate::mimicry::shaper::Grant;
use crate::proto::tls::{self, Deframer, RecordFault};

/// Longest payload of a sent record, in bytes.
pub const RECORD_PAYLOAD_MAX: usize = tls::PAYLOAD_MAX;
/// Largest number of records per read.
pub const SLOT_COUNT: usize = 16;
/// Length in bytes of the longest record with its header.
pub const SLOT_LEN: usize = RECORD_PAYLOAD_MAX + tls::HEADER_LEN;

/// Client to DC: removes the record headers and changes the cipher.
pub struct Uplink {
    deframer: Deframer,
    recrypt: Recrypt,
}

impl Uplink {
    /// Continues after the handshake: the deframer has consumed the records up to the end of the
    /// 64-byte obfuscated2 frame, and `recrypt` is at the offset after it.
    pub fn new(deframer: Deframer, recrypt: Recrypt) -> Self {
        Self { deframer, recrypt }
    }

    /// Transforms `fresh`, bytes read from the client, into bytes for the DC at the start of
    /// `fresh`; returns their number, which is also the number of payload bytes.
    ///
    /// # Errors
    /// The bytes are not application-data records. The contents of `fresh` are undefined then.
    pub fn transform(&mut self, fresh: &mut [u8]) -> Result<usize, RecordFault> {
        let Self { deframer, recrypt } = self;
        let mut done = 0;
        let mut apply = |payload: &mut [u8], is_last: bool| {
            let Some(next) = payload.get_mut(done..) else { return };
            let len = if is_last { next.len() } else { recrypt.whole_blocks(next.len()) };
            done += len;
            recrypt.apply(next.split_at_mut(len).0);
        };
        let len = deframer.deframe_with(fresh, &mut |payload| apply(payload, false))?;
        fresh.get_mut(..len).into_iter().for_each(|payload| apply(payload, true));
        Ok(len)
    }

    /// Changes the cipher of payload that arrived together with the handshake.
    pub fn recrypt(&mut self, payload: &mut [u8]) {
        self.recrypt.apply(payload);
    }
}

/// DC to client: adds record headers and, unless the keys are matched, changes the cipher (PROTOCOL
/// 14).
pub struct Downlink {
    recrypt: Option<Box<Recrypt>>,
    shape: Option<Box<Shape>>,
    has_started: bool,
}

/// Length of the finished records at the start of the scratch buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes with the record headers.
    pub wire_len: usize,
    /// Bytes without the record headers.
    pub payload_len: usize,
}

impl Downlink {
    /// `recrypt` decrypts for the DC and encrypts for the client; `None` = the keys are matched.
    /// `shape` decides about record sizes and times; `None` = records follow the reads.
    pub fn new(recrypt: Option<Box<Recrypt>>, shape: Option<Box<Shape>>) -> Self {
        Self { recrypt, shape, has_started: false }
    }

    /// Whether a byte has been read from the DC.
    pub fn has_started(&self) -> bool {
        self.has_started
    }

    /// The shape; `None` = records follow the reads.
    pub fn shape(&self) -> Option<&Shape> {
        self.shape.as_deref()
    }

    /// How much may be read now; `random` returns a random number.
    pub fn grant(&self, now_ms: u64, random: impl FnOnce() -> u32) -> Grant {
        self.shape().map_or(Grant::Any, |shape| shape.shaper().grant(now_ms, random))
    }

    /// Read buffers: the payload parts of the first `records` slots of the scratch buffer, each at
    /// most `max` bytes; the other slices are empty. The first one leaves room for the held bytes.
    pub fn read_slots<'a>(
        &self,
        scratch: &'a mut [u8],
        records: usize,
        max: usize,
    ) -> [IoSliceMut<'a>; SLOT_COUNT] {
        let mut slots = scratch.chunks_exact_mut(SLOT_LEN).take(records);
        let mut held = self.shape().map_or(0, |shape| shape.held().len());
        std::array::from_fn(|_| {
            let from = tls::HEADER_LEN + std::mem::take(&mut held);
            let buffer = slots.next().and_then(|slot| slot.get_mut(from..tls::HEADER_LEN + max));
            IoSliceMut::new(buffer.unwrap_or_default())
        })
    }

    /// Completes the records around the held bytes and `fresh` bytes that were read into the slots.
    /// A shaped download holds back a last record of fewer than 18 bytes, unless `flush` is set
    /// because nothing will follow soon.
    pub fn transform(
        &mut self,
        scratch: &mut [u8],
        fresh: usize,
        flush: bool,
        now_ms: u64,
        random: impl FnOnce() -> u32,
    ) -> Sealed {
        self.has_started |= fresh > 0;
        let Self { recrypt, shape, .. } = self;
        let shape = shape.as_deref_mut();
        let mut left = fresh + shape.as_ref().map_or(0, |shape| shape.restore_held(scratch));
        let (mut sealed, mut records, mut held) =
            (Sealed { wire_len: 0, payload_len: 0 }, 0, &[][..]);
        let may_hold = shape.is_some() && !flush;
        for slot in scratch.chunks_exact_mut(SLOT_LEN) {
            let len = left.min(RECORD_PAYLOAD_MAX);
            let Some((header, payload)) = slot.split_first_chunk_mut::<{ tls::HEADER_LEN }>()
            else {
                break;
            };
            let Some(payload) = payload.get_mut(..len) else { break };
            if len < PAYLOAD_MIN && (may_hold || len == 0) {
                held = payload;
                break;
            }
            *header = tls::header(tls::APPLICATION_DATA, len as u16);
            if let Some(recrypt) = recrypt {
                recrypt.apply(payload);
            }
            left -= len;
            records += 1;
            sealed.payload_len += len;
            sealed.wire_len += tls::HEADER_LEN + len;
        }
        if let Some(shape) = shape {
            shape.record_sent(records, held, now_ms, random);
        }
        sealed
    }
}

#[cfg(test)]
mod tests {
    use keystream::Keystream;

    use super::*;
    use crate::mimicry::shaper::{Pace, Shaper};

    fn cipher(key: u8) -> Keystream {
        Keystream::new(&[key; 32], &[key; 16])
    }

    fn shaped(recrypt: bool) -> Downlink {
        let shaper = Shaper::new(Pace::default(), false, false);
        let recrypt = recrypt.then(|| Box::new(Recrypt::new(cipher(1), cipher(2), 0)));
        Downlink::new(recrypt, Some(Box::new(Shape::new(shaper))))
    }

    /// Transforms `bytes` as one read of at most 3 records; returns the payloads of the records.
    fn read(down: &mut Downlink, bytes: &[u8], flush: bool, now_ms: u64) -> Vec<Vec<u8>> {
        let mut scratch = vec![0xee; SLOT_LEN * 3];
        let mut rest = bytes;
        for buffer in &mut down.read_slots(&mut scratch, 3, RECORD_PAYLOAD_MAX) {
            let (now, later) = rest.split_at(rest.len().min(buffer.len()));
            buffer.split_at_mut(now.len()).0.copy_from_slice(now);
            rest = later;
        }
        assert!(rest.is_empty(), "the read is longer than the slots");
        let sealed = down.transform(&mut scratch, bytes.len(), flush, now_ms, || u32::MAX);
        let (mut wire, mut records) = (scratch.split_at(sealed.wire_len).0, Vec::new());
        while let [0x17, 3, 3, high, low, tail @ ..] = wire {
            let (payload, next) = tail.split_at(usize::from(*high) * 256 + usize::from(*low));
            records.push(payload.to_vec());
            wire = next;
        }
        assert!(wire.is_empty(), "not a record");
        assert_eq!(sealed.payload_len, records.iter().map(Vec::len).sum::<usize>());
        records
    }

    #[test]
    fn a_few_bytes_wait_two_milliseconds_for_more_and_no_longer() {
        let mut down = shaped(false);
        assert!(read(&mut down, &[1; 4], false, 100).is_empty());
        assert_eq!(down.shape().and_then(|s| s.due(100, false)), Some(102));
        assert!(read(&mut down, &[2; 13], false, 101).is_empty(), "17 are not enough");
        assert_eq!(down.shape().and_then(|s| s.due(101, false)), Some(102), "since the first");
        assert!(down.shape().is_some_and(|s| !s.is_late(101) && s.is_late(102)));
        assert_eq!(read(&mut down, &[], true, 102), [[&[1; 4][..], &[2; 13]].concat()]);
        assert!(down.shape().is_some_and(|s| s.held().is_empty() && s.due(102, false).is_none()));
    }

    #[test]
    fn the_eighteenth_byte_ends_the_wait() {
        let mut down = shaped(false);
        assert!(read(&mut down, &[1; 17], false, 100).is_empty());
        assert_eq!(read(&mut down, &[2], false, 101), [[&[1; 17][..], &[2]].concat()]);
    }

    #[test]
    fn the_short_end_of_a_long_read_waits_too() {
        let mut down = shaped(false);
        let bytes = [5; 2 * RECORD_PAYLOAD_MAX + 3];
        assert_eq!(
            read(&mut down, &bytes, false, 100),
            [[5; RECORD_PAYLOAD_MAX], [5; RECORD_PAYLOAD_MAX]]
        );
        assert_eq!(down.shape().map(|s| s.held().len()), Some(3));
        assert_eq!(read(&mut down, &[5; 16], false, 101), [[5; 19]]);
    }

    #[test]
    fn without_a_shape_nothing_is_held_back() {
        let mut down = Downlink::new(None, None);
        assert_eq!(read(&mut down, &[1; 4], false, 100), [[1; 4]]);
        assert_eq!(down.grant(0, || unreachable!("no random number is drawn")), Grant::Any);
    }

    #[test]
    fn any_chunking_keeps_the_order_and_the_cipher() {
        let plain: Vec<u8> = (0..90_000u32).map(|i| (i % 251) as u8).collect();
        let mut expected = plain.clone();
        cipher(1).apply(&mut expected);
        cipher(2).apply(&mut expected);
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut down = shaped(true);
            let (mut rest, mut seen) = (&plain[..], Vec::new());
            while !rest.is_empty() {
                let most =
                    rng.choice([1, 20, 3_000, 3 * RECORD_PAYLOAD_MAX - PAYLOAD_MIN]).unwrap_or(1);
                let len = rng.usize(0..=most).min(rest.len());
                let flush = len == rest.len() || rng.u32(0..4) == 0;
                let (fresh, later) = rest.split_at(len);
                for record in read(&mut down, fresh, flush, 0) {
                    assert!(flush || record.len() >= PAYLOAD_MIN, "seed {seed}");
                    seen.extend(record);
                }
                rest = later;
            }
            assert!(seen == expected, "seed {seed}");
        }
    }
}
