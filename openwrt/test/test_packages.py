"""Reads the packages back: all architectures, both flavours, both formats."""

import gzip
import hashlib
import json
import tempfile
import unittest
from pathlib import Path

import builder
from formats import apk, ipk
from router import FILES

VERSION = "1.2.3-r4"
PAYLOAD = {
    "usr/bin/mtbox": 0o755,
    "etc/init.d/mtbox": 0o755,
    "etc/config/mtbox": 0o600,
    "etc/capabilities/mtbox.json": 0o644,
    "etc/uci-defaults/80-mtbox": 0o755,
    "lib/upgrade/keep.d/mtbox": 0o644,
}
SOURCES = {
    "etc/init.d/mtbox": "mtbox.init",
    "etc/config/mtbox": "mtbox.config",
    "etc/capabilities/mtbox.json": "mtbox.capabilities.json",
    "etc/uci-defaults/80-mtbox": "mtbox.defaults",
    "lib/upgrade/keep.d/mtbox": "mtbox.keep",
}
NAMES = {"full": "mtbox", "mini": "mtbox-mini"}


def program(target: str, flavour: str) -> bytes:
    """A dummy binary, different for each target and flavour."""
    return f"{target} {flavour} ".encode() * 500


def setUpModule() -> None:
    """Builds all packages once for this module."""
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory()))
    targets = builder.targets()
    for target in targets:
        for flavour in NAMES:
            builder.put_program(folder / "dist", target, flavour, program(target, flavour))
    PackagesTest.folder, PackagesTest.targets = folder, targets
    PackagesTest.out = builder.build(folder / "dist", folder / "out")


class PackagesTest(unittest.TestCase):
    """All packages of one build."""

    folder: Path
    targets: dict[str, list[str]]
    out: Path

    def each(self):
        """Target, flavour, architecture."""
        for target, architectures in self.targets.items():
            for flavour in NAMES:
                for architecture in architectures:
                    with self.subTest(flavour=flavour, architecture=architecture):
                        yield target, flavour, architecture

    def ipk_file(self, flavour: str, architecture: str) -> Path:
        name = f"{NAMES[flavour]}_{VERSION}_{architecture}.ipk"
        return self.out / "ipk" / architecture / name

    def apk_file(self, flavour: str, architecture: str) -> Path:
        return self.out / "apk" / architecture / f"{NAMES[flavour]}-{VERSION}.apk"


class Ipk(PackagesTest):
    def test_each_has_its_name_and_the_right_binary(self):
        for target, flavour, architecture in self.each():
            read = ipk.read(self.ipk_file(flavour, architecture))
            self.assertEqual(read.order, ["debian-binary", "data.tar.gz", "control.tar.gz"])
            self.assertEqual(read.control["Package"], NAMES[flavour])
            self.assertEqual(read.control["Version"], VERSION)
            self.assertEqual(read.control["Architecture"], architecture)
            self.assertEqual(read.control["Require-User"], "mtbox=5443:mtbox=5443")
            self.assertEqual(int(read.control["Installed-Size"]), read.unpacked_size)
            self.assertEqual(read.data["usr/bin/mtbox"], program(target, flavour))
            files = {path for path, info in read.files.items() if info.isfile()}
            self.assertEqual(files, set(PAYLOAD))

    def test_modes_owners_and_times(self):
        read = ipk.read(self.ipk_file("mini", "mipsel_24kc"))
        for path, info in [*read.files.items(), *read.about.items()]:
            owner = (info.uid, info.gid, info.uname, info.gname)
            self.assertEqual(owner, (0, 0, "", ""), path)
            self.assertEqual(info.mtime, int(builder.EPOCH), path)
            if info.isdir():
                self.assertEqual(info.mode, 0o755, path)
        for path, mode in PAYLOAD.items():
            self.assertEqual(read.files[path].mode, mode, path)
        for script in ("postinst", "postinst-pkg", "prerm"):
            self.assertEqual(read.about[script].mode, 0o755, script)

    def test_directories_come_before_their_files(self):
        seen = set()
        for path, info in ipk.read(self.ipk_file("full", "x86_64")).files.items():
            parent = path.rpartition("/")[0]
            self.assertTrue(path == "" or parent in seen, path)
            if info.isdir():
                seen.add(path)

    def test_the_flavours_conflict_and_both_provide_mtbox(self):
        full = ipk.read(self.ipk_file("full", "x86_64")).control
        mini = ipk.read(self.ipk_file("mini", "x86_64")).control
        self.assertEqual(full["Conflicts"], "mtbox-mini")
        self.assertEqual((mini["Conflicts"], mini["Provides"]), ("mtbox", "mtbox"))

    def test_conffiles_are_declared(self):
        read = ipk.read(self.ipk_file("mini", "x86_64"))
        self.assertEqual(read.about_data["conffiles"], b"/etc/config/mtbox\n")

    def test_the_feed_lists_all_packages(self):
        for architecture in sum(self.targets.values(), []):
            folder = self.out / "ipk" / architecture
            index = (folder / "Packages").read_bytes()
            self.assertEqual(gzip.decompress((folder / "Packages.gz").read_bytes()), index)
            listed = {}
            for paragraph in index.decode().strip().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in paragraph.splitlines())
                listed[fields["Filename"]] = fields
            self.assertEqual(set(listed), {file.name for file in folder.glob("*.ipk")})
            for name, fields in listed.items():
                data = (folder / name).read_bytes()
                self.assertEqual(int(fields["Size"]), len(data))
                self.assertEqual(fields["SHA256sum"], hashlib.sha256(data).hexdigest())
                self.assertIn(fields["Package"], NAMES.values())


