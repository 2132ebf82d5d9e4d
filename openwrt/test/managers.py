"""opkg and apk, as far as a package can tell: which script runs when, and what becomes of files
that hold settings. Neither can be had from a registry of this platform, so their order of steps is
followed here (opkg_install.c of opkg-lede; apk_db_install_pkg of apk-tools 3)."""

import hashlib
import json
import os
from pathlib import Path

from formats import apk, ipk
from router import Router


class Manager:
    """What the two have in common: a record of which file belongs to whom, with sums."""

    record: str
    new_suffix: str  # of a default config that does not replace the owner's

    def __init__(self, router: Router) -> None:
        self.router = router

    def installed(self, name: str) -> dict[str, str]:
        """Files of a package, with the sums that they came with; nothing if it is not there."""
        return json.loads(self.router.read(self.record.format(name)) or "{}")

    def is_changed(self, path: str, came_with: str) -> bool:
        file = self.router.root / path
        return file.exists() and sha256(file.read_bytes()) != came_with

    def place(self, name: str, files: dict[str, tuple[int, bytes]], settings: list[str]) -> None:
        """Puts files where they belong, takes away those that the package no longer has."""
        old = self.installed(name)
        for path, (mode, data) in files.items():
            target = path
            if path in settings and self.is_changed(path, sha256(data)):
                if path not in old or self.is_changed(path, old[path]):
                    target = path + self.new_suffix
            self.extract(target, mode, data)
        for path in set(old) - set(files):
            self.router.forget(path)
        sums = {path: sha256(data) for path, (_, data) in files.items()}
        self.router.write(self.record.format(name), json.dumps(sums))

    def extract(self, path: str, mode: int, data: bytes) -> None:
        file = self.router.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # A program that runs is not written over, but replaced.
        fresh = file.with_name(file.name + ".fresh")
        fresh.write_bytes(data)
        fresh.chmod(mode)
        os.rename(fresh, file)

    def take_away(self, name: str, settings: list[str]) -> None:
        for path, came_with in self.installed(name).items():
            if path not in settings or not self.is_changed(path, came_with):
                self.router.forget(path)
        self.router.forget(self.record.format(name))


class Opkg(Manager):
    record = "usr/lib/opkg/info/{}.sums"
    new_suffix = "-opkg"
    info = "usr/lib/opkg/info"

    def install(self, file: Path) -> None:
        read = ipk.read(file)
        name = read.control["Package"]
        for other in read.control.get("Conflicts", "").split(", "):
            if other and self.installed(other):
                raise FileExistsError(f"{name} conflicts with {other}")
        upgrade = {"PKG_UPGRADE": "1" if self.installed(name) else "0"}
        if self.installed(name):
            self.script(name, "prerm", f"upgrade {read.control['Version']}", upgrade)
        files = {
            path: (info.mode, read.data[path])
            for path, info in read.files.items()
            if info.isfile()
        }
        self.place(name, files, self.settings(read.about_data.get("conffiles", b"")))
        for about, info in read.about.items():
            self.extract(f"{self.info}/{name}.{about}", info.mode, read.about_data[about])
        listed = "".join(f"/{path}\n" for path in files)
        self.router.write(f"{self.info}/{name}.list", listed)
        self.script(name, "postinst", "configure", upgrade)

    def remove(self, name: str) -> None:
        self.script(name, "prerm", "remove", {})
        listed = self.router.read(f"{self.info}/{name}.conffiles").encode()
        self.take_away(name, self.settings(listed))
        for file in (self.router.root / self.info).glob(f"{name}.*"):
            file.unlink()

    def script(self, name: str, which: str, argument: str, environment: dict[str, str]) -> None:
        path = f"/{self.info}/{name}.{which}"
        self.router.run(path, *argument.split(), **environment)

    @staticmethod
    def settings(conffiles: bytes) -> list[str]:
        return [line.removeprefix("/") for line in conffiles.decode().split()]

    def changed_settings(self) -> list[str]:
        """`opkg list-changed-conffiles`, which sysupgrade asks."""
        found = []
        for file in (self.router.root / self.info).glob("*.conffiles"):
            sums = self.installed(file.stem)
            for path in self.settings(file.read_bytes()):
                if self.is_changed(path, sums[path]):
                    found.append(path)
        return found


class Apk(Manager):
    record = "lib/apk/db/{}.sums"
    new_suffix = ".apk-new"

    def install(self, file: Path) -> None:
        read = apk.read(file)
        name = read.info["name"]
        old = self.installed(name)
        files = {path: (file.mode, file.data) for path, file in read.files.items()}
        # apk protects all of /etc.
        self.place(name, files, [path for path in files if path.startswith("etc/")])
        self.router.write(f"lib/apk/db/{name}.scripts", json.dumps(read.scripts))
        self.script(name, "post-upgrade" if old else "post-install")

    def remove(self, name: str) -> None:
        self.script(name, "pre-deinstall")
        listed = [path for path in self.installed(name) if path.startswith("etc/")]
        self.take_away(name, listed)
        self.router.forget(f"lib/apk/db/{name}.scripts")

    def script(self, name: str, which: str) -> None:
        text = json.loads(self.router.read(f"lib/apk/db/{name}.scripts"))[which]
        self.router.write("tmp/apk-script", text)
        self.router.run("/bin/sh", "/tmp/apk-script")
        self.router.forget("tmp/apk-script")

    def changed_settings(self) -> list[str]:
        """What sysupgrade finds in conffiles_static: paths whose sums no longer hold."""
        found = []
        for file in (self.router.root / "lib/apk/packages").glob("*.conffiles_static"):
            for line in file.read_text().splitlines():
                path, came_with = line.removeprefix("/").split(" ")
                if self.is_changed(path, came_with):
                    found.append(path)
        return found


def kept_by_sysupgrade(manager: Manager) -> set[str]:
    """The files that survive a new firmware: changed settings, and whatever is below keep.d."""
    root = manager.router.root
    kept = set(manager.changed_settings())
    for listed in (root / "lib/upgrade/keep.d").glob("*"):
        for line in listed.read_text().split():
            below = root / line.removeprefix("/")
            kept |= {str(f.relative_to(root)) for f in [below, *below.rglob("*")] if f.is_file()}
    return kept


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
