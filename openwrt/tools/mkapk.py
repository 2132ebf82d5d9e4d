#!/usr/bin/env python3
"""Makes packages for apk 3 (OpenWrt from 25.12 on), one for each architecture, unsigned.

    mkapk.py DESCRIPTION ROOT FOLDER ARCHITECTURE...

writes FOLDER/ARCHITECTURE/NAME-VERSION.apk. See package.py for the first two; the architecture
`all` is called noarch. The same input and SOURCE_DATE_EPOCH give the same bytes.

Sign with `apk adbsign`; without a signature `apk add --allow-untrusted` takes it.
"""

import hashlib
import stat
import struct
import sys
import zlib
from pathlib import Path

import adb
import package

# Numbers of the fields: apk's schema of a package's description.
NAME, VERSION, IDENTITY, DESCRIPTION, ARCH, LICENSE, ORIGIN, MAINTAINER = range(1, 9)
SIZE, PRIORITY, DEPENDS, PROVIDES = 12, 14, 15, 16
# ... of its scripts ...
POST_INSTALL, PRE_DEINSTALL, POST_UPGRADE = 3, 4, 7
# ... and of dependencies: name, version, and how to compare.
DEPENDENCY_NAME, DEPENDENCY_VERSION = 1, 2
# Where OpenWrt looks for what apk itself does not know.
METADATA = "lib/apk/packages"

POST = """\
#!/bin/sh
[ "${{IPKG_NO_SCRIPT}}" = "1" ] && exit 0
[ -s "${{IPKG_INSTROOT}}/lib/functions.sh" ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{name}"
add_group_and_user
default_postinst
"""
PRE = """\
#!/bin/sh
[ -s "${{IPKG_INSTROOT}}/lib/functions.sh" ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{name}"
default_prerm
"""


def without_shebang(script: str) -> str:
    return "".join(line for line in script.splitlines(True) if not line.startswith("#!"))


def scripts(made: package.Package) -> dict[int, str]:
    after = POST.format(name=made.name) + without_shebang(made.postinst)
    return {
        POST_INSTALL: after,
        PRE_DEINSTALL: PRE.format(name=made.name),
        POST_UPGRADE: "#!/bin/sh\nexport PKG_UPGRADE=1\n" + without_shebang(after),
    }


def with_metadata(made: package.Package) -> list[package.Entry]:
    """The entries, and what opkg would keep in its own folder: who owns what, which files hold
    settings (sysupgrade keeps those that differ from the sums), which user to make."""
    files = {entry.path: entry for entry in made.entries if not entry.is_folder()}
    own = {}
    if user := made.fields.get("Require-User"):
        own["rusers"] = user + "\n"
    own["list"] = "".join(sorted(f"/{path}\n" for path in [*files, *paths(made, own)]))
    if made.conffiles:
        own["conffiles"] = "".join(path + "\n" for path in made.conffiles)
        own["conffiles_static"] = "".join(
            f"{path} {hashlib.sha256(files[path[1:]].data).hexdigest()}\n"
            for path in made.conffiles
        )
    entries = {entry.path: entry for entry in made.entries}
    for folder in ["lib", "lib/apk", METADATA]:
        entries[folder] = package.Entry(folder, stat.S_IFDIR | 0o755)
    for path, text in zip(paths(made, own), own.values()):
        entries[path] = package.Entry(path, stat.S_IFREG | 0o644, text.encode())
    return list(entries.values())


def paths(made: package.Package, own: dict[str, str]) -> list[str]:
    return [f"{METADATA}/{made.name}.{kind}" for kind in own]


