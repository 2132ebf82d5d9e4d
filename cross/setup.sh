#!/usr/bin/env bash
# Installs the tools for cross builds on a Debian machine: a compiler with the source of its standard
# library, zig as linker, C library and C compiler of every target, and qemu. Keeps what is already
# installed. Needs root only if a Debian package is missing.
#
# MTBOX_CROSS_HOME is the folder of the Python environment with zig (default: .cross in the work tree).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cross/flags.sh

fail() {
    printf 'cross/setup.sh: %s\n' "$*" >&2
    exit 1
}

# A file that must exist, and the Debian package that contains it.
packages=()
while read -r path package; do
    [ -e "$path" ] || packages+=("$package")
done <<'NEEDED'
/usr/bin/rustc rustc-web
/usr/bin/cargo cargo-web
/usr/lib/rustlib/src/rust/library/std rust-web-src
/usr/bin/qemu-mips-static qemu-user-static
/usr/bin/llvm-objdump llvm
/usr/bin/busybox busybox
/usr/bin/shellcheck shellcheck
/usr/bin/python3 python3
NEEDED

if [ "${#packages[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || fail "no apt-get; install by hand: ${packages[*]}"
    [ "$(id -u)" = 0 ] || fail "run as root: apt-get install ${packages[*]}"
    echo "cross/setup.sh: apt-get install ${packages[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y \
        "${packages[@]}" >/dev/null || fail "apt-get could not install ${packages[*]}"
fi

if ! [ -x "$cross_home/venv/bin/cargo-zigbuild" ] || ! [ -x "$cross_home/venv/bin/python" ]; then
    echo "cross/setup.sh: zig and cargo-zigbuild into $cross_home/venv"
    # On Debian, venv is in a package of its own.
    python3 -m venv "$cross_home/venv" 2>/dev/null ||
        fail "python3 -m venv does not work; run as root: apt-get install python3-venv"
    # zig 0.15.2 is the last version whose C library is plain musl, like that of rustup's targets.
    "$cross_home/venv/bin/pip" install -q --disable-pip-version-check \
        ziglang==0.15.2 cargo-zigbuild==0.24.0 || fail "pip could not install zig"
fi

/usr/bin/rustc --version
"$cross_home/venv/bin/cargo-zigbuild" --version
echo "zig $("$cross_home/venv/bin/python" -m ziglang version)"
qemu-mips-static --version | head -n 1
llvm-objdump --version | sed -n 's/^ *\(.*LLVM version\)/\1/p'
