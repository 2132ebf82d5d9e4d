#!/usr/bin/env bash
# Checks for other processors, called by .ci/run: builds the flavours that cross/targets.tsv names
# (CROSS=all: both flavours of every target), checks their sizes, runs them on every processor model,
# runs end-to-end tests with them, measures start and relay, and runs the unit tests of the pure
# layers on MIPS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cross/flags.sh

cross/setup.sh

if [ "${CROSS:-}" = all ]; then
    rows=$(awk -F '\t' '!/^#/ { print $1, "mini,full" }' cross/targets.tsv)
else
    rows=$(awk -F '\t' '!/^#/ && $2 != "-" { print $1, $2 }' cross/targets.tsv)
fi

while read -r target flavours; do
    # shellcheck disable=SC2086 # one flag for each flavour
    cross/build.sh "$target" --flavour ${flavours//,/ --flavour }
done <<<"$rows"
cut -d ' ' -f 1 <<<"$rows" | xargs cross/run.py

while read -r target flavours; do
    emulator=
    # The build machine runs its own binaries without an emulator.
    case $target in
    x86_64*) ;;
    *) emulator="qemu-$(column "$target" 3)-static -cpu $(column "$target" 4 | cut -d , -f 1)" ;;
    esac
    for flavour in ${flavours//,/ }; do
        echo "cross/ci.sh: end to end with $target, $flavour"
        MTBOX_TEST_PROGRAM="$emulator $PWD/dist/$target/$flavour/mtbox" \
            cargo test --quiet --locked --test e2e -- relay:: fronting:: stats:: throttle:: privileges::
    done
done <<<"$rows"

# Numbers under emulation mean nothing; this measures the binary of the build machine.
echo "cross/ci.sh: memory and time of a start, cost of a relay"
MTBOX_BENCH_PROGRAM=$PWD/dist/x86_64-unknown-linux-musl/mini/mtbox \
    cargo bench --quiet --locked --bench start -- --short --gate
MTBOX_BENCH_PROGRAM=$PWD/dist/x86_64-unknown-linux-musl/mini/mtbox \
    cargo bench --quiet --locked --bench relay -- --short

cross/test.sh mipsel-unknown-linux-musl
