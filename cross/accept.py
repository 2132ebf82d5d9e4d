#!/usr/bin/env python3
"""Writes the size of one binary into cross/sizes.tsv: accept.py TARGET FLAVOUR BYTES."""

import pathlib
import sys

target, flavour, size = sys.argv[1:]
file = pathlib.Path(__file__).with_name("sizes.tsv")
head = "# Accepted sizes of stripped binaries in bytes, written by cross/build.sh --accept.\n"
rows = {}
if file.exists():
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            name, kind, number = line.split("\t")
            rows[name, kind] = number
rows[target, flavour] = size
file.write_text(head + "".join(f"{t}\t{f}\t{n}\n" for (t, f), n in sorted(rows.items())))
