"""A chroot that models a router: busybox, and stubs for OpenWrt's scripts."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).parent
OPENWRT = HERE.parent
SOURCE = OPENWRT.parent
FILES = OPENWRT / "mtbox" / "files"
MTBOX = 5443  # user and group, by number


def missing() -> str:
    """A requirement of the chroot that is missing; empty if all are met."""
    if os.geteuid() != 0:
        return "chroot needs root"
    return "" if shutil.which("busybox") else "busybox is not installed"


@unittest.skipIf(missing(), missing())
class RouterTest(unittest.TestCase):
    """A test with its own router."""

    def setUp(self) -> None:
        self.router = Router(Path(self.enterContext(tempfile.TemporaryDirectory())))


class Router:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)
        for folder in ["bin", "dev", "etc/config", "etc/init.d", "proc/net", "tmp", "usr/bin"]:
            (root / folder).mkdir(parents=True)
        (root / "var").symlink_to("tmp")
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/ash\n")
        self.write("etc/group", "root:x:0:\n")
        self.write("tmp/resolv.conf", "nameserver 127.0.0.1\n")
        (root / "etc/resolv.conf").symlink_to("/tmp/resolv.conf")
        self.add_device()
        self.add_busybox()
        for file in HERE.glob("stubs/*/**/*"):
            if file.is_file():
                self.copy(file, str(file.relative_to(HERE / "stubs")))

    def add_device(self) -> None:
        os.mknod(self.root / "dev/null", 0o020666, os.makedev(1, 3))
        (self.root / "dev/null").chmod(0o666)

    def add_busybox(self) -> None:
        busybox = Path(shutil.which("busybox")).resolve()
        self.copy(busybox, "bin/busybox")
        for library in libraries(busybox):
            self.copy(Path(library), library[1:])
        applets = subprocess.check_output([busybox, "--list"], text=True).split()
        for applet in applets:
            if applet not in ("busybox", "logger"):
                (self.root / "bin" / applet).symlink_to("busybox")

    def add_user(self) -> None:
        """Adds the service user, as the installation of the package does."""
        for file, fields in (("etc/passwd", f"{MTBOX}:{MTBOX}:::"), ("etc/group", f"{MTBOX}:")):
            self.write(file, self.read(file) + f"mtbox:x:{fields}\n")

    def copy(self, source: Path, to: str) -> None:
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, self.root / to)

    def read(self, path: str) -> str:
        """The content of a file; empty if it does not exist."""
        file = self.root / path
        return file.read_text() if file.exists() else ""

    def write(self, path: str, text: str) -> None:
        self.delete(path)  # never write through a link
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def delete(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)

    def command(self, *words: str) -> list[str]:
        return ["chroot", str(self.root), *words]

    def run(self, *words: str, check: bool = True, **environment: str):
        """Runs a program in the chroot; with `check`, a non-zero exit code fails the test."""
        done = subprocess.run(
            self.command(*words),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{words}: exit code {done.returncode}: {done.stderr}")
        return done

    def service(self, *words: str, check: bool = True, **environment: str):
        return self.run("/etc/init.d/mtbox", *words, check=check, **environment)

    def messages(self) -> list[list[list[str]]]:
        """All messages to procd: a message is a list of calls, a call a list of words."""
        found, message = [], []
        for line in self.read("tmp/procd").splitlines():
            if line == "set":
                found.append(message)
                message = []
            else:
                message.append(line.split("\t"))
        return found

    def sha256(self, path: str) -> str:
        return hashlib.sha256((self.root / path).read_bytes()).hexdigest()


def libraries(program: Path) -> list[str]:
    """The shared libraries of a program; empty if it is static."""
    output = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return [word for word in output.split() if word.startswith("/")]
