//! TLS records (RFC 8446 5.1): constants, the header writer, and the parser for records of a client
//! after the handshake. There is no TLS encryption: records only frame the obfuscated2 stream
//! (PROTOCOL 5, 15.13). `client_hello.rs` has the parser for the records of the hello.

use crate::proto::obfuscated2::FRAME_LEN;

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

/// Longest payload of a received record in bytes (RFC 8446 5.2).
const PROTECTED_MAX: usize = PLAIN_MAX + 256;
/// OpenSSL accepts so many records without data before it ends a connection.
const IDLE_MAX: u8 = 32;
/// It accepts four warning alerts in a row.
const ALERT_WEIGHT: u8 = IDLE_MAX / 4;
/// The alert that a TLS server ignores (RFC 8446 6.1).
const USER_CANCELED: u8 = 90;

/// A record header for type `kind` and `len` bytes of payload.
pub const fn header(kind: u8, len: u16) -> [u8; HEADER_LEN] {
    let [high, low] = len.to_be_bytes();
    [kind, VERSION[0], VERSION[1], high, low]
}

/// Removes the record framing from a client's stream, which may be split anywhere. Stores no
/// payload. Ends a connection where OpenSSL does: at the header, or once the record is complete.
#[derive(Debug, Clone, Default)]
pub struct Deframer {
    /// Number of header bytes seen of the next record, 0 to 4; 0 while a payload is being read.
    seen: u8,
    /// Type of the current record.
    kind: u8,
    /// Payload bytes of the current record that have not arrived.
    left: u16,
    /// What is wrong with the current record, once it, or its header, is complete.
    fault: Option<RecordFault>,
    /// Records so far that carry nothing: ChangeCipherSpec, and alerts that cancel nothing, which
    /// count [`ALERT_WEIGHT`] times.
    idle: u8,
    phase: Phase,
}

/// How far the client is, as a TLS server sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// The first record of application data has to contain the frame; a server waits for Finished.
    AwaitsFrame,
    /// In the first record of application data.
    InFrame,
    #[default]
    Later,
}

impl Deframer {
    /// Starts at a record header after the frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts after the hello: the next record of application data has at least `FRAME_LEN` bytes.
    pub fn before_frame() -> Self {
        Self { phase: Phase::AwaitsFrame, ..Self::default() }
    }

