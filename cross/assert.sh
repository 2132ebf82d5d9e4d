#!/usr/bin/env bash
# Checks a binary before it is shipped: it is static, its stack is not executable, it uses only
# instructions that every processor of the target has, and its cipher is compiled for speed.
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
! grep -q INTERP <<<"$segments" || fail "needs a loader"
! readelf -dW "$binary" | grep -q NEEDED || fail "needs a shared library"
grep -Eq 'GNU_STACK.* RW ' <<<"$segments" || fail "the stack is executable"

case $target in
mips*)
    traits=$(readelf -A "$binary")
    grep -q 'FP ABI: Soft float' <<<"$traits" || fail "needs a floating point unit"
    grep -q 'ISA: MIPS32r2' <<<"$traits" || fail "is not MIPS32r2 code"
    ;;
armv7-unknown-linux-musleabi)
    # Symbols separate code from the constants between functions. Two functions of the unwinder save
    # and restore these registers, for frames that use them. ring calls its NEON functions only if
    # the kernel reports NEON; labels inside of them begin with a dot.
    users=$(llvm-objdump -d --no-show-raw-insn --mattr=+neon,+vfp4 "$symbols" | awk '
        /^[0-9a-f]+ <[^.]/ { name = $2 }
        /[^0-9a-z_][dq](1[6-9]|2[0-9]|3[01])[^0-9a-z_]/ && name !~ /libunwind|^<ring_core_|^<_(bs|vp)aes_/ { print name }' |
        sort -u)
    [ -z "$users" ] || fail "uses d16 to d31, which some ARMv7 processors lack: $users"
    ;;
esac

cross/cipher.py "$profile" "$target"
