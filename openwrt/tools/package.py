"""What a package is, before it becomes a file for opkg or apk: a description and a folder.

The description is a folder with `control` (fields as in opkg's control files, without
Architecture), `conffiles` (one path per line, may be absent) and `postinst` (what our own package
does after OpenWrt's default, may be absent). Everything belongs to root:root.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path


def epoch() -> int:
    """When everything was made, seconds since 1970: the same for the same source."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


@dataclass
class Entry:
    """A folder, a file or a symbolic link of the package."""

    path: str  # without the slash in front; "" is the root
    mode: int
    data: bytes = b""  # of a file
    target: str = ""  # of a symbolic link

    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass
class Package:
    """A package for no architecture in particular."""

    fields: dict[str, str]
    entries: list[Entry]  # sorted by path, each folder before what is in it
    conffiles: list[str]
    postinst: str

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def version(self) -> str:
        return self.fields["Version"]

    def names(self, field: str) -> list[str]:
        """A field that lists packages between commas."""
        return [name.strip() for name in self.fields.get(field, "").split(",") if name.strip()]


def load(description: Path, root: Path) -> Package:
    """Reads the description and everything below `root`."""
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
        # Of the rights on disk only this counts: may it be run? A secret config is 0600.
        return Entry(name, stat.S_IFREG | stat.S_IMODE(mode), path.read_bytes())
    raise ValueError(f"neither file nor folder nor link: {path}")
