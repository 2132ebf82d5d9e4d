"""Runs mtbox from the installed package with the installed init script: natively on x86_64, and
under qemu-user as MIPS."""

import json
import platform
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

import builder
from managers import Apk, Opkg
from procd import Procd
from router import MTBOX, RouterTest

FRONT_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Front:
    """The front: a web site that unauthenticated clients are forwarded to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    @staticmethod
    def answer(client: socket.socket) -> None:
        with client:
            if client.recv(1000):
                client.sendall(FRONT_RESPONSE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Service:
    """Tests for all targets; `target` and `emulator` differ."""

    target: str
    emulator: str | None = None
    manager_kind = Opkg

    def setUp(self) -> None:
        program = builder.real_program(self.target, "mini")
        if not program.exists():
            self.skipTest(f"no {program}: run cross/build.sh")
        super().setUp()
        self.environment = {}
        if self.emulator:
            self.emulate()
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        builder.put_program(folder, self.target, "mini", program.read_bytes())
        out = builder.build(folder, folder / "out")
        kind = "ipk" if self.manager_kind is Opkg else "apk"
        (package,) = out.glob(f"{kind}/{self.architecture}/*.{kind}")
        self.manager_kind(self.router).install(package)
        self.front = Front()
        self.addCleanup(self.front.listener.close)
        self.port = free_port()
        self.configure()
        self.procd = Procd(self.router)
        self.addCleanup(self.procd.stop)

    def emulate(self) -> None:
        """Installs the emulator, and a script that runs mtbox under it."""
        emulator = shutil.which(self.emulator)
        if emulator is None:
            self.skipTest(f"no {self.emulator}: install qemu-user-static")
        self.router.copy(Path(emulator), "test/qemu")
        self.router.write("test/mtbox", '#!/bin/sh\nexec /test/qemu /usr/bin/mtbox "$@"\n')
        (self.router.root / "test/mtbox").chmod(0o755)
        self.environment = {"TEST_PROG": "/test/mtbox"}

    def configure(self, *more: str, users: str = "config user 'me'\n") -> None:
        lines = [
            "option enabled '1'",
            f"list bind_to '127.0.0.1:{self.port}'",
            "option host 'site.example'",
            "option domain_fronting_host '127.0.0.1'",
            f"option domain_fronting_port '{self.front.port}'",
            "option domain_fronting_scout '0'",
            "option network_public_ip_url ''",
            "option public_ipv4 '192.0.2.1'",
            *more,
        ]
        text = "config mtbox 'main'\n" + "".join(f"\t{line}\n" for line in lines) + "\n" + users
        self.router.write("etc/config/mtbox", text)

    def service(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.router.service(*words, check=check, **self.environment)

    def start(self) -> None:
        self.service("start")
        self.assertIn("command", self.procd.params(), self.router.read("tmp/log"))
        self.procd.update()
        self.procd.wait_for(lambda: self.service("stats", check=False).returncode == 0)

    def stats(self) -> dict:
        return json.loads(self.service("stats", "--json").stdout)

    def secrets(self) -> list[str]:
        lines = self.router.read("etc/config/mtbox").splitlines()
        return [line.split("'")[1] for line in lines if "option secret" in line]

    def test_it_drops_privileges_and_serves_the_front(self):
        self.start()
        self.assertEqual(set(self.stats()["users"]), {"me"})
        for identity in (self.procd.status("Uid"), self.procd.status("Gid")):
            self.assertEqual(set(identity), {str(MTBOX)})
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while chunk := client.recv(1000):
                answer += chunk
        self.assertEqual(answer, FRONT_RESPONSE)

    def test_a_reload_adds_a_user(self):
        self.start()
        before = self.secrets()
        text = self.router.read("etc/config/mtbox")
        self.router.write("etc/config/mtbox", text + "\nconfig user 'anna'\n")
        self.service("reload")
        self.procd.update()
        self.procd.wait_for(lambda: set(self.stats()["users"]) == {"me", "anna"})
        self.assertEqual(len(self.secrets()), 2)
        self.assertEqual(self.secrets()[0], before[0])
        self.assertIn("tg://", self.service("links", "--plain", "--user", "anna").stdout)

    def test_an_invalid_config_is_reported_and_changes_nothing(self):
        self.start()
        self.configure("option prefer_ip 'sideways'", users="config user 'other'\n")
        self.assertNotEqual(self.service("reload", check=False).returncode, 0)
        self.assertIn("option prefer_ip", self.router.read("tmp/log"))
        self.assertEqual(len(self.router.messages()), 2)  # installation and start
        self.assertEqual(set(self.stats()["users"]), {"me"})

    def test_an_upgrade_keeps_the_link(self):
        self.start()
        links = self.service("links").stdout
        self.procd.stop()
        self.start()
        self.assertEqual(self.service("links").stdout, links)

    def test_nothing_is_written_to_flash_while_it_runs(self):
        self.start()
        before = self.flash()
        self.stats()
        self.service("reload")
        self.procd.update()
        self.procd.stop()
        self.assertEqual(self.flash(), before)

    def flash(self) -> dict[str, tuple[float, int]]:
        """All files outside /tmp (RAM) with modification time and size."""
        root = self.router.root
        found = [path for path in root.rglob("*") if path.relative_to(root).parts[0] != "tmp"]
        return {
            str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
            for path in found
            if not path.is_dir()
        }


@unittest.skipUnless(platform.machine() == "x86_64", "not an x86_64 machine")
class Native(Service, RouterTest):
    target, architecture = "x86_64-unknown-linux-musl", "x86_64"


class Mipsel(Service, RouterTest):
    target, architecture = "mipsel-unknown-linux-musl", "mipsel_24kc"
    emulator = "qemu-mipsel-static"


class MipselByApk(Mipsel):
    manager_kind = Apk
