"""Packages made by build.sh, for tests: of programs that are not programs, or of real ones."""

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
    """Each target with OpenWrt's names of the architectures that it serves."""
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
    """All that build.sh reads, for a test that changes it."""
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
    """What cross/build.sh made, whether it is there or not."""
    return DIST / target / flavour / "mtbox"
