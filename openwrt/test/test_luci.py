"""The package luci-app-mtbox and its translation catalogue."""

import struct
import tempfile
import unittest
from pathlib import Path

import builder
import po2lmo
from formats import apk, ipk
from router import OPENWRT

APP = OPENWRT / "luci-app-mtbox"

PO = r'''
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"

#: a.js
msgid "Users"
msgstr "Пользователи"

msgid "never"
msgstr ""

msgid ""
"Two "
"lines \"here\""
msgstr ""
"Две\n"
"строки"
'''


def look_up(catalogue: bytes, text: str) -> str | None:
    """Searches the table at the end, sorted by hash, as LuCI does."""
    (table,) = struct.unpack(">I", catalogue[-4:])
    rows = list(struct.iter_unpack(">IIII", catalogue[table:-4]))
    if rows != sorted(rows):
        raise ValueError("the table is not sorted for binary search")
    for key, _, place, length in rows:
        if key == po2lmo.text_hash(text.encode()):
            if place % 4 or place + length > table:
                raise ValueError("invalid text offset")
            return catalogue[place : place + length].decode()
    return None


class Catalogue(unittest.TestCase):
    def test_only_translated_texts_are_in_the_catalogue(self):
        catalogue = po2lmo.catalogue(po2lmo.translations(PO))
        self.assertEqual(look_up(catalogue, "Users"), "Пользователи")
        self.assertEqual(look_up(catalogue, 'Two lines "here"'), "Две\nстроки")
        self.assertIsNone(look_up(catalogue, "never"))
        self.assertIsNone(look_up(catalogue, ""))

    def test_texts_of_any_length_are_found(self):
        """The hash reads four bytes at a time and has a case for each length of the rest."""
        texts = {"abcdefgh"[:length]: str(length) for length in range(1, 9)}
        catalogue = po2lmo.catalogue(texts)
        for text, translated in texts.items():
            self.assertEqual(look_up(catalogue, text), translated)


@unittest.skipUnless(APP.is_dir(), f"{APP} does not exist")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        builder.put_program(folder / "dist", "x86_64-unknown-linux-musl", "mini", b"program")
        out = builder.build(folder / "dist", folder / "out")
        cls.ipk = ipk.read(out / "ipk/all/luci-app-mtbox_1.2.3-r4_all.ipk")
        cls.apk = apk.read(out / "apk/noarch/luci-app-mtbox-1.2.3-r4.apk")

    def test_it_is_for_all_architectures_and_both_flavours(self):
        self.assertEqual(self.ipk.control["Architecture"], "all")
        self.assertEqual(self.apk.info["arch"], "noarch")
        self.assertEqual(self.ipk.control["Depends"], "luci-base, mtbox")
        self.assertEqual(self.apk.info["depends"], [("luci-base", ""), ("mtbox", "")])

    def test_pages_and_backend_are_installed_where_luci_expects_them(self):
        for folder, to in (("htdocs", "www/"), ("root", "")):
            for file in (APP / folder).rglob("*"):
                if file.is_file():
                    path = to + file.relative_to(APP / folder).as_posix()
                    self.assertEqual(self.ipk.data[path], file.read_bytes(), path)
                    self.assertEqual(self.apk.files[path].data, file.read_bytes(), path)
                    runs = "libexec" in path
                    self.assertEqual(bool(self.ipk.files[path].mode & 0o111), runs, path)

    def test_translations_are_compiled(self):
        po = (APP / "po/ru/mtbox.po").read_text()
        catalogue = self.ipk.data["usr/lib/lua/luci/i18n/mtbox.ru.lmo"]
        texts = po2lmo.translations(po)
        self.assertGreater(len(texts), 10)
        for text, translated in texts.items():
            self.assertEqual(look_up(catalogue, text), translated)

    def test_the_installation_reloads_rpcd(self):
        self.assertIn("rpcd reload", self.ipk.about_data["postinst-pkg"].decode())
        self.assertIn("rpcd reload", self.apk.scripts["post-install"])