    /// Whether the record that contains the frame is not complete.
    pub fn is_in_frame(&self) -> bool {
        self.phase == Phase::InFrame
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
            self.left -= run;
            if self.kind != APPLICATION_DATA {
                let body = buf.get(read..end).unwrap_or_default();
                body.iter().for_each(|byte| self.check_body(*byte));
            } else if self.fault.is_none() {
                if kept != read {
                    buf.copy_within(read..end, kept);
                }
                kept += usize::from(run);
                if let Some(payload) = buf.get_mut(..kept) {
                    moved(payload);
                }
            }
            read = end;
            if self.left == 0 {
                self.fault.take().map_or(Ok(()), Err)?;
                self.phase = if self.is_in_frame() { Phase::Later } else { self.phase };
            }
        }
        Ok(kept)
    }

    /// Processes one byte of a header.
    fn push_header_byte(&mut self, byte: u8) -> Result<(), RecordFault> {
        match self.seen {
            0 => self.kind = byte,
            1 | 2 if VERSION.get(usize::from(self.seen) - 1) != Some(&byte) => {
                self.fault = Some(RecordFault::Version);
            }
            3 => self.left = u16::from(byte) << 8,
            4 => self.left |= u16::from(byte),
            _ => {}
        }
        self.seen = (self.seen + 1) % HEADER_LEN as u8;
        if self.seen == 0 { self.judge_header() } else { Ok(()) }
    }

    /// Judges a complete header.
    fn judge_header(&mut self) -> Result<(), RecordFault> {
        self.fault.take().map_or(Ok(()), Err)?;
        let (is_early, len) = (self.phase == Phase::AwaitsFrame, self.left);
        self.fault = match self.kind {
            APPLICATION_DATA if is_early && usize::from(len) < FRAME_LEN => {
                Some(RecordFault::Length)
            }
            APPLICATION_DATA => None,
            CHANGE_CIPHER_SPEC => self.count_idle().or((len != 1).then_some(RecordFault::Length)),
            ALERT if is_early && len == 2 => Some(RecordFault::Alert),
            ALERT if is_early => Some(RecordFault::Length),
            ALERT => return Err(RecordFault::Alert),
            other => return Err(RecordFault::Type(other)),
        };
        if len == 0 || usize::from(len) > PROTECTED_MAX {
            return Err(RecordFault::Length);
        }
        if is_early && self.kind == APPLICATION_DATA && self.fault.is_none() {
            self.phase = Phase::InFrame;
        }
        Ok(())
    }

    /// Checks a byte of a record that is not application data.
    fn check_body(&mut self, byte: u8) {
        let is_last = self.left == 0;
        if self.kind == CHANGE_CIPHER_SPEC && byte != 1 {
            self.fault = Some(RecordFault::Type(CHANGE_CIPHER_SPEC));
        } else if is_last && self.fault == Some(RecordFault::Alert) && byte == USER_CANCELED {
            self.fault = self.count_idle();
        }
    }

    fn count_idle(&mut self) -> Option<RecordFault> {
        let weight = if self.kind == ALERT { ALERT_WEIGHT } else { 1 };
        self.idle = self.idle.saturating_add(weight);
        (self.idle > IDLE_MAX).then_some(RecordFault::Type(self.kind))
    }
}

/// An invalid record after the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// A version other than 0x0303.
    Version,
    /// An unexpected record type, such as a second handshake, or an unexpected content.
    Type(u8),
    /// A length that no TLS client sends, or a first record that is shorter than the frame.
    Length,
    /// An alert without protection. Before the frame it ends the connection without an answer.
    Alert,
}

