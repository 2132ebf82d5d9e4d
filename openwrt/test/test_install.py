"""Installs, upgrades and removes packages that contain a stub for mtbox, in a model of a router."""

import functools
import subprocess
import tempfile
import unittest
from pathlib import Path

import builder
from managers import Apk, Manager, Opkg, kept_by_sysupgrade
from router import FILES, HERE, MTBOX, Router, RouterTest

OLD, NEW = "1.2.3-r4", "1.2.3-r10"
TARGET = "x86_64-unknown-linux-musl"


def setUpModule() -> None:
    """Builds two versions of both flavours."""
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory()))
    program = (HERE / "stubs/mtbox").read_bytes()
    for version in (OLD, NEW):
        for flavour in ("full", "mini"):
            data = program + f"# {version}\n".encode()
            builder.put_program(folder / version, TARGET, flavour, data)
        builder.build(folder / version, folder / version / "out", version)
    InstallTest.packages = folder


@functools.cache
def release_with_another_default() -> Path:
    """Packages with one more option in the default config."""
    source = InstallTest.packages / "source"
    builder.copy_source(source)
    with (source / "openwrt/mtbox/files/mtbox.config").open("a") as config:
        config.write("\toption new_option '1'\n")
    program = InstallTest.packages / NEW
    return builder.build(program, InstallTest.packages / "changed", "9.9.9-r1", source)


class InstallTest(RouterTest):
    packages: Path
    manager: Manager

    def file(self, version: str, flavour: str = "mini") -> Path:
        name = "mtbox" if flavour == "full" else "mtbox-mini"
        out = self.packages / version / "out"
        if isinstance(self.manager, Opkg):
            return out / "ipk/x86_64" / f"{name}_{version}_x86_64.ipk"
        return out / "apk/x86_64" / f"{name}-{version}.apk"

    def config(self) -> str:
        return self.router.read("etc/config/mtbox")

    def enable(self) -> None:
        """Enables the service, changes the port and adds a user."""
        text = self.config().replace("enabled '0'", "enabled '1'").replace("'443'", "'8443'")
        self.router.write("etc/config/mtbox", text + "\nconfig user 'anna'\n")
        self.router.service("start")
        self.assertEqual(self.config().count("option secret"), 2)

    def starts(self) -> int:
        """How many messages to procd have an instance."""
        messages = self.router.messages()
        return sum(["procd_open_instance"] in message for message in messages)