class Apk(PackagesTest):
    def test_each_has_its_name_and_the_right_binary(self):
        for target, flavour, architecture in self.each():
            read = apk.read(self.apk_file(flavour, architecture))
            self.assertEqual(read.info["name"], NAMES[flavour])
            self.assertEqual(read.info["version"], VERSION)
            self.assertEqual(read.info["arch"], architecture)
            self.assertTrue(read.is_identity_valid)
            self.assertEqual(read.files["usr/bin/mtbox"].data, program(target, flavour))

    def test_modes_owners_and_times(self):
        read = apk.read(self.apk_file("mini", "mipsel_24kc"))
        for path, rights in read.folders.items():
            self.assertEqual(rights, (0o755, "root", "root"), path)
        for path, file in read.files.items():
            self.assertEqual((file.user, file.group), ("root", "root"), path)
            self.assertEqual(file.mtime, int(builder.EPOCH), path)
        for path, mode in PAYLOAD.items():
            self.assertEqual(read.files[path].mode, mode, path)
        self.assertEqual(
            read.info["installed-size"], sum(len(file.data) for file in read.files.values())
        )

    def test_both_provide_mtbox_and_only_mini_by_a_versioned_name(self):
        full = apk.read(self.apk_file("full", "x86_64")).info
        mini = apk.read(self.apk_file("mini", "x86_64")).info
        self.assertNotIn("provides", full)
        self.assertEqual(mini["provides"], [("mtbox", VERSION)])
        self.assertGreater(full["provider-priority"], mini.get("provider-priority", 0))

    def test_metadata_that_opkg_stores_is_in_the_payload(self):
        for flavour, name in NAMES.items():
            read = apk.read(self.apk_file(flavour, "mips_24kc"))
            own = {
                path.removeprefix(f"lib/apk/packages/{name}."): file.data.decode()
                for path, file in read.files.items()
                if path.startswith("lib/apk/packages/")
            }
            self.assertEqual(set(own), {"list", "rusers", "conffiles", "conffiles_static"})
            rusers = f"/lib/apk/packages/{name}.rusers"
            listed = sorted([*(f"/{path}" for path in PAYLOAD), rusers])
            self.assertEqual(own["list"].splitlines(), listed)
            self.assertEqual(own["rusers"], "mtbox=5443:mtbox=5443\n")
            self.assertEqual(own["conffiles"], "/etc/config/mtbox\n")
            config = (FILES / "mtbox.config").read_bytes()
            self.assertEqual(
                own["conffiles_static"],
                f"/etc/config/mtbox {hashlib.sha256(config).hexdigest()}\n",
            )

    def test_scripts_name_their_package(self):
        for flavour, name in NAMES.items():
            scripts = apk.read(self.apk_file(flavour, "x86_64")).scripts
            self.assertEqual(set(scripts), {"post-install", "pre-deinstall", "post-upgrade"})
            for script in scripts.values():
                self.assertIn(f'export pkgname="{name}"\n', script)
                self.assertTrue(script.startswith("#!/bin/sh\n"))
            self.assertNotIn("PKG_UPGRADE=1", scripts["post-install"])
            self.assertIn("export PKG_UPGRADE=1\n", scripts["post-upgrade"])


class Both(PackagesTest):
    def test_both_formats_have_the_same_files(self):
        for _, flavour, architecture in self.each():
            by_opkg = ipk.read(self.ipk_file(flavour, architecture))
            by_apk = apk.read(self.apk_file(flavour, architecture))
            for path in PAYLOAD:
                self.assertEqual(by_opkg.data[path], by_apk.files[path].data, path)
                self.assertEqual(by_opkg.files[path].mode, by_apk.files[path].mode, path)

    def test_the_packed_files_are_the_source_files(self):
        read = ipk.read(self.ipk_file("mini", "x86_64"))
        for path, name in SOURCES.items():
            self.assertEqual(read.data[path], (FILES / name).read_bytes(), path)

    def test_the_same_input_makes_the_same_bytes(self):
        again = builder.build(self.folder / "dist", self.folder / "again")
        files = {path.relative_to(self.out) for path in self.out.rglob("*") if path.is_file()}
        self.assertGreater(len(files), 100)
        self.assertEqual(
            files, {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
        )
        for file in files:
            self.assertEqual((self.out / file).read_bytes(), (again / file).read_bytes(), file)

    def test_the_service_has_only_the_capability_that_it_needs(self):
        rights = json.loads((FILES / "mtbox.capabilities.json").read_text())
        kinds = {"bounding", "effective", "ambient", "permitted", "inheritable"}
        self.assertEqual(rights, {kind: ["CAP_NET_BIND_SERVICE"] for kind in kinds})


class Size(unittest.TestCase):
    # Bytes. The goal is 330,000; docs/SIZE.md explains the difference. It was 463,000 before the
    # accounts of memory, and 475,000 before mtbox told faults of its neighbours and of the config
    # apart, and looked like a web server to the end of a handshake.
    LIMIT = 520_000

    def test_mini_for_mipsel_is_within_its_limit(self):
        program = builder.real_program("mipsel-unknown-linux-musl", "mini")
        if not program.exists():
            self.skipTest(f"no {program}: run cross/build.sh")
        with tempfile.TemporaryDirectory() as folder:
            dist = Path(folder, "dist")
            builder.put_program(dist, "mipsel-unknown-linux-musl", "mini", program.read_bytes())
            out = builder.build(dist, Path(folder, "out"))
            packages = [*out.glob("*/mipsel_24kc/mtbox-mini*")]
            self.assertEqual(len(packages), 2)
            for package in packages:
                print(f"{package.name}: {package.stat().st_size} bytes")
                self.assertLessEqual(package.stat().st_size, self.LIMIT, package.name)
