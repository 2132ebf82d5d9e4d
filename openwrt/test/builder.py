"""Runs build.sh for tests, with dummy or real binaries."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from router import OPENWRT, SOURCE

TARGETS = SOURCE / "cross" / "targets.tsv"
DIST = Path(os.environ.get("DIST", SOURCE / "dist"))
EPOCH = "1700000000"


def targets() -> dict[str, list[str]]:
    """Each Rust target with its OpenWrt architectures."""
    found = {}
    for line in TARGETS.read_text().splitlines():
        if line and not line.startswith("#"):
            columns = line.split("\t")
            found[columns[0]] = [] if columns[5] == "-" else columns[5].split(",")
    return found


def put_program(dist: Path, target: str, flavour: str, data: bytes) -> None:
    file = dist / target / flavour / "mtbox"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def copy_source(to: Path) -> None:
    """Copies everything that build.sh reads, for tests that modify it."""
    for file in ("Cargo.toml", "cross/targets.tsv"):
        (to / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / file, to / file)
    for folder in ("mtbox", "tools"):
        shutil.copytree(OPENWRT / folder, to / "openwrt" / folder)
    shutil.copy(OPENWRT / "build.sh", to / "openwrt")


def build(dist: Path, out: Path, version: str = "1.2.3-r4", source: Path = SOURCE) -> Path:
    subprocess.run(
        ["bash", source / "openwrt/build.sh", version],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DIST": str(dist),
            "OUT": str(out),
            "SOURCE_DATE_EPOCH": EPOCH,
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return out


def real_program(target: str, flavour: str) -> Path:
    """The path of a binary that cross/build.sh makes; it may not exist."""
    return DIST / target / flavour / "mtbox"
