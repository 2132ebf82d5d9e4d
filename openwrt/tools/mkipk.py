#!/usr/bin/env python3
"""Makes packages for opkg (OpenWrt up to 24.10), one per architecture.

    mkipk.py DESCRIPTION ROOT OUTPUT ARCHITECTURE...

Writes OUTPUT/ARCHITECTURE/NAME_VERSION_ARCHITECTURE.ipk. See package.py for DESCRIPTION and ROOT.
The output is reproducible for the same input and SOURCE_DATE_EPOCH.

An .ipk is a tar.gz of three files: debian-binary, data.tar.gz (the payload) and control.tar.gz
(description and scripts).
"""

import gzip
import io
import stat
import sys
import tarfile
from pathlib import Path

import package

POSTINST = """\
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
"""
PRERM = """\
#!/bin/sh
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
"""
# Control fields in OpenWrt's order. Architecture, Installed-Size and Description follow.
FIELDS = [
    "Package", "Version", "Depends", "Conflicts", "Provides", "Source", "License", "Section",
    "Require-User", "Maintainer",
]
FILE = stat.S_IFREG | 0o644
PROGRAM = stat.S_IFREG | 0o755


def tar(entries: list[package.Entry]) -> bytes:
    """A GNU tar archive with numeric owner 0:0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo("./" + entry.path if entry.path else ".")
            info.mode = stat.S_IMODE(entry.mode)
            info.mtime = package.epoch()
            if entry.is_directory():
                info.type = tarfile.DIRTYPE
            elif entry.is_link():
                info.type, info.linkname = tarfile.SYMTYPE, entry.target
            else:
                info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data))
    return out.getvalue()


def compress(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def control(pkg: package.Package, architecture: str, size: int) -> str:
    fields = {name: pkg.fields[name] for name in FIELDS if pkg.fields.get(name)}
    fields["Architecture"] = architecture
    fields["Installed-Size"] = str(size)
    fields["Description"] = pkg.fields["Description"]
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def main(description: str, root: str, output: str, *architectures: str) -> None:
    pkg = package.load(Path(description), Path(root))
    data = tar(pkg.entries)
    data_gz = compress(data)
    for architecture in architectures:
        about = [
            package.Entry("control", FILE, control(pkg, architecture, len(data)).encode()),
            package.Entry("postinst", PROGRAM, POSTINST.encode()),
            package.Entry("prerm", PROGRAM, PRERM.encode()),
        ]
        if pkg.conffiles:
            lines = "".join(path + "\n" for path in pkg.conffiles)
            about.append(package.Entry("conffiles", FILE, lines.encode()))
        if pkg.postinst:
            about.append(package.Entry("postinst-pkg", PROGRAM, pkg.postinst.encode()))
        about.sort(key=lambda entry: entry.path)
        members = [
            package.Entry("debian-binary", FILE, b"2.0\n"),
            package.Entry("data.tar.gz", FILE, data_gz),
            package.Entry("control.tar.gz", FILE, compress(tar(about))),
        ]
        file = Path(output, architecture, f"{pkg.name}_{pkg.version}_{architecture}.ipk")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(compress(tar(members)))


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
