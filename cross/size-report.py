#!/usr/bin/env python3
"""Writes docs/SIZE.md: what of the binaries in dist/ belongs to which crate and module.

    cross/size-report.py [TARGET]

Looks at the names of functions in dist/TARGET/FLAVOUR/mtbox.symbols; x86_64 unless told.
"""

import collections
import gzip
import lzma
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
OURS = "mtbox"
STD = {"std", "core", "alloc", "compiler_builtins", "panic_abort", "rustc_demangle", "hashbrown"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def home(name):
    """The crate and, in our own, the two uppermost modules of a demangled name."""
    # `<A as B>::f` is told by A, or by B where A is a reference or a built-in type.
    words = re.findall(r"(?<![\w:])([a-z_]\w*)((?:::[a-z_]\w*)*)::", name)
    for crate, path in words:
        # Code made of somebody's generics for our types is ours.
        if crate == OURS:
            modules = path.split("::")[1:3]
            return OURS, "::".join(modules) or "(top)"
    return (words[0][0] if words else "musl, zig and nameless"), None


def tally(binary):
    crates, modules = collections.Counter(), collections.Counter()
    for line in run("llvm-nm", "-S", "-C", str(binary)).splitlines():
        fields = line.split(None, 3)
        # No room in the file for what starts as zeros.
        if len(fields) < 4 or fields[2] in "bBUw":
            continue
        crate, module = home(fields[3])
        crates[crate] += int(fields[1], 16)
        if module:
            modules[module] += int(fields[1], 16)
    return crates, modules


def table(counter, head, least):
    rows = [f"| {head} | KiB |", "|---|---|"]
    small = 0
    for name, size in counter.most_common():
        if size < least:
            small += size
        else:
            rows.append(f"| {name} | {size / 1024:.1f} |")
    rows.append(f"| smaller ones | {small / 1024:.1f} |")
    return "\n".join(rows)


def tree(flags):
    names = run("cargo", "tree", "--locked", "-e", "normal", "--prefix", "none", *flags)
    return len({line.split(" (*)")[0] for line in names.splitlines() if line}) - 1


def main():
    target = sys.argv[1] if len(sys.argv) > 1 else "x86_64-unknown-linux-musl"
    out = [
        "# What the binaries weigh\n",
        "Written by `cross/size-report.py`; edit that instead. All are static and stripped, made by",
        "`cross/build.sh`. 1 KiB = 1024 bytes.\n",
        "| target | flavour | KiB | gzip -9 | xz |",
        "|---|---|---|---|---|",
    ]
    for binary in sorted(DIST.glob("*/*/mtbox")):
        data = binary.read_bytes()
        sizes = [len(data), len(gzip.compress(data, 9, mtime=0)), len(lzma.compress(data))]
        cells = " | ".join(f"{size / 1024:.0f}" for size in sizes)
        out.append(f"| {binary.parts[-3]} | {binary.parts[-2]} | {cells} |")
    for flavour, flags in ("mini", ["--no-default-features"]), ("full", []):
        symbols = DIST / target / flavour / "mtbox.symbols"
        if not symbols.exists():
            continue
        crates, modules = tally(symbols)
        std = sum(crates.pop(name, 0) for name in STD)
        crates["std, core, alloc"] = std
        out += [
            f"\n## {flavour}, {target}\n",
            f"{tree(flags)} crates beside our own. Functions and named constants by crate; texts,",
            "tables of jumps and relocations have no names and are not in here.\n",
            table(crates, "crate", 1024),
            "\nOur own, by module:\n",
            table(modules, "module", 2048),
        ]
    (ROOT / "docs/SIZE.md").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