class Maker:
    """The block of one package."""

    def __init__(self) -> None:
        self.db = adb.Writer()
        self.root = self.db.blob("root")

    def rights(self, mode: int) -> int:
        """Who may do what; the owner goes by name."""
        return self.db.object({1: self.db.int(stat.S_IMODE(mode)), 2: self.root, 3: self.root})

    def dependency(self, name: str, version: str = "") -> int:
        return self.db.object(
            {DEPENDENCY_NAME: self.db.blob(name), DEPENDENCY_VERSION: self.db.blob(version)}
        )

    def file(self, entry: package.Entry) -> int:
        db = self.db
        fields = {
            1: db.blob(entry.path.rpartition("/")[2]),
            2: self.rights(entry.mode),
            3: db.int(len(entry.target.encode() if entry.is_link() else entry.data)),
            4: db.int(package.epoch()),
        }
        if entry.is_link():
            fields[6] = db.blob(struct.pack("<H", stat.S_IFLNK) + entry.target.encode())
        else:
            fields[5] = db.blob(hashlib.sha256(entry.data).digest())
        return db.object(fields)


def folders(entries: list[package.Entry]) -> list[tuple[package.Entry, list[package.Entry]]]:
    """Each folder with its files, both by name: the order in which apk numbers them."""
    found = sorted((e for e in entries if e.is_folder()), key=lambda e: e.path)
    return [(folder, files_in(folder, entries)) for folder in found]


def files_in(folder: package.Entry, entries: list[package.Entry]) -> list[package.Entry]:
    inside = [
        entry
        for entry in entries
        if not entry.is_folder() and entry.path.rpartition("/")[0] == folder.path
    ]
    return sorted(inside, key=lambda entry: entry.path)


def make(made: package.Package, architecture: str) -> bytes:
    maker = Maker()
    db = maker.db
    tree = folders(with_metadata(made))
    shown = [
        db.object(
            {
                1: db.blob(folder.path),
                2: maker.rights(folder.mode),
                3: db.array([maker.file(file) for file in files]),
            }
        )
        for folder, files in tree
    ]
    identity, place = db.blank(20)
    # A versioned name has one owner: that is how apk keeps two variants apart.
    provides = [maker.dependency(name, made.version) for name in made.names("Provides")]
    priority = int(made.fields.get("Provider-Priority", "0"))
    about = {
        NAME: db.blob(made.name),
        VERSION: db.blob(made.version),
        IDENTITY: identity,
        DESCRIPTION: db.blob(made.fields["Description"]),
        ARCH: db.blob("noarch" if architecture == "all" else architecture),
        LICENSE: db.blob(made.fields["License"]),
        ORIGIN: db.blob(made.fields["Source"]),
        MAINTAINER: db.blob(made.fields["Maintainer"]),
        SIZE: db.int(sum(len(file.data) for _, files in tree for file in files)),
        PRIORITY: db.int(priority) if priority else 0,
        DEPENDS: db.array([maker.dependency(name) for name in made.names("Depends")]),
        PROVIDES: db.array(provides),
    }
    run = {number: db.blob(script) for number, script in scripts(made).items()}
    block = db.finish(db.object({1: db.object(about), 2: db.array(shown), 3: db.object(run)}))
    # The identity is the sum of the block with zeros in its own place.
    block[place : place + 20] = hashlib.sha256(block).digest()[:20]
    return container(bytes(block), tree)


def container(block: bytes, tree: list) -> bytes:
    """The block, then the files that are not empty, each behind the numbers of its folder and of
    itself; deflated as one."""
    out = [b"ADB.pckg", adb.block(adb.BLOCK_ADB, block)]
    for folder, (_, files) in enumerate(tree, 1):
        for number, file in enumerate(files, 1):
            if file.data:
                numbers = struct.pack("<II", folder, number)
                out.append(adb.block(adb.BLOCK_DATA, numbers + file.data))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"ADBd" + deflate.compress(b"".join(out)) + deflate.flush()


def main(description: str, root: str, folder: str, *architectures: str) -> None:
    made = package.load(Path(description), Path(root))
    for architecture in architectures:
        named = "noarch" if architecture == "all" else architecture
        file = Path(folder, named, f"{made.name}-{made.version}.apk")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make(made, architecture))


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