impl RecordFault {
    /// Name in logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "record-version",
            Self::Type(_) => "record-type",
            Self::Length => "record-length",
            Self::Alert => "alert",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut deframer: Deframer, wire: &[u8]) -> Result<Vec<u8>, RecordFault> {
        let mut buf = wire.to_vec();
        let kept = deframer.deframe(&mut buf)?;
        buf.truncate(kept);
        Ok(buf)
    }

    fn compacted(wire: &[u8]) -> Result<Vec<u8>, RecordFault> {
        run(Deframer::new(), wire)
    }

    /// The outcome for the first bytes after the hello; the same byte by byte.
    fn first(wire: &[u8]) -> Result<Vec<u8>, RecordFault> {
        let (mut slow, mut all) = (Deframer::before_frame(), Ok(Vec::new()));
        for byte in wire {
            let mut one = [*byte];
            let kept = slow.deframe(&mut one);
            all = all.and_then(|mut all| {
                all.extend(&one[..kept?]);
                Ok(all)
            });
            if all.is_err() {
                break;
            }
        }
        assert_eq!(all, run(Deframer::before_frame(), wire), "{wire:?}");
        all
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&header(kind, body.len() as u16)[..], body].concat()
    }

    const CCS: &[u8] = b"\x14\x03\x03\0\x01\x01";

    #[test]
    fn change_cipher_spec_is_dropped() {
        let wire = [CCS, b"\x17\x03\x03\0\x02ab", CCS, b"\x17\x03\x03\0\x01c"].concat();
        assert_eq!(compacted(&wire).unwrap(), b"abc");
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
    fn the_longest_record_is_that_of_tls() {
        let longest = record(APPLICATION_DATA, &[7; PROTECTED_MAX]);
        assert_eq!(compacted(&longest).unwrap().len(), 16_640);
        for len in [PROTECTED_MAX as u16 + 1, u16::MAX] {
            assert_eq!(compacted(&header(APPLICATION_DATA, len)), Err(RecordFault::Length));
            assert_eq!(first(&header(CHANGE_CIPHER_SPEC, len)), Err(RecordFault::Length));
        }
    }

    #[test]
    fn a_header_is_judged_when_it_is_complete() {
        for (wire, fault) in [
            (&b"\x15\x03\x03\0\x02"[..], RecordFault::Alert),
            (b"\x16\x03\x03\0\x02", RecordFault::Type(HANDSHAKE)),
            (b"\x17\x02\x03\0\x02", RecordFault::Version),
            (b"\x17\x03\x01\0\x02", RecordFault::Version),
            (b"\x17\x03\x03\0\0", RecordFault::Length),
            (b"\x17\x03\x03\0\x01aG\x03\x03\0\x01", RecordFault::Type(b'G')),
        ] {
            assert_eq!(compacted(wire), Err(fault), "{wire:?}");
            assert!(compacted(&wire[..wire.len() - 1]).is_ok(), "{wire:?}");
        }
    }

    /// Measured with OpenSSL 3.0.19, which waits for Finished.
    #[test]
    fn the_first_records_are_refused_where_openssl_does() {
        let frame = record(APPLICATION_DATA, &[7; FRAME_LEN]);
        assert_eq!(first(&[CCS, &frame].concat()).unwrap(), [7; FRAME_LEN]);
        assert_eq!(first(&[&CCS.repeat(32)[..], &frame].concat()).unwrap(), [7; FRAME_LEN]);
        assert_eq!(first(&header(APPLICATION_DATA, 5)), Ok(vec![]), "the record is not complete");
        let canceled = record(ALERT, &[1, USER_CANCELED]);
        assert_eq!(first(&[&canceled[..], &frame].concat()).unwrap(), [7; FRAME_LEN]);
        for (wire, fault) in [
            (record(APPLICATION_DATA, &[]), RecordFault::Length),
            (record(APPLICATION_DATA, &[7; 1]), RecordFault::Length),
            ([CCS, &record(APPLICATION_DATA, &[7; 63])].concat(), RecordFault::Length),
            (record(APPLICATION_DATA, &[]).repeat(100), RecordFault::Length),
            (CCS.repeat(33), RecordFault::Type(CHANGE_CIPHER_SPEC)),
            (record(CHANGE_CIPHER_SPEC, &[0]), RecordFault::Type(CHANGE_CIPHER_SPEC)),
            (record(CHANGE_CIPHER_SPEC, &[]), RecordFault::Length),
            (record(CHANGE_CIPHER_SPEC, &[1, 1]), RecordFault::Length),
            (record(ALERT, &[2, 40]), RecordFault::Alert),
            (record(ALERT, &[1, 0]), RecordFault::Alert),
            (record(ALERT, &[2]), RecordFault::Length),
            (record(ALERT, &[7; 19]), RecordFault::Length),
            (canceled.repeat(5), RecordFault::Type(ALERT)),
        ] {
            assert_eq!(first(&wire), Err(fault), "{wire:?}");
            assert!(wire.len() > 200 || first(&wire[..wire.len() - 1]).is_ok(), "{wire:?}");
        }
    }

    #[test]
    fn the_record_of_the_frame_is_known_until_its_end() {
        let mut deframer = Deframer::before_frame();
        let mut wire = record(APPLICATION_DATA, &[7; 65]);
        let mut end = wire.split_off(69);
        assert!(deframer.deframe(&mut wire).is_ok() && deframer.is_in_frame());
        assert!(deframer.deframe(&mut end).is_ok() && !deframer.is_in_frame());
        assert_eq!(deframer.deframe(&mut record(APPLICATION_DATA, &[7])), Ok(1));
    }

    #[test]
    fn the_state_fits_in_a_register() {
        assert!(size_of::<Deframer>() <= 8);
    }
}
