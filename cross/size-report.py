#!/usr/bin/env python3
"""Writes docs/SIZE.md: what of the binaries in dist/ belongs to which crate and module.

    cross/size-report.py

Looks at the names of functions in dist/TARGET/FLAVOUR/mtbox.symbols.
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
# What the project wants, in KiB: mini, full.
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


def table(columns, head, least):
    """Rows by name, a column of KiB for each target; what is small everywhere is summed up."""
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

* **Half of the small flavour is our own code**, half are toml_edit with its parser, the standard
  library, musl, and the ciphers for each kind of processor. None of them alone is what is too much.
* **MIPS** takes six tenths more than Thumb for the same program: four bytes for every instruction, one
  for each register that a function saves, a slot behind every jump that is often empty. A package
  is compressed with deflate, which is all that opkg reads, to half of the binary; within an image,
  where squashfs has xz, it is less.
* **toml_edit** is 60 KiB with what it brings: it keeps comments and order when `mtbox user` changes
  the config. Telling floating point numbers from text is 15 KiB of the standard library.

What was tried and kept: `opt-level = "z"` for all but the cipher, the standard library built along
and for size, no tables for unwinding, no words for panics, Thumb on ARMv7, SHA-256 as a loop, the
small flavour without doctor and metrics, sorted lists instead of BTreeMaps. What was tried and
brought nothing: other thresholds for inlining, outlining, folding of identical functions, hoisting
and sinking of equal code, wider merging of tails, no tables of jumps. What LLVM offers for MIPS and
leaves off (tail calls, a wider search for what fits behind a jump) would save 2 % and is left off
here too. MIPS16e, the short instructions of these processors, it cannot compile this program to.
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
        f"{tree(flags)} crates beside our own. Functions and named constants by crate, in KiB; texts,",
        "tables of jumps and relocations have no names and are not in here.\n",
        table(crates, "crate", 2048),
        "\nOur own, by module:\n",
        table(modules, "module", 4096),
    ]


def main():
    out = [
        "# What the binaries weigh\n",
        "Written by `cross/size-report.py`; edit that instead. All are static and stripped, made by",
        "`cross/build.sh`. 1 KiB = 1024 bytes.\n",
        overview(),
        WHY,
    ]
    for flavour, flags in FLAVOURS.items():
        out += chapter(flavour, flags)
    (ROOT / "docs/SIZE.md").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
