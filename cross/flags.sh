# shellcheck shell=bash disable=SC2034,SC2054
# Compiler flags of the small static binaries, sourced by the other scripts of this folder.

# The profile of Cargo.toml.
profile=router

# Flags of rustc; cross/targets.tsv adds those of a target. Start files, libc and the unwinder are
# those of zig, not those of rustup. mips, mipsel and riscv64 are static only with +crt-static.
#
# - sha2_backend_soft: SHA-256 as a loop instead of 64 unrolled rounds; one hash per client and key.
# - unwind tables (130 KB) and the text and location of panics (50 KB) have no use, since a panic
#   ends the program.
# - fmt-debug: no output uses derived Debug.
rustflags="-Clink-self-contained=no -Ctarget-feature=+crt-static -Cforce-unwind-tables=no
    --cfg=sha2_backend_soft=\"compact\"
    -Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=shallow"

# Flags for building the standard library. Naming one feature disables the default ones, and with
# them the DWARF reader for backtraces, which is a third of the binary.
std=(-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size)

# The folder of zig; see cross/setup.sh.
cross_home=${MTBOX_CROSS_HOME:-$PWD/.cross}

# Prints a column of cross/targets.tsv. Arguments: the target, the number of the column.
column() {
    awk -F '\t' -v target="$1" -v column="$2" '$1 == target { print $column }' cross/targets.tsv
}
