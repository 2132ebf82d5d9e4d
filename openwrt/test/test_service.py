"""The real program, from the installed package, started by the installed init script: natively on
x86_64, under qemu-user as MIPS."""

import json
import platform
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

import built
from managers import Apk, Opkg
from procd import Procd
from router import MTBOX, RouterTest

SITE_SAYS = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Site:
    """Stands for the web site that strangers are sent to."""

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
                client.sendall(SITE_SAYS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Service:
    """The same on every machine; `target` and `emulator` differ."""

    target: str
    emulator: str | None = None
    manager_kind = Opkg

    def setUp(self) -> None:
        program = built.real_program(self.target, "mini")
        if not program.exists():
            self.skipTest(f"no {program}; cross/build.sh makes it")
        super().setUp()
        self.environment = {}
        if self.emulator:
            self.emulate()
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        built.put_program(folder, self.target, "mini", program.read_bytes())
        out = built.build(folder, folder / "out")
        kind = "ipk" if self.manager_kind is Opkg else "apk"
        (package,) = out.glob(f"{kind}/{self.architecture}/*.{kind}")
        self.manager_kind(self.router).install(package)
        self.site = Site()
        self.addCleanup(self.site.listener.close)
        self.port = free_port()
        self.configure()
        self.procd = Procd(self.router)
        self.addCleanup(self.procd.stop)

    def emulate(self) -> None:
        """Puts the emulator into the router, and a program that runs ours under it."""
        emulator = shutil.which(self.emulator)
        if emulator is None:
            self.skipTest(f"no {self.emulator}; the package qemu-user-static brings it")
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
            f"option domain_fronting_port '{self.site.port}'",
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
        self.procd.obey()
        self.procd.wait_for(lambda: self.service("stats", check=False).returncode == 0)

    def stats(self) -> dict:
        return json.loads(self.service("stats", "--json").stdout)

    def secrets(self) -> list[str]:
        lines = self.router.read("etc/config/mtbox").splitlines()
        return [line.split("'")[1] for line in lines if "option secret" in line]

    def test_it_answers_drops_its_rights_and_gives_strangers_the_site(self):
        self.start()
        self.assertEqual(set(self.stats()["users"]), {"me"})
        for identity in (self.procd.status("Uid"), self.procd.status("Gid")):
            self.assertEqual(set(identity), {str(MTBOX)})
        with socket.create_connection(("127.0.0.1", self.port), 10) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while piece := stranger.recv(1000):
                answer += piece
        self.assertEqual(answer, SITE_SAYS)

    def test_a_person_is_added_while_it_runs(self):
        self.start()
        mine = self.secrets()
        text = self.router.read("etc/config/mtbox")
        self.router.write("etc/config/mtbox", text + "\nconfig user 'anna'\n")
        self.service("reload")
        self.procd.obey()
        self.procd.wait_for(lambda: set(self.stats()["users"]) == {"me", "anna"})
        self.assertEqual(len(self.secrets()), 2)
        self.assertEqual(self.secrets()[0], mine[0])
        self.assertIn("tg://", self.service("links", "--plain", "--user", "anna").stdout)

    def test_a_mistake_changes_nothing_and_is_named(self):
        self.start()
        self.configure("option prefer_ip 'sideways'", users="config user 'other'\n")
        self.assertNotEqual(self.service("reload", check=False).returncode, 0)
        self.assertIn("option prefer_ip", self.router.read("tmp/log"))
        self.assertEqual(len(self.router.messages()), 2)  # at the installation, at the start
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
        self.procd.obey()
        self.procd.stop()
        self.assertEqual(self.flash(), before)

    def flash(self) -> dict[str, tuple[float, int]]:
        """Every file outside /tmp, which is RAM, with its time and size."""
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
