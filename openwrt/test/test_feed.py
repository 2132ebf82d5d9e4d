"""The SDK Makefile makes the same packages as build.sh, with our build profile."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import builder
from formats import ipk
from router import HERE, OPENWRT, SOURCE

CARGO = tomllib.loads((SOURCE / "Cargo.toml").read_text())
# Set by OpenWrt's rust-values.mk for every build.
OPENWRT_PROFILE = {
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "1",
    "CARGO_PROFILE_RELEASE_DEBUG": "false",
    "CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS": "false",
    "CARGO_PROFILE_RELEASE_LTO": "true",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "z",
    "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS": "true",
    "CARGO_PROFILE_RELEASE_PANIC": "unwind",
    "CARGO_PROFILE_RELEASE_RPATH": "false",
}


def makefile_fields(variant: str) -> dict[str, dict[str, str]]:
    """The fields of each package in the Makefile, for a build of `variant`."""
    output = subprocess.run(
        ["make", "-s", "-f", OPENWRT / "mtbox/Makefile", f"TOPDIR={HERE}/stubs/sdk",
         f"BUILD_VARIANT={variant}", "all"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for line in output.stdout.splitlines():
        name, field, value = line.split("|", 2)
        found.setdefault(name, {})[field] = value.strip()
    return found


@unittest.skipUnless(shutil.which("make"), "make is not installed")
class Makefile(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for flavour in ("full", "mini"):
            builder.put_program(folder / "dist", "x86_64-unknown-linux-musl", flavour, b"program")
        out = builder.build(folder / "dist", folder / "out")
        cls.packed = {}
        for file in out.glob("ipk/x86_64/*.ipk"):
            read = ipk.read(file)
            cls.packed[read.control["Package"]] = read
        cls.fields = makefile_fields("full")

    def test_both_variants_exist(self):
        self.assertEqual(set(self.fields), set(self.packed))
        self.assertEqual(self.fields["mtbox"]["VARIANT"], "full")
        self.assertEqual(self.fields["mtbox-mini"]["VARIANT"], "mini")
        self.assertEqual(self.fields["mtbox"]["DEFAULT_VARIANT"], "1")

    def test_the_version_is_that_of_cargo_toml(self):
        self.assertEqual(self.fields["mtbox"]["version"], CARGO["package"]["version"] + "-r1")

    def test_description_fields_are_those_of_the_packages(self):
        for name, read in self.packed.items():
            fields = self.fields[name]
            self.assertEqual(fields["USERID"], read.control["Require-User"], name)
            self.assertEqual(fields["PROVIDES"], read.control.get("Provides", ""), name)
            self.assertEqual(fields["conffiles"], read.about_data["conffiles"].decode().strip())
        self.assertEqual(self.fields["mtbox-mini"]["CONFLICTS"], "mtbox")

    def test_the_makefile_installs_the_packed_files(self):
        for name, read in self.packed.items():
            lines = self.fields[name]["install"].replace("\t", " ")
            installed = {}
            for mode, source, to in re.findall(r"(\d{3}) (\S+) ROOT/(\S+)", lines):
                to = to + Path(source).name if to.endswith("/") else to
                installed[to] = (int(mode, 8), Path(source).name)
            packed = {path: info.mode for path, info in read.files.items() if info.isfile()}
            self.assertEqual({path: mode for path, (mode, _) in installed.items()}, packed)
            for path, (_, source) in installed.items():
                if path != "usr/bin/mtbox":
                    expected = (OPENWRT / "mtbox/files" / source).read_bytes()
                    self.assertEqual(read.data[path], expected, path)

    def test_the_postinst_script_is_the_same(self):
        for name, read in self.packed.items():
            script = read.about_data["postinst-pkg"].decode()
            expected = self.fields[name]["postinst"].replace("$$", "$")
            self.assertEqual(" ; ".join(script.rstrip("\n").split("\n")), expected)

    def test_mini_is_built_without_features_and_both_with_our_profile(self):
        expected = {"full": "--locked", "mini": "--locked --no-default-features"}
        for variant, arguments in expected.items():
            fields = makefile_fields(variant)["mtbox"]
            self.assertEqual(fields["arguments"], arguments)
            self.assertEqual(fields["profile"], "router")


class Profile(unittest.TestCase):
    def test_settings_of_openwrt_do_not_change_it(self):
        if "router" not in CARGO.get("profile", {}):
            self.skipTest("Cargo.toml has no [profile.router] yet")
        ours, in_sdk = (
            self.profile({}),
            self.profile(OPENWRT_PROFILE),
        )
        self.assertEqual(ours["panic"], "abort")
        for setting in ("opt_level", "panic", "overflow_checks", "lto", "codegen_units"):
            self.assertEqual(in_sdk[setting], ours[setting], setting)

    def profile(self, environment: dict[str, str]) -> dict:
        """The profile that cargo selects for the mtbox binary."""
        output = subprocess.check_output(
            ["cargo", "build", "--profile", "router", "--unit-graph", "-Zunstable-options",
             "--offline", "--bin", "mtbox"],
            cwd=SOURCE,
            env={**os.environ, "RUSTC_BOOTSTRAP": "1", **environment},
        )  # fmt: skip
        graph = json.loads(output)
        (root,) = graph["roots"]
        return graph["units"][root]["profile"]


class Lock(unittest.TestCase):
    def test_the_oldest_rust_of_a_supported_release_is_new_enough(self):
        """OpenWrt 24.10 has Rust 1.94."""
        version = tuple(int(part) for part in CARGO["package"]["rust-version"].split("."))
        self.assertLessEqual(version, (1, 94))

    def test_the_lock_file_is_part_of_the_release(self):
        tracked = subprocess.check_output(["git", "ls-files", "Cargo.lock"], cwd=SOURCE, text=True)
        self.assertEqual(tracked, "Cargo.lock\n")
