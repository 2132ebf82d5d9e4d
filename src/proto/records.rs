//! Parser of the TLS records of a server: types, lengths, payload in pieces. Used to analyse
//! fronts; `tls.rs` has the parser for records of clients.

use crate::proto::tls;

/// Parser state. Stores no payload.
#[derive(Debug, Clone, Default)]
pub struct RecordWalker {
    header: [u8; tls::HEADER_LEN],
    /// Number of header bytes seen of the current record, 0 to 5.
    seen: usize,
    /// Payload bytes of the current record that have not arrived.
    left: u16,
}

/// A piece of one record.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Type of the record.
    pub kind: u8,
    /// Length of the record's payload in bytes.
    pub len: u16,
    /// A part of the payload; empty only for an empty record.
    pub part: &'a [u8],
    /// Whether the record ends with this piece.
    pub is_last: bool,
}

/// The bytes are not TLS records.
#[derive(Debug, PartialEq, Eq)]
pub struct NotTls;

impl RecordWalker {
    /// Removes the next piece from the start of `bytes`; `None` = all bytes are consumed.
    ///
    /// # Errors
    /// A type, version or length that no TLS server sends (RFC 8446 5.1, 5.2); reported at the
    /// first wrong byte.
    pub fn next_piece<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, NotTls> {
        while self.seen < tls::HEADER_LEN {
            let Some((byte, rest)) = bytes.split_first() else { return Ok(None) };
            *bytes = rest;
            self.push_header_byte(*byte)?;
        }
        let [kind, _, _, high, low] = self.header;
        let len = u16::from_be_bytes([high, low]);
        if self.left > 0 && bytes.is_empty() {
            return Ok(None);
        }
        let (part, rest) = bytes.split_at(bytes.len().min(self.left.into()));
        *bytes = rest;
        self.left -= part.len() as u16; // At most what was left.
        let is_last = self.left == 0;
        if is_last {
            self.seen = 0;
        }
        Ok(Some(Piece { kind, len, part, is_last }))
    }

    /// Whether the last record is complete and no byte of the next one has been seen.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.seen == 0
    }

    /// Processes one byte of a header.
    fn push_header_byte(&mut self, byte: u8) -> Result<(), NotTls> {
        let is_valid = match self.seen {
            0 => (tls::CHANGE_CIPHER_SPEC..=tls::APPLICATION_DATA).contains(&byte),
            1 => byte == tls::VERSION[0],
            // A server of an older version sends its own version.
            2 => byte <= tls::VERSION[1],
            3 => usize::from(byte) << 8 <= PAYLOAD_MAX,
            _ => true,
        };
        if let Some(slot) = self.header.get_mut(self.seen) {
            *slot = byte;
        }
        self.seen += 1;
        if self.seen == tls::HEADER_LEN {
            let [_, _, _, high, low] = self.header;
            self.left = u16::from_be_bytes([high, low]);
        }
        if is_valid && usize::from(self.left) <= PAYLOAD_MAX { Ok(()) } else { Err(NotTls) }
    }
}

/// Longest payload of a protected record in bytes: the limit of TLS 1.2 (RFC 5246 6.2.3), which is
/// higher than that of TLS 1.3.
const PAYLOAD_MAX: usize = tls::PLAIN_MAX + 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, length and payload of all records, parsed in chunks of `size` bytes.
    fn walk(wire: &[u8], size: usize) -> Result<Vec<(u8, u16, Vec<u8>)>, NotTls> {
        let (mut records, mut found, mut payload) =
            (RecordWalker::default(), Vec::new(), Vec::new());
        for mut chunk in wire.chunks(size) {
            while let Some(piece) = records.next_piece(&mut chunk)? {
                payload.extend_from_slice(piece.part);
                if piece.is_last {
                    found.push((piece.kind, piece.len, std::mem::take(&mut payload)));
                }
            }
            assert!(chunk.is_empty());
        }
        assert!(records.is_at_boundary());
        Ok(found)
    }

    #[test]
    fn records_are_the_same_for_any_chunk_size() {
        let wire =
            b"\x16\x03\x03\0\x03abc\x14\x03\x03\0\x01\x01\x17\x03\x03\0\0\x17\x03\x03\0\x02de";
        let whole = walk(wire, wire.len()).unwrap();
        assert_eq!(
            whole,
            [
                (0x16, 3, b"abc".to_vec()),
                (0x14, 1, vec![1]),
                (0x17, 0, vec![]),
                (0x17, 2, b"de".to_vec())
            ]
        );
        for size in 1..wire.len() {
            assert_eq!(walk(wire, size).unwrap(), whole, "{size}");
        }
    }

    #[test]
    fn the_first_wrong_byte_is_a_fault() {
        for wrong in
            [&b"H"[..], b"\x13", b"\x18", b"\x16\x02", b"\x16\x03\x04", b"\x17\x03\x03\x49"]
        {
            assert_eq!(walk(wrong, wrong.len()), Err(NotTls), "{wrong:?}");
            let mut good = &wrong[..wrong.len() - 1];
            assert_eq!(RecordWalker::default().next_piece(&mut good), Ok(None));
        }
        let mut longest = &b"\x17\x03\x03\x48\x00"[..];
        assert_eq!(RecordWalker::default().next_piece(&mut longest), Ok(None));
        let mut longer = &b"\x17\x03\x03\x48\x01"[..];
        assert_eq!(RecordWalker::default().next_piece(&mut longer), Err(NotTls));
    }
}
