#!/usr/bin/env python3
"""Writes docs/SIZE.md: the size of each crate and module in the binaries of dist/.

    cross/size-report.py

Sums the sizes of the symbols in dist/TARGET/FLAVOUR/mtbox.symbols.
"""

import collections
import gzip
import lzma
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
OURS = "mtbox"
# The aims in KiB: mini, full.
AIMS = {
    "x86_64-unknown-linux-musl": (700, 1800),
    "aarch64-unknown-linux-musl": (600, 1500),
    "armv7-unknown-linux-musleabi": (600, 1400),
    "mipsel-unknown-linux-musl": (700, 1600),
}
FLAVOURS = {"mini": ["--no-default-features"], "full": []}
STD = {"std", "core", "alloc", "compiler_builtins", "panic_abort", "rustc_demangle", "hashbrown"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def home(name):
    """The crate of a demangled name, and for our own crate the two uppermost modules."""
    # `<A as B>::f` belongs to A, or to B if A is a reference or a built-in type.
    words = re.findall(r"(?<![\w:])([a-z_]\w*)((?:::[a-z_]\w*)*)::", name)
    for crate, path in words:
        # Generic code of another crate, instantiated for our types, counts as ours.
        if crate == OURS:
            modules = path.split("::")[1:3]
            return OURS, "::".join(modules) or "(top)"
    return (words[0][0] if words else "musl, zig and nameless"), None


def tally(binary):
    crates, modules = collections.Counter(), collections.Counter()
    for line in run("llvm-nm", "-S", "-C", str(binary)).splitlines():
        fields = line.split(None, 3)
        # Zero-initialised data takes no space in the file.
        if len(fields) < 4 or fields[2] in "bBUw":
            continue
        crate, module = home(fields[3])
        crates[crate] += int(fields[1], 16)
        if module:
            modules[module] += int(fields[1], 16)
    return crates, modules


def table(columns, head, least):
    """Rows by name, a column of KiB for each target. Names below `least` bytes share one row."""
    most = collections.Counter()
    for counter in columns.values():
        most |= counter
    large = [name for name, size in most.most_common() if size >= least]
    rows = [f"| {head} | " + " | ".join(column.split("-")[0] for column in columns) + " |"]
    rows.append("|---" * (len(columns) + 1) + "|")
    for name in large:
        rows.append(row(name, [counter[name] for counter in columns.values()]))
    small = [sum(c.values()) - sum(c[name] for name in large) for c in columns.values()]
    rows.append(row("smaller ones", small))
    return "\n".join(rows)


def row(name, sizes):
    return f"| {name} | " + " | ".join(f"{size / 1024:.1f}" for size in sizes) + " |"


def tree(flags):
    names = run("cargo", "tree", "--locked", "-e", "normal", "--prefix", "none", *flags)
    return len({line.split(" (*)")[0] for line in names.splitlines() if line}) - 1


WHY = """
## Where an aim is missed

* **Half of the mini flavour is our own code.** The other half is toml_edit with its parser, the
  standard library, musl, and the ciphers for each kind of processor.
* **MIPS** needs 60 % more than Thumb for the same program: four bytes per instruction, one
  instruction for each register that a function saves, and a delay slot behind every jump that is
  often empty. Packages are compressed with deflate, the only format that opkg reads, to half of the
  binary. In an image with squashfs and xz it is less.
* **toml_edit** is 60 KiB with its dependencies. It keeps comments and order when `mtbox user`
  changes the config. 15 KiB of the standard library parse floating point numbers.

Tried and kept: `opt-level = "z"` for everything except the cipher; the standard library built with
the program and for size; no unwind tables; no panic messages; Thumb on ARMv7; SHA-256 as a loop;
the mini flavour without doctor and metrics; sorted lists instead of BTreeMaps.

Tried without effect: other inlining thresholds, outlining, folding of identical functions, hoisting
and sinking of equal code, wider tail merging, no jump tables. Options of LLVM for MIPS that are off
by default (tail calls, a wider search for delay slots) would save 2 %; they stay off. LLVM cannot
compile this program to MIPS16e.
"""


def overview():
    rows = ["| target | flavour | KiB | aim | gzip -9 | xz |", "|---|---|---|---|---|---|"]
    for binary in sorted(DIST.glob("*/*/mtbox")):
        target, flavour = binary.parts[-3:-1]
        data = binary.read_bytes()
        aim = AIMS.get(target, ("-", "-"))[list(FLAVOURS).index(flavour)]
        if aim != "-" and len(data) > aim * 1024:
            aim = f"{aim}: missed"
        packed = len(gzip.compress(data, 9, mtime=0)), len(lzma.compress(data))
        sizes = f"{packed[0] / 1024:.0f} | {packed[1] / 1024:.0f}"
        rows.append(f"| {target} | {flavour} | {len(data) / 1024:.0f} | {aim} | {sizes} |")
    return "\n".join(rows)


def chapter(flavour, flags):
    crates, modules = {}, {}
    for target in AIMS:
        symbols = DIST / target / flavour / "mtbox.symbols"
        if symbols.exists():
            crates[target], modules[target] = tally(symbols)
            std = sum(crates[target].pop(name, 0) for name in STD)
            crates[target]["std, core, alloc"] = std
    return [
        f"\n## {flavour}\n",
        f"{tree(flags)} crates besides our own. Functions and named constants by crate, in KiB.",
        "Strings, jump tables and relocations have no names and are not included.\n",
        table(crates, "crate", 2048),
        "\nOur own, by module:\n",
        table(modules, "module", 4096),
    ]


def main():
    out = [
        "# Sizes of the binaries\n",
        "Generated by `cross/size-report.py`; edit that file. All binaries are static, stripped",
        "and made by `cross/build.sh`. 1 KiB = 1024 bytes.\n",
        overview(),
        WHY,
    ]
    for flavour, flags in FLAVOURS.items():
        out += chapter(flavour, flags)
    (ROOT / "docs/SIZE.md").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