class InstallCases:
    """Tests for both package managers."""

    def setUp(self) -> None:
        super().setUp()
        self.manager = self.kind(self.router)

    def test_a_new_installation_is_disabled(self):
        self.manager.install(self.file(NEW))
        self.assertEqual(self.config(), (FILES / "mtbox.config").read_text())
        self.assertIn(f"mtbox:x:{MTBOX}:{MTBOX}:", self.router.read("etc/passwd"))
        self.assertIn(f"mtbox:x:{MTBOX}:", self.router.read("etc/group"))
        self.assertTrue((self.router.root / "etc/rc.d/S95mtbox").is_symlink())
        self.assertFalse((self.router.root / "etc/uci-defaults/80-mtbox").exists())
        self.assertEqual(self.starts(), 0)
        self.assertEqual(self.router.read("tmp/calls"), "")

    def test_an_upgrade_keeps_users_secrets_and_settings(self):
        self.manager.install(self.file(OLD))
        self.enable()
        before = self.config()
        self.manager.install(self.file(NEW))
        self.assertEqual(self.config(), before)
        self.assertIn(NEW, self.router.read("usr/bin/mtbox"))
        self.assertTrue((self.router.root / "etc/rc.d/S95mtbox").is_symlink())

    def test_an_upgrade_restarts_the_service(self):
        self.manager.install(self.file(OLD))
        self.enable()
        self.router.delete("tmp/procd")
        self.manager.install(self.file(NEW))
        lines = self.router.read("tmp/procd").splitlines()
        self.assertIn("kill", lines)
        self.assertIn("procd_open_instance", lines[len(lines) - lines[::-1].index("kill") :])

    def test_an_upgrade_of_a_disabled_service_keeps_it_disabled(self):
        self.manager.install(self.file(OLD))
        self.manager.install(self.file(NEW))
        self.assertEqual(self.starts(), 0)
        self.assertEqual(self.config().count("option secret"), 0)

    def test_a_new_default_config_does_not_replace_a_changed_one(self):
        self.manager.install(self.file(OLD))
        self.enable()
        before = self.config()
        (file,) = release_with_another_default().glob(f"{self.folder}/x86_64/mtbox-mini*")
        self.manager.install(file)
        self.assertEqual(self.config(), before)
        beside = self.router.read("etc/config/mtbox" + self.manager.new_suffix)
        self.assertIn("new_option", beside)

    def test_removal_stops_the_service_and_keeps_a_changed_config(self):
        self.manager.install(self.file(NEW))
        self.enable()
        before = self.config()
        self.manager.remove("mtbox-mini")
        self.assertEqual(self.router.read("tmp/procd").splitlines().count("kill"), 1)
        self.assertEqual(list((self.router.root / "etc/rc.d").iterdir()), [])
        self.assertEqual(self.config(), before)
        for path in ("usr/bin/mtbox", "etc/init.d/mtbox", "etc/capabilities/mtbox.json"):
            self.assertFalse((self.router.root / path).exists(), path)

    def test_the_other_flavour_keeps_users_and_secrets(self):
        self.manager.install(self.file(NEW))
        self.enable()
        before = self.config()
        self.manager.remove("mtbox-mini")
        self.manager.install(self.file(NEW, "full"))
        self.assertEqual(self.config(), before)
        self.assertEqual(self.starts(), 2)

    def test_sysupgrade_keeps_config_and_state(self):
        self.manager.install(self.file(NEW))
        self.enable()
        self.router.write("etc/mtbox/state", "totals")
        self.router.write("etc/mtbox/lists/deny.netset", "192.0.2.0/24")
        kept = kept_by_sysupgrade(self.manager)
        expected = {"etc/config/mtbox", "etc/mtbox/state", "etc/mtbox/lists/deny.netset"}
        self.assertEqual(kept, expected)

        # The new firmware restores the files; then the package is installed again.
        flashed = Router(Path(self.enterContext(tempfile.TemporaryDirectory())))
        for path in kept:
            self.assertTrue((self.router.root / path).is_file())
            flashed.write(path, self.router.read(path))
        self.kind(flashed).install(self.file(NEW))
        for path in kept:
            self.assertEqual(flashed.read(path), self.router.read(path), path)
        self.assertEqual((flashed.root / "etc/mtbox").stat().st_uid, MTBOX)
        self.assertEqual(flashed.read("tmp/commits"), "")
        self.assertEqual(
            sum(["procd_open_instance"] in message for message in flashed.messages()), 1
        )


class WithOpkg(InstallCases, InstallTest):
    kind, folder = Opkg, "ipk"

    def test_the_flavours_conflict(self):
        self.manager.install(self.file(NEW))
        with self.assertRaises(FileExistsError):
            self.manager.install(self.file(NEW, "full"))

    def test_the_image_builder_starts_no_service(self):
        """The image builder runs the scripts on its host, with IPKG_INSTROOT as the root."""
        Opkg.script, script = lambda *_: None, Opkg.script
        try:
            self.manager.install(self.file(NEW))
        finally:
            Opkg.script = script
        done = subprocess.run(
            ["busybox", "ash", self.router.root / "usr/lib/opkg/info/mtbox-mini.postinst"],
            env={"PATH": "/usr/bin:/bin", "IPKG_INSTROOT": str(self.router.root)},
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((self.router.root / "etc/rc.d/S95mtbox").is_symlink())
        self.assertTrue((self.router.root / "etc/uci-defaults/80-mtbox").exists())
        self.assertIn("mtbox:", self.router.read("etc/passwd"))
        self.assertEqual(self.router.read("tmp/procd"), "")


class WithApk(InstallCases, InstallTest):
    kind, folder = Apk, "apk"
