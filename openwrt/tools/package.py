"""A package before it becomes a file for opkg or apk: a description and a root directory.

The description is a directory with `control` (fields as in opkg's control files, without
Architecture), `conffiles` (one path per line, optional) and `postinst` (runs after OpenWrt's
default script, optional). All files belong to root:root.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path


def epoch() -> int:
    """The time stamp of all files, in seconds since 1970."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


@dataclass
class Entry:
    """A directory, a file or a symbolic link of the package."""

    path: str  # without leading slash; "" is the root
    mode: int
    data: bytes = b""  # of a file
    target: str = ""  # of a symbolic link

    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass
class Package:
    """A package without its architecture."""

    fields: dict[str, str]
    entries: list[Entry]  # sorted by path, each directory before its content
    conffiles: list[str]
    postinst: str

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def version(self) -> str:
        return self.fields["Version"]

    def names(self, field: str) -> list[str]:
        """The package names in a comma-separated field."""
        return [name.strip() for name in self.fields.get(field, "").split(",") if name.strip()]


def load(description: Path, root: Path) -> Package:
    """Reads the description and all files below `root`."""
    fields = {}
    for line in (description / "control").read_text().splitlines():
        name, _, value = line.partition(": ")
        fields[name] = value
    conffiles = optional(description / "conffiles").split()
    return Package(fields, entries(root), conffiles, optional(description / "postinst"))


def optional(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def entries(root: Path) -> list[Entry]:
    found = [root, *root.rglob("*")]
    return [entry(path, root) for path in sorted(found, key=lambda p: p.relative_to(root).parts)]


def entry(path: Path, root: Path) -> Entry:
    name = "" if path == root else path.relative_to(root).as_posix()
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Entry(name, stat.S_IFLNK | 0o777, target=os.readlink(path))
    if stat.S_ISDIR(mode):
        return Entry(name, stat.S_IFDIR | 0o755)
    if stat.S_ISREG(mode):
        # build.sh sets the permission bits.
        return Entry(name, stat.S_IFREG | stat.S_IMODE(mode), path.read_bytes())
    raise ValueError(f"not a file, directory or link: {path}")
