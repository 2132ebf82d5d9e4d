#!/usr/bin/env python3
"""Makes unsigned packages for apk 3 (OpenWrt 25.12 and later), one per architecture.

    mkapk.py DESCRIPTION ROOT OUTPUT ARCHITECTURE...

Writes OUTPUT/ARCHITECTURE/NAME-VERSION.apk. See package.py for DESCRIPTION and ROOT. The
architecture `all` becomes `noarch`. The output is reproducible for the same input and
SOURCE_DATE_EPOCH.

Sign with `apk adbsign`. `apk add --allow-untrusted` installs unsigned packages.
"""

import hashlib
import stat
import struct
import sys
import zlib
from pathlib import Path

import adb
import package

# Field numbers in apk's schema: package description,
NAME, VERSION, IDENTITY, DESCRIPTION, ARCH, LICENSE, ORIGIN, MAINTAINER = range(1, 9)
SIZE, PRIORITY, DEPENDS, PROVIDES = 12, 14, 15, 16
# scripts,
POST_INSTALL, PRE_DEINSTALL, POST_UPGRADE = 3, 4, 7
# and dependencies.
DEPENDENCY_NAME, DEPENDENCY_VERSION = 1, 2
# OpenWrt's directory for metadata that apk does not store.
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


def scripts(pkg: package.Package) -> dict[int, str]:
    after = POST.format(name=pkg.name) + without_shebang(pkg.postinst)
    return {
        POST_INSTALL: after,
        PRE_DEINSTALL: PRE.format(name=pkg.name),
        POST_UPGRADE: "#!/bin/sh\nexport PKG_UPGRADE=1\n" + without_shebang(after),
    }


def with_metadata(pkg: package.Package) -> list[package.Entry]:
    """The entries, and the metadata that opkg stores itself: the list of files, the config files
    with their hashes (sysupgrade keeps changed ones), and the user to create."""
    files = {entry.path: entry for entry in pkg.entries if not entry.is_directory()}
    metadata = {}
    if user := pkg.fields.get("Require-User"):
        metadata["rusers"] = user + "\n"
    metadata["list"] = "".join(sorted(f"/{path}\n" for path in [*files, *paths(pkg, metadata)]))
    if pkg.conffiles:
        metadata["conffiles"] = "".join(path + "\n" for path in pkg.conffiles)
        metadata["conffiles_static"] = "".join(
            f"{path} {hashlib.sha256(files[path[1:]].data).hexdigest()}\n"
            for path in pkg.conffiles
        )
    entries = {entry.path: entry for entry in pkg.entries}
    for folder in ["lib", "lib/apk", METADATA]:
        entries[folder] = package.Entry(folder, stat.S_IFDIR | 0o755)
    for path, text in zip(paths(pkg, metadata), metadata.values()):
        entries[path] = package.Entry(path, stat.S_IFREG | 0o644, text.encode())
    return list(entries.values())


def paths(pkg: package.Package, metadata: dict[str, str]) -> list[str]:
    return [f"{METADATA}/{pkg.name}.{kind}" for kind in metadata]


class BlockBuilder:
    """Builds the value block of one package."""

    def __init__(self) -> None:
        self.db = adb.Writer()
        self.root = self.db.blob("root")

    def acl(self, mode: int) -> int:
        """Mode, and the names of user and group."""
        return self.db.object({1: self.db.int(stat.S_IMODE(mode)), 2: self.root, 3: self.root})

    def dependency(self, name: str, version: str = "") -> int:
        return self.db.object(
            {DEPENDENCY_NAME: self.db.blob(name), DEPENDENCY_VERSION: self.db.blob(version)}
        )

    def file(self, entry: package.Entry) -> int:
        db = self.db
        fields = {
            1: db.blob(entry.path.rpartition("/")[2]),
            2: self.acl(entry.mode),
            3: db.int(len(entry.target.encode() if entry.is_link() else entry.data)),
            4: db.int(package.epoch()),
        }
        if entry.is_link():
            fields[6] = db.blob(struct.pack("<H", stat.S_IFLNK) + entry.target.encode())
        else:
            fields[5] = db.blob(hashlib.sha256(entry.data).digest())
        return db.object(fields)


def folders(entries: list[package.Entry]) -> list[tuple[package.Entry, list[package.Entry]]]:
    """Each directory with its files, sorted by name: apk numbers them in this order."""
    found = sorted((e for e in entries if e.is_directory()), key=lambda e: e.path)
    return [(folder, files_in(folder, entries)) for folder in found]


def files_in(folder: package.Entry, entries: list[package.Entry]) -> list[package.Entry]:
    inside = [
        entry
        for entry in entries
        if not entry.is_directory() and entry.path.rpartition("/")[0] == folder.path
    ]
    return sorted(inside, key=lambda entry: entry.path)


def make(pkg: package.Package, architecture: str) -> bytes:
    builder = BlockBuilder()
    db = builder.db
    tree = folders(with_metadata(pkg))
    directories = [
        db.object(
            {
                1: db.blob(folder.path),
                2: builder.acl(folder.mode),
                3: db.array([builder.file(file) for file in files]),
            }
        )
        for folder, files in tree
    ]
    identity, offset = db.blank(20)
    # Only one installed package may provide a versioned name, so apk never installs both variants.
    provides = [builder.dependency(name, pkg.version) for name in pkg.names("Provides")]
    priority = int(pkg.fields.get("Provider-Priority", "0"))
    about = {
        NAME: db.blob(pkg.name),
        VERSION: db.blob(pkg.version),
        IDENTITY: identity,
        DESCRIPTION: db.blob(pkg.fields["Description"]),
        ARCH: db.blob("noarch" if architecture == "all" else architecture),
        LICENSE: db.blob(pkg.fields["License"]),
        ORIGIN: db.blob(pkg.fields["Source"]),
        MAINTAINER: db.blob(pkg.fields["Maintainer"]),
        SIZE: db.int(sum(len(file.data) for _, files in tree for file in files)),
        PRIORITY: db.int(priority) if priority else 0,
        DEPENDS: db.array([builder.dependency(name) for name in pkg.names("Depends")]),
        PROVIDES: db.array(provides),
    }
    hooks = {number: db.blob(script) for number, script in scripts(pkg).items()}
    root = {1: db.object(about), 2: db.array(directories), 3: db.object(hooks)}
    block = db.finish(db.object(root))
    # The identity is the hash of the block with the identity zeroed.
    block[offset : offset + 20] = hashlib.sha256(block).digest()[:20]
    return container(bytes(block), tree)


def container(block: bytes, tree: list) -> bytes:
    """The block, then a data block for each non-empty file, which starts with the numbers of the
    directory and of the file; all deflated."""
    out = [b"ADB.pckg", adb.block(adb.BLOCK_ADB, block)]
    for folder, (_, files) in enumerate(tree, 1):
        for number, file in enumerate(files, 1):
            if file.data:
                numbers = struct.pack("<II", folder, number)
                out.append(adb.block(adb.BLOCK_DATA, numbers + file.data))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"ADBd" + deflate.compress(b"".join(out)) + deflate.flush()


def main(description: str, root: str, output: str, *architectures: str) -> None:
    pkg = package.load(Path(description), Path(root))
    for architecture in architectures:
        arch = "noarch" if architecture == "all" else architecture
        file = Path(output, arch, f"{pkg.name}-{pkg.version}.apk")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make(pkg, architecture))


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
