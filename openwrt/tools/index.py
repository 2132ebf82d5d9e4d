#!/usr/bin/env python3
"""Makes directories of .ipk files into opkg feeds: writes `Packages` and `Packages.gz`, unsigned.

    index.py DIRECTORY...

Sign with `usign -S -m Packages -s KEY` and install the public key in /etc/opkg/keys on the routers.
"""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path


def member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        return files.extractfile(name).read()


def paragraph(file: Path) -> str:
    """The control fields of a package, with name, size and hash of the file."""
    data = file.read_bytes()
    control = member(member(data, "./control.tar.gz"), "./control").decode()
    fields, description = control.split("Description: ", 1)
    return (
        f"{fields}Filename: {file.name}\nSize: {len(data)}\n"
        f"SHA256sum: {hashlib.sha256(data).hexdigest()}\nDescription: {description}"
    )


for folder in map(Path, sys.argv[1:]):
    index = "\n".join(paragraph(file) for file in sorted(folder.glob("*.ipk"))).encode()
    (folder / "Packages").write_bytes(index)
    (folder / "Packages.gz").write_bytes(gzip.compress(index, 9, mtime=0))
