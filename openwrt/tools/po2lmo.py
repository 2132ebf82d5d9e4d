#!/usr/bin/env python3
"""Converts a translation to LuCI's binary catalogue: po2lmo.py FILE.po FILE.lmo

An .lmo contains the translated texts, a table, and the offset of the table, all big endian. A row
of the table has the hash of the original text (SuperFastHash by Paul Hsieh), the number 1, and
offset and length of the translation; rows are sorted by hash. Plurals and contexts are not
supported.
"""

import ast
import re
import struct
import sys
from pathlib import Path

MASK = 0xFFFFFFFF


def text_hash(text: bytes) -> int:
    """The hash of a text, as LuCI computes it."""
    value = len(text)
    whole = len(text) // 4 * 4
    for low, high in struct.iter_unpack("<HH", text[:whole]):
        value = (value + low) & MASK
        value = (value << 16 ^ (high << 11 ^ value)) & MASK
        value = (value + (value >> 11)) & MASK
    rest = text[whole:]
    if len(rest) == 3:
        value = (value + int.from_bytes(rest[:2], "little")) & MASK
        value = (value ^ value << 16) & MASK
        value = (value ^ signed(rest[2]) << 18) & MASK
        value = (value + (value >> 11)) & MASK
    elif len(rest) == 2:
        value = (value + int.from_bytes(rest, "little")) & MASK
        value = (value ^ value << 11) & MASK
        value = (value + (value >> 17)) & MASK
    elif len(rest) == 1:
        value = (value + signed(rest[0])) & MASK
        value = (value ^ value << 10) & MASK
        value = (value + (value >> 1)) & MASK
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value = (value ^ value << left) & MASK
        value = (value + (value >> right)) & MASK
    return value


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def translations(po: str) -> dict[str, str]:
    """A map from msgid to msgstr, without untranslated texts."""
    found = {}
    pattern = r'^msgid ((?:".*"\n)+)msgstr ((?:".*"(?:\n|\Z))+)'
    for original, translated in re.findall(pattern, po, re.MULTILINE):
        key, value = unquote(original), unquote(translated)
        if key and value:
            found[key] = value
    return found


def unquote(lines: str) -> str:
    return "".join(ast.literal_eval(line) for line in lines.splitlines())


def catalogue(texts: dict[str, str]) -> bytes:
    out, table = bytearray(), []
    for key, value in texts.items():
        raw = value.encode()
        table.append((text_hash(key.encode()), 1, len(out), len(raw)))
        out += raw + bytes(-len(raw) % 4)
    offset = len(out)
    for row in sorted(table):
        out += struct.pack(">IIII", *row)
    return bytes(out + struct.pack(">I", offset))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_bytes(catalogue(translations(Path(sys.argv[1]).read_text())))
