# shellcheck shell=bash disable=SC2034,SC2054
# How the small static binaries are compiled, in one place; read by the scripts beside it.

# The profile of Cargo.toml.
profile=router

# For rustc; each target's own in cross/targets.tsv come on top. crt, libc and the unwinder are
# zig's, not those that rustup ships; mips, mipsel and riscv64 are not static unless told.
#
# SHA-256 in a loop instead of 64 rounds written out; it is once per visitor and key.
# A program that ends at a panic needs no tables for unwinding (130 KB), no words for it and no places
# in the source (50 KB). What derives Debug is printed by nobody.
rustflags="-Clink-self-contained=no -Ctarget-feature=+crt-static -Cforce-unwind-tables=no
    --cfg=sha2_backend_soft=\"compact\"
    -Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=shallow"

# For the standard library, which is built along. Naming one feature takes the default ones away,
# and with them the reader of debug information behind backtraces, which nobody has on a router:
# a third of the binary.
std=(-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size)

# Where zig lives, see cross/setup.sh.
cross_home=${MTBOX_CROSS_HOME:-$PWD/.cross}

# One column of cross/targets.tsv. Arguments: the target, the column's number.
column() {
    awk -F '\t' -v target="$1" -v column="$2" '$1 == target { print $column }' cross/targets.tsv
}
