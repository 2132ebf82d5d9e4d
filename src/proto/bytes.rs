//! A cursor over untrusted bytes. Each method returns `None` if too few bytes are left, and does
//! not move the cursor then, so that parsers can use `?`.

/// The bytes that are left to read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether no byte is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Reads `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(bytes)
    }

    /// Reads one byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| *byte)
    }

    /// Reads two bytes, big-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Reads four bytes, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Reads a length of one byte, then that many bytes.
    pub fn block8(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let count = ahead.u8()?;
        let block = ahead.bytes(count.into())?;
        *self = ahead;
        Some(block)
    }

    /// Reads a length of two bytes, then that many bytes.
    pub fn block16(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let count = ahead.u16()?;
        let block = ahead.bytes(count.into())?;
        *self = ahead;
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_to_the_last_byte() {
        let mut reader = Reader::new(&[1, 2, 3, 0, 0, 0, 4, 1, 5, 0, 2, 6, 7, 8]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(0x0203));
        assert_eq!(reader.u32(), Some(4));
        assert_eq!(reader.block8(), Some(&[5][..]));
        assert_eq!(reader.block16(), Some(&[6, 7][..]));
        assert_eq!(reader.array(), Some(&[8]));
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), None);
    }

    #[test]
    fn a_truncated_block_does_not_move_the_cursor() {
        let mut reader = Reader::new(&[0, 3, 1, 2]);
        assert_eq!(reader.block16(), None);
        assert_eq!(reader.bytes(5), None);
        assert_eq!(reader.rest, [0, 3, 1, 2]);
    }
}
