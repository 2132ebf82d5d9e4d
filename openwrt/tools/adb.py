"""Writes apk's binary format of version 3 (ADB): a block of values that refer to each other.

A value is 32 bits: its kind in the upper four, the number itself or its place in the block below.
Places are written once; whatever is equal shares one. An object is a list of values by the number
of the field, an array the same by position.
"""

import struct

INT, INT_32, INT_64 = 1 << 28, 2 << 28, 3 << 28
BLOB_8, BLOB_16, BLOB_32 = 8 << 28, 9 << 28, 10 << 28
OBJECT = 14 << 28
PLACE = (1 << 28) - 1

# What follows the block with the values in the file.
BLOCK_ADB, BLOCK_DATA = 0, 2


class Writer:
    """Grows a block from its leaves to its root."""

    def __init__(self) -> None:
        self.bytes = bytearray(8)  # versions, then the root, see finish()
        self.places: dict[tuple[bytes, int], int] = {}

    def put(self, raw: bytes, align: int) -> int:
        if (raw, align) not in self.places:
            self.places[raw, align] = self.put_alone(raw, align)
        return self.places[raw, align]

    def put_alone(self, raw: bytes, align: int) -> int:
        self.bytes += bytes(-len(self.bytes) % align)
        place = len(self.bytes)
        self.bytes += raw
        return place

    def int(self, value: int) -> int:
        if value <= PLACE:
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
        """Zeros that are filled in later, shared with nobody; and the place of the first."""
        kind, size, align = self.blob_kind(length)
        place = self.put_alone(struct.pack(size, length) + bytes(length), align)
        return kind | place, place + struct.calcsize(size)

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
    """A block of the file: kind and length, then the content up to the next multiple of eight."""
    length = 4 + len(payload)
    if length >= 1 << 30:
        raise ValueError("too big for a block")
    return struct.pack("<I", kind << 30 | length) + payload + bytes(-length % 8)
