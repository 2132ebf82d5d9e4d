//! One direction of a relayed session, in place: record headers off or on, ciphers applied.
//!
//! A lane works on the shared scratch block and keeps nothing but cipher positions, so a session
//! without unsent bytes owns no buffer (spec: protocol 5, 9, 14).

use std::io::IoSliceMut;
use std::ops::Range;

use crate::flow::recrypt::Recrypt;
use crate::proto::tls::{self, Deframer, RecordFault};

/// Payload bytes of the largest record that we send.
pub const RECORD: usize = tls::PAYLOAD_MAX;
/// Most records of one read.
pub const SLOTS: usize = 16;
/// One record with its header.
pub const SLOT: usize = RECORD + tls::HEADER_LEN;

/// Client to Telegram: strips the records and changes the cipher.
pub struct Uplink {
    deframer: Deframer,
    recrypt: Recrypt,
}

impl Uplink {
    /// A lane that goes on where the handshake stopped: the deframer has consumed the records up
    /// to the 64-byte header, `recrypt` stands behind it.
    pub fn new(deframer: Deframer, recrypt: Recrypt) -> Self {
        Self { deframer, recrypt }
    }

    /// Turns what was read from the client into what the DC gets, at the front of `fresh`;
    /// returns its length, which is also the payload count.
    ///
    /// # Errors
    /// When the client's records are no longer records; nothing of `fresh` is valid then.
    pub fn turn(&mut self, fresh: &mut [u8]) -> Result<usize, RecordFault> {
        let len = self.deframer.compact(fresh)?;
        if let Some(payload) = fresh.get_mut(..len) {
            self.recrypt.turn(payload);
        }
        Ok(len)
    }

    /// Changes the cipher of payload that came with the handshake.
    pub fn recrypt(&mut self, payload: &mut [u8]) {
        self.recrypt.turn(payload);
    }
}

/// Telegram to client: puts records around the bytes. With matched keys the bytes themselves
/// stay as they are (spec: protocol 14).
pub struct Downlink {
    recrypt: Option<Box<Recrypt>>,
}

impl Downlink {
    /// `recrypt` = the DC's cipher off and the client's on; `None` when the keys are matched.
    pub fn new(recrypt: Option<Box<Recrypt>>) -> Self {
        Self { recrypt }
    }

    /// Where to read: the payload parts of the first `records` slots of the scratch block (the
    /// rest of the array is empty).
    pub fn gaps(scratch: &mut [u8], records: usize) -> [IoSliceMut<'_>; SLOTS] {
        let mut slots = scratch.chunks_exact_mut(SLOT).take(records);
        std::array::from_fn(|_| {
            let gap = slots.next().and_then(|slot| slot.get_mut(tls::HEADER_LEN..));
            IoSliceMut::new(gap.unwrap_or_default())
        })
    }

    /// Completes the records around `fresh` payload bytes that were read into the gaps; returns
    /// where the finished records lie: from the block's start, contiguous.
    pub fn turn(&mut self, scratch: &mut [u8], fresh: usize) -> Range<usize> {
        let mut left = fresh;
        let mut end = 0;
        for slot in scratch.chunks_exact_mut(SLOT) {
            if left == 0 {
                break;
            }
            let len = left.min(RECORD);
            let Some((header, payload)) = slot.split_first_chunk_mut::<{ tls::HEADER_LEN }>()
            else {
                break;
            };
            *header = tls::header(tls::APPLICATION_DATA, len as u16);
            if let Some(recrypt) = &mut self.recrypt
                && let Some(payload) = payload.get_mut(..len)
            {
                recrypt.turn(payload);
            }
            left -= len;
            end += tls::HEADER_LEN + len;
        }
        0..end
    }
}
