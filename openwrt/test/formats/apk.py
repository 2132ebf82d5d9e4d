"""Reads an apk 3 package: a deflated file with a block of values and a data block per file."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

SCHEMA_PACKAGE = b"pckg"
INFO = [
    "name", "version", "hashes", "description", "arch", "license", "origin", "maintainer", "url",
    "repo-commit", "build-time", "installed-size", "file-size", "provider-priority", "depends",
    "provides",
]
SCRIPTS = [
    "trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade",
    "post-upgrade",
]


@dataclass
class File:
    mode: int
    user: str
    group: str
    mtime: int
    data: bytes


@dataclass
class Apk:
    info: dict  # texts; lists of (name, version) for depends and provides
    folders: dict[str, tuple[int, str, str]]  # mode, user, group
    files: dict[str, File]
    scripts: dict[str, str]
    is_identity_valid: bool


class Values:
    """The block of values."""

    def __init__(self, block: bytes) -> None:
        self.block = block

    def root(self) -> int:
        return struct.unpack_from("<I", self.block, 4)[0]

    def int(self, value: int) -> int:
        kind, low = value >> 28, value & 0x0FFFFFFF
        if kind == 1:
            return low
        return struct.unpack_from({2: "<I", 3: "<Q"}[kind], self.block, low)[0]

    def blob_at(self, value: int) -> tuple[int, int]:
        kind, low = value >> 28, value & 0x0FFFFFFF
        size = {8: "<B", 9: "<H", 10: "<I"}[kind]
        return low + struct.calcsize(size), struct.unpack_from(size, self.block, low)[0]

    def blob(self, value: int) -> bytes:
        if value == 0:
            return b""
        place, length = self.blob_at(value)
        if place + length > len(self.block):
            raise ValueError("a blob exceeds the block")
        return self.block[place : place + length]

    def text(self, value: int) -> str:
        return self.blob(value).decode()

    def fields(self, value: int) -> list[int]:
        """The values of an object or array, starting at index 1; [0] is 0."""
        if value == 0:
            return [0]
        kind, low = value >> 28, value & 0x0FFFFFFF
        if kind not in (13, 14) or low % 4:
            raise ValueError(f"not an object: {value:#x}")
        count = struct.unpack_from("<I", self.block, low)[0]
        return [0, *struct.unpack_from(f"<{count - 1}I", self.block, low + 4)]

    def field(self, value: int, number: int) -> int:
        fields = self.fields(value)
        return fields[number] if number < len(fields) else 0

    def acl(self, value: int) -> tuple[int, str, str]:
        return (
            self.int(self.field(value, 1)),
            self.text(self.field(value, 2)),
            self.text(self.field(value, 3)),
        )


def blocks(raw: bytes) -> list[tuple[int, bytes]]:
    """Type and content of each block; blocks are aligned to eight bytes."""
    found, place = [], 8
    while place < len(raw):
        word = struct.unpack_from("<I", raw, place)[0]
        kind, length = word >> 30, word & 0x3FFFFFFF
        found.append((kind, raw[place + 4 : place + length]))
        place += length + -length % 8
    if place != len(raw):
        raise ValueError("the last block is truncated")
    return found


def read(file: Path) -> Apk:
    packed = file.read_bytes()
    if packed[:4] != b"ADBd":
        raise ValueError("not deflated")
    raw = zlib.decompress(packed[4:], -15)
    if raw[:8] != b"ADB." + SCHEMA_PACKAGE:
        raise ValueError("not a package")
    (kind, block), *rest = blocks(raw)
    if kind != 0 or any(kind != 2 for kind, _ in rest):
        raise ValueError("not one block of values, then data")
    values = Values(block)
    info, paths, scripts = ([*values.fields(values.root()), 0, 0, 0])[1:4]
    contents = {}
    for _, payload in rest:
        contents[struct.unpack_from("<II", payload)] = payload[8:]
    folders, files = tree(values, paths, contents)
    if contents:
        raise ValueError(f"data without a file: {list(contents)}")
    named = enumerate(values.fields(scripts))
    return Apk(
        description(values, info),
        folders,
        files,
        {SCRIPTS[number - 1]: values.text(value) for number, value in named if value},
        is_identity_valid(values, info),
    )


def description(values: Values, info: int) -> dict:
    found = {}
    for number, value in enumerate(values.fields(info)):
        if not value:
            continue
        name = INFO[number - 1]
        if name in ("depends", "provides"):
            found[name] = [dependency(values, one) for one in values.fields(value)[1:]]
        elif name in ("installed-size", "provider-priority"):
            found[name] = values.int(value)
        elif name != "hashes":
            found[name] = values.text(value)
    return found


def dependency(values: Values, value: int) -> tuple[str, str]:
    return values.text(values.field(value, 1)), values.text(values.field(value, 2))


def is_identity_valid(values: Values, info: int) -> bool:
    """Whether the identity is the hash of the block with the identity zeroed."""
    place, length = values.blob_at(values.field(info, 3))
    blank = values.block[:place] + bytes(length) + values.block[place + length :]
    return hashlib.sha256(blank).digest()[:length] == values.block[place : place + length]


def tree(values: Values, paths: int, contents: dict) -> tuple[dict, dict]:
    folders, files = {}, {}
    for folder_number, folder in enumerate(values.fields(paths)):
        if folder_number == 0:
            continue
        path = values.text(values.field(folder, 1))
        folders[path] = values.acl(values.field(folder, 2))
        for number, file in enumerate(values.fields(values.field(folder, 3))):
            if number == 0:
                continue
            name = values.text(values.field(file, 1))
            data = contents.pop((folder_number, number), b"")
            if hashlib.sha256(data).digest() != values.blob(values.field(file, 5)):
                raise ValueError(f"{path}/{name} has a wrong hash")
            if len(data) != values.int(values.field(file, 3)):
                raise ValueError(f"{path}/{name} has a wrong length")
            acl = values.acl(values.field(file, 2))
            mtime = values.int(values.field(file, 4))
            files[f"{path}/{name}" if path else name] = File(*acl, mtime, data)
    return folders, files
