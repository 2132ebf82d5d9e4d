"""Reads an opkg package: a tar.gz of debian-binary, data.tar.gz and control.tar.gz."""

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Ipk:
    order: list[str]  # of the three parts
    control: dict[str, str]
    about: dict[str, tarfile.TarInfo]  # the files beside `control`, by name
    about_data: dict[str, bytes]
    files: dict[str, tarfile.TarInfo]  # the payload, by path without ./
    data: dict[str, bytes]
    unpacked_size: int  # of data.tar, bytes


def read(file: Path) -> Ipk:
    outer, parts = unpack(file.read_bytes())
    if parts["debian-binary"] != b"2.0\n":
        raise ValueError("not version 2.0")
    about, about_data = unpack(parts["control.tar.gz"])
    files, data = unpack(parts["data.tar.gz"])
    lines = about_data["control"].decode().splitlines()
    control = dict(line.split(": ", 1) for line in lines)
    size = len(gzip.decompress(parts["data.tar.gz"]))
    return Ipk(list(outer), control, about, about_data, files, data, size)


def unpack(raw: bytes) -> tuple[dict[str, tarfile.TarInfo], dict[str, bytes]]:
    infos, data = {}, {}
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as archive:
        for info in archive:
            if info.name != "." and not info.name.startswith("./"):
                raise ValueError(f"opkg expects ./{info.name}")
            name = info.name.removeprefix(".").removeprefix("/")
            infos[name] = info
            if info.isfile():
                data[name] = archive.extractfile(info).read()
    return infos, data
