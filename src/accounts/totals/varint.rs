//! Variable-length integers (LEB128) and the checksum of the totals file.

use crc::{CRC_32_ISO_HDLC, Crc};

/// Appends a number in groups of seven bits, least significant first; the top bit of a byte is set
/// if more bytes follow.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number in zigzag encoding, so that small absolute values are short.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Reads from the front of a slice.
pub(super) struct VarintReader<'a>(pub(super) &'a [u8]);

impl<'a> VarintReader<'a> {
    /// Reads what [`put_number`] wrote; `None` if it is incomplete or exceeds 64 bits.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Reads what [`put_signed`] wrote; `None` as for [`VarintReader::number`].
    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Reads `length` bytes; `None` if fewer are left.
    pub(super) fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// CRC-32 of IEEE 802.3. `before` is the CRC of the bytes before these; 0 at the start.
pub(super) fn crc32(before: u32, bytes: &[u8]) -> u32 {
    // The library takes the register as it is before bits are reflected and inverted.
    let mut digest = CRC.digest_with_initial((!before).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32_of_ieee_802_3() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    #[test]
    fn numbers_come_back_and_small_ones_are_short() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!((out.len(), VarintReader(&out).number()), (length, Some(number)));
            assert_eq!(VarintReader(&out[..length - 1]).number(), None, "cut off");
        }
        for (number, length) in
            [(0, 1), (-1, 1), (63, 1), (-8192, 2), (i64::MAX, 10), (i64::MIN, 10)]
        {
            let mut out = Vec::new();
            put_signed(&mut out, number);
            assert_eq!((out.len(), VarintReader(&out).signed()), (length, Some(number)));
        }
        assert_eq!(VarintReader(&[0xff; 11]).number(), None, "too long");
        assert_eq!(
            VarintReader(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]).number(),
            None
        );
        assert_eq!(VarintReader(&[0xff; 3]).bytes(u64::MAX), None);
    }
}
