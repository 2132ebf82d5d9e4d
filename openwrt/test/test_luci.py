"""The package of LuCI's pages, and its catalogue of translations."""

import struct
import tempfile
import unittest
from pathlib import Path

import built
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
    """As LuCI does: the table is at the end, sorted by hash."""
    (table,) = struct.unpack(">I", catalogue[-4:])
    rows = list(struct.iter_unpack(">IIII", catalogue[table:-4]))
    if rows != sorted(rows):
        raise ValueError("LuCI searches by halves")
    for key, _, place, length in rows:
        if key == po2lmo.text_hash(text.encode()):
            if place % 4 or place + length > table:
                raise ValueError("a text in the wrong place")
            return catalogue[place : place + length].decode()
    return None


class Catalogue(unittest.TestCase):
    def test_texts_are_found_and_those_without_a_translation_are_not(self):
        made = po2lmo.catalogue(po2lmo.translations(PO))
        self.assertEqual(look_up(made, "Users"), "Пользователи")
        self.assertEqual(look_up(made, 'Two lines "here"'), "Две\nстроки")
        self.assertIsNone(look_up(made, "never"))
        self.assertIsNone(look_up(made, ""))

    def test_every_length_of_the_last_piece_counts(self):
        """The hash reads four bytes at a time, and the rest in ways of their own."""
        texts = {"abcdefgh"[:length]: str(length) for length in range(1, 9)}
        made = po2lmo.catalogue(texts)
        for text, translated in texts.items():
            self.assertEqual(look_up(made, text), translated)


@unittest.skipUnless(APP.is_dir(), f"no {APP}")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        built.put_program(folder / "dist", "x86_64-unknown-linux-musl", "mini", b"program")
        out = built.build(folder / "dist", folder / "out")
        cls.ipk = ipk.read(out / "ipk/all/luci-app-mtbox_1.2.3-r4_all.ipk")
        cls.apk = apk.read(out / "apk/noarch/luci-app-mtbox-1.2.3-r4.apk")

    def test_it_fits_every_router_and_either_flavour(self):
        self.assertEqual(self.ipk.control["Architecture"], "all")
        self.assertEqual(self.apk.info["arch"], "noarch")
        self.assertEqual(self.ipk.control["Depends"], "luci-base, mtbox")
        self.assertEqual(self.apk.info["depends"], [("luci-base", ""), ("mtbox", "")])

    def test_all_pages_and_the_backend_are_where_luci_looks(self):
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
        made = self.ipk.data["usr/lib/lua/luci/i18n/mtbox.ru.lmo"]
        texts = po2lmo.translations(po)
        self.assertGreater(len(texts), 10)
        for text, translated in texts.items():
            self.assertEqual(look_up(made, text), translated)

    def test_rpcd_hears_of_the_new_rights(self):
        self.assertIn("rpcd reload", self.ipk.about_data["postinst-pkg"].decode())
        self.assertIn("rpcd reload", self.apk.scripts["post-install"])
