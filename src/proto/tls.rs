//! TLS records (RFC 8446 5.1): constants, the header writer, and the parser for records of a client
//! after the handshake. There is no TLS encryption: records only frame the obfuscated2 stream
//! (PROTOCOL 5). `client_hello.rs` has the parser for the records of the hello.

/// Record type of handshake messages.
pub const HANDSHAKE: u8 = 0x16;
/// Record type of ChangeCipherSpec, sent for compatibility with middleboxes (RFC 8446 D.4).
pub const CHANGE_CIPHER_SPEC: u8 = 0x14;
/// Record type of alerts.
pub const ALERT: u8 = 0x15;
/// Record type of application data.
pub const APPLICATION_DATA: u8 = 0x17;

/// Version in the records of an initial ClientHello.
pub(super) const VERSION_HELLO: [u8; 2] = [0x03, 0x01];
/// Version in all other records, and in the body of ClientHello and ServerHello.
pub(super) const VERSION: [u8; 2] = [0x03, 0x03];

/// Length of a record header in bytes.
pub const HEADER_LEN: usize = 5;
/// Longest unprotected payload in bytes; servers answer a longer one with `record_overflow`.
pub(super) const PLAIN_MAX: usize = 16_384;
/// Longest payload of a sent record in bytes: 16384 bytes of data, a type byte and a 16-byte tag,
/// as in a full TLS 1.3 record. A length that no TLS stack produces would be conspicuous (PROTOCOL
/// 15.6).
pub const PAYLOAD_MAX: usize = 16_401;

/// A record header for type `kind` and `len` bytes of payload.
pub const fn header(kind: u8, len: u16) -> [u8; HEADER_LEN] {
    let [high, low] = len.to_be_bytes();
    [kind, VERSION[0], VERSION[1], high, low]
}

/// Removes the record framing from a client's stream, which may be split anywhere. Stores no
/// payload.
#[derive(Debug, Clone, Default)]
pub struct Deframer {
    /// Number of header bytes seen of the next record, 0 to 4; 0 while a payload is being read.
    seen: u8,
    /// Whether the payload of the current record is dropped.
    skip: bool,
    /// Payload bytes of the current record that have not arrived.
    left: u16,
}

impl Deframer {
    /// Starts at a record header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the payload of application-data records to the start of `buf` and returns its length.
    /// Drops headers and ChangeCipherSpec records. Does one memmove per record, and none for
    /// payload that is in place.
    ///
    /// # Errors
    /// See [`RecordFault`]. The contents of `buf` and `self` are undefined then.
    pub fn deframe(&mut self, buf: &mut [u8]) -> Result<usize, RecordFault> {
        self.deframe_with(buf, &mut |_| {})
    }

    /// As [`Deframer::deframe`]; passes all payload so far to `moved` after each memmove, while it
    /// is in the cache.
    ///
    /// # Errors
    /// See [`RecordFault`]. The contents of `buf` and `self` are undefined then.
    pub fn deframe_with(
        &mut self,
        buf: &mut [u8],
        moved: &mut dyn FnMut(&mut [u8]),
    ) -> Result<usize, RecordFault> {
        let (mut read, mut kept) = (0, 0);
        while let Some(byte) = buf.get(read) {
            if self.left == 0 || self.seen != 0 {
                self.push_header_byte(*byte)?;
                read += 1;
                continue;
            }
            let run = self.left.min(u16::try_from(buf.len() - read).unwrap_or(u16::MAX));
            let end = read + usize::from(run);
            if !self.skip {
                if kept != read {
                    buf.copy_within(read..end, kept);
                }
                kept += usize::from(run);
                if let Some(payload) = buf.get_mut(..kept) {
                    moved(payload);
                }
            }
            read = end;
            self.left -= run;
        }
        Ok(kept)
    }

    /// Processes one byte of a header.
    fn push_header_byte(&mut self, byte: u8) -> Result<(), RecordFault> {
        match self.seen {
            0 => {
                self.skip = match byte {
                    APPLICATION_DATA => false,
                    CHANGE_CIPHER_SPEC => true,
                    ALERT => return Err(RecordFault::Alert),
                    other => return Err(RecordFault::Type(other)),
                }
            }
            1 if byte != VERSION[0] => return Err(RecordFault::Version),
            2 if byte != VERSION[1] => return Err(RecordFault::Version),
            3 => self.left = u16::from(byte) << 8,
            4 => self.left |= u16::from(byte),
            _ => {}
        }
        self.seen = (self.seen + 1) % HEADER_LEN as u8;
        Ok(())
    }
}

/// An invalid record after the handshake; detected at the first wrong byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// A version other than 0x0303.
    Version,
    /// An unexpected record type, such as a second handshake.
    Type(u8),
    /// An alert: the client closes or reports an error.
    Alert,
}

impl RecordFault {
    /// Name in logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "record-version",
            Self::Type(_) => "record-type",
            Self::Alert => "alert",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(wire: &[u8]) -> Result<Vec<u8>, RecordFault> {
        let mut buf = wire.to_vec();
        let kept = Deframer::new().deframe(&mut buf)?;
        buf.truncate(kept);
        Ok(buf)
    }

    #[test]
    fn change_cipher_spec_and_empty_records_are_dropped() {
        let wire = b"\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x02ab\x17\x03\x03\0\0\
            \x14\x03\x03\0\0\x17\x03\x03\0\x01c";
        assert_eq!(compacted(wire).unwrap(), b"abc");
    }

    #[test]
    fn a_record_may_start_in_one_read_and_end_in_the_next() {
        let mut deframer = Deframer::new();
        let mut first = *b"\x17\x03\x03\x01";
        assert_eq!(deframer.deframe(&mut first), Ok(0));
        let mut second = [b'x'; 201];
        second[0] = 0x00;
        assert_eq!(deframer.deframe(&mut second), Ok(200));
        let mut third = [b'y'; 56];
        assert_eq!(deframer.deframe(&mut third), Ok(56));
        let mut fourth = *b"\x17\x03\x03\0\x01z";
        assert_eq!(deframer.deframe(&mut fourth), Ok(1));
        assert_eq!(fourth[0], b'z');
    }

    #[test]
    fn a_record_of_65535_bytes_passes() {
        let mut wire = header(APPLICATION_DATA, u16::MAX).to_vec();
        wire.resize(HEADER_LEN + 65_535, 7);
        wire.extend(header(APPLICATION_DATA, 1));
        wire.push(8);
        assert_eq!(compacted(&wire).unwrap().len(), 65_536);
    }

    #[test]
    fn the_first_wrong_byte_is_a_fault() {
        assert_eq!(compacted(b"\x15"), Err(RecordFault::Alert));
        assert_eq!(compacted(b"\x16"), Err(RecordFault::Type(0x16)));
        assert_eq!(compacted(b"\x17\x02"), Err(RecordFault::Version));
        assert_eq!(compacted(b"\x17\x03\x01"), Err(RecordFault::Version));
        assert_eq!(compacted(b"\x17\x03\x03\0\x01aG"), Err(RecordFault::Type(b'G')));
    }

    #[test]
    fn the_state_fits_in_a_register() {
        assert!(size_of::<Deframer>() <= 8);
    }
}
