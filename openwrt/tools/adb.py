"""Writes ADB, the binary format of apk 3: a block of values that refer to each other.

A value has 32 bits: the type in the upper four, and below a number or an offset in the block. Equal
data is stored once and shares an offset. An object is a list of values indexed by field number, an
array a list of values indexed by position.
"""

import struct

INT, INT_32, INT_64 = 1 << 28, 2 << 28, 3 << 28
BLOB_8, BLOB_16, BLOB_32 = 8 << 28, 9 << 28, 10 << 28
OBJECT = 14 << 28
OFFSET_MASK = (1 << 28) - 1

# Types of the blocks in a file.
BLOCK_ADB, BLOCK_DATA = 0, 2


class Writer:
    """Builds a block of values, leaves first."""

    def __init__(self) -> None:
        self.bytes = bytearray(8)  # versions, then the root value; see finish()
        self.offsets: dict[tuple[bytes, int], int] = {}

    def put(self, raw: bytes, align: int) -> int:
        if (raw, align) not in self.offsets:
            self.offsets[raw, align] = self.put_unshared(raw, align)
        return self.offsets[raw, align]

    def put_unshared(self, raw: bytes, align: int) -> int:
        self.bytes += bytes(-len(self.bytes) % align)
        offset = len(self.bytes)
        self.bytes += raw
        return offset

    def int(self, value: int) -> int:
        if value <= OFFSET_MASK:
            return INT | value
        if value < 1 << 32:
            return INT_32 | self.put(struct.pack("<I", value), 4)
        return INT_64 | self.put(struct.pack("<Q", value), 4)

    def blob(self, value: bytes | str) -> int:
        raw = value.encode() if isinstance(value, str) else value
        if not raw:
            return 0
        kind, size, align = self.blob_kind(len(raw))
        return kind | self.put(struct.pack(size, len(raw)) + raw, align)

    def blank(self, length: int) -> tuple[int, int]:
        """A blob of zeros to be filled in later, never shared, and its offset."""
        kind, size, align = self.blob_kind(length)
        offset = self.put_unshared(struct.pack(size, length) + bytes(length), align)
        return kind | offset, offset + struct.calcsize(size)

    @staticmethod
    def blob_kind(length: int) -> tuple[int, str, int]:
        if length < 1 << 8:
            return BLOB_8, "<B", 1
        if length < 1 << 16:
            return BLOB_16, "<H", 2
        return BLOB_32, "<I", 4

    def object(self, fields: dict[int, int]) -> int:
        fields = {number: value for number, value in fields.items() if value}
        if not fields:
            return 0
        last = max(fields)
        values = [fields.get(number, 0) for number in range(1, last + 1)]
        return OBJECT | self.put(struct.pack(f"<{last + 1}I", last + 1, *values), 4)

    def array(self, values: list[int]) -> int:
        return self.object(dict(enumerate(values, 1)))

    def finish(self, root: int) -> bytearray:
        self.bytes[4:8] = struct.pack("<I", root)
        return self.bytes


def block(kind: int, payload: bytes) -> bytes:
    """A block of a file: type and length, content, and padding to a multiple of eight bytes."""
    length = 4 + len(payload)
    if length >= 1 << 30:
        raise ValueError("block too large")
    return struct.pack("<I", kind << 30 | length) + payload + bytes(-length % 8)
