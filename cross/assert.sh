#!/usr/bin/env bash
# What must be true of a binary that is shipped, whatever its size: it runs without a loader and
# libraries, its stack is not executable, it asks for no more than the processors it is meant for
# have, and its cipher is compiled for speed.
#
#     cross/assert.sh TARGET dist/TARGET/FLAVOUR
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cross/flags.sh
target=$1 binary=$2/mtbox symbols=$2/mtbox.symbols

fail() {
    printf 'cross/assert.sh: %s\n' "$binary: $*" >&2
    exit 1
}

segments=$(readelf -lW "$binary")
! grep -q INTERP <<<"$segments" || fail "wants a loader"
! readelf -dW "$binary" | grep -q NEEDED || fail "wants a library"
grep -Eq 'GNU_STACK.* RW ' <<<"$segments" || fail "the stack is executable"

case $target in
mips*)
    traits=$(readelf -A "$binary")
    grep -q 'FP ABI: Soft float' <<<"$traits" || fail "wants a floating point unit"
    grep -q 'ISA: MIPS32r2' <<<"$traits" || fail "is not of MIPS32r2"
    ;;
armv7-unknown-linux-musleabi)
    # The names are needed: they tell code from the constants between it. The unwinder has two
    # functions that save and restore these registers, for frames that say they use them. ring asks
    # the kernel for NEON before it calls its functions that need it; labels in them begin with a dot.
    users=$(llvm-objdump -d --no-show-raw-insn --mattr=+neon,+vfp4 "$symbols" | awk '
        /^[0-9a-f]+ <[^.]/ { name = $2 }
        /[^0-9a-z_][dq](1[6-9]|2[0-9]|3[01])[^0-9a-z_]/ && name !~ /libunwind|^<ring_core_|^<_(bs|vp)aes_/ { print name }' |
        sort -u)
    [ -z "$users" ] || fail "uses d16 to d31, which half of the processors lack: $users"
    ;;
esac

cross/cipher.py "$profile" "$target"
