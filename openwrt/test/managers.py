"""Models of opkg and apk, which Debian does not package: the order of package scripts and the
handling of config files, as in opkg_install.c (opkg-lede) and apk_db_install_pkg (apk-tools 3)."""

import hashlib
import json
import os
from pathlib import Path

from formats import apk, ipk
from router import Router


class Manager:
    """Common part: a database of the installed files with their hashes."""

    database: str  # path of the JSON file of a package
    new_suffix: str  # of a new default config beside a changed one

    def __init__(self, router: Router) -> None:
        self.router = router

    def installed(self, name: str) -> dict[str, str]:
        """The files of a package with their original hashes; empty if it is not installed."""
        return json.loads(self.router.read(self.database.format(name)) or "{}")

    def is_changed(self, path: str, original: str) -> bool:
        file = self.router.root / path
        return file.exists() and sha256(file.read_bytes()) != original

    def place(self, name: str, files: dict[str, tuple[int, bytes]], conffiles: list[str]) -> None:
        """Extracts files, and removes files that the package no longer contains."""
        old = self.installed(name)
        for path, (mode, data) in files.items():
            target = path
            if path in conffiles and self.is_changed(path, sha256(data)):
                if path not in old or self.is_changed(path, old[path]):
                    target = path + self.new_suffix
            self.extract(target, mode, data)
        for path in set(old) - set(files):
            self.router.delete(path)
        sums = {path: sha256(data) for path, (_, data) in files.items()}
        self.router.write(self.database.format(name), json.dumps(sums))

    def extract(self, path: str, mode: int, data: bytes) -> None:
        file = self.router.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # Replaces the file: a running program cannot be overwritten.
        temporary = file.with_name(file.name + ".tmp")
        temporary.write_bytes(data)
        temporary.chmod(mode)
        os.rename(temporary, file)

    def remove_files(self, name: str, conffiles: list[str]) -> None:
        for path, original in self.installed(name).items():
            if path not in conffiles or not self.is_changed(path, original):
                self.router.delete(path)
        self.router.delete(self.database.format(name))


class Opkg(Manager):
    database = "usr/lib/opkg/info/{}.sums"
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
        self.place(name, files, self.conffiles(read.about_data.get("conffiles", b"")))
        for about, info in read.about.items():
            self.extract(f"{self.info}/{name}.{about}", info.mode, read.about_data[about])
        listed = "".join(f"/{path}\n" for path in files)
        self.router.write(f"{self.info}/{name}.list", listed)
        self.script(name, "postinst", "configure", upgrade)

    def remove(self, name: str) -> None:
        self.script(name, "prerm", "remove", {})
        listed = self.router.read(f"{self.info}/{name}.conffiles").encode()
        self.remove_files(name, self.conffiles(listed))
        for file in (self.router.root / self.info).glob(f"{name}.*"):
            file.unlink()

    def script(self, name: str, which: str, argument: str, environment: dict[str, str]) -> None:
        path = f"/{self.info}/{name}.{which}"
        self.router.run(path, *argument.split(), **environment)

    @staticmethod
    def conffiles(data: bytes) -> list[str]:
        return [line.removeprefix("/") for line in data.decode().split()]

    def changed_conffiles(self) -> list[str]:
        """The output of `opkg list-changed-conffiles`, which sysupgrade uses."""
        found = []
        for file in (self.router.root / self.info).glob("*.conffiles"):
            sums = self.installed(file.stem)
            for path in self.conffiles(file.read_bytes()):
                if self.is_changed(path, sums[path]):
                    found.append(path)
        return found


class Apk(Manager):
    database = "lib/apk/db/{}.sums"
    new_suffix = ".apk-new"

    def install(self, file: Path) -> None:
        read = apk.read(file)
        name = read.info["name"]
        old = self.installed(name)
        files = {path: (file.mode, file.data) for path, file in read.files.items()}
        # apk protects all files in /etc.
        self.place(name, files, [path for path in files if path.startswith("etc/")])
        self.router.write(f"lib/apk/db/{name}.scripts", json.dumps(read.scripts))
        self.script(name, "post-upgrade" if old else "post-install")

    def remove(self, name: str) -> None:
        self.script(name, "pre-deinstall")
        listed = [path for path in self.installed(name) if path.startswith("etc/")]
        self.remove_files(name, listed)
        self.router.delete(f"lib/apk/db/{name}.scripts")

    def script(self, name: str, which: str) -> None:
        text = json.loads(self.router.read(f"lib/apk/db/{name}.scripts"))[which]
        self.router.write("tmp/apk-script", text)
        self.router.run("/bin/sh", "/tmp/apk-script")
        self.router.delete("tmp/apk-script")

    def changed_conffiles(self) -> list[str]:
        """The paths in conffiles_static whose hash has changed, as sysupgrade finds them."""
        found = []
        for file in (self.router.root / "lib/apk/packages").glob("*.conffiles_static"):
            for line in file.read_text().splitlines():
                path, original = line.removeprefix("/").split(" ")
                if self.is_changed(path, original):
                    found.append(path)
        return found


def kept_by_sysupgrade(manager: Manager) -> set[str]:
    """The files that sysupgrade keeps: changed config files, and everything listed in keep.d."""
    root = manager.router.root
    kept = set(manager.changed_conffiles())
    for listed in (root / "lib/upgrade/keep.d").glob("*"):
        for line in listed.read_text().split():
            below = root / line.removeprefix("/")
            kept |= {str(f.relative_to(root)) for f in [below, *below.rglob("*")] if f.is_file()}
    return kept


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
