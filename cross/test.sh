#!/usr/bin/env bash
# Runs the unit tests of the floors that touch no system on the first processor model of each
# target: cross/test.sh TARGET…
#
# Those of `io` cannot: qemu 7.2 knows neither SO_MARK nor SO_BINDTODEVICE for MIPS, and hands over
# the machine's own numbers of errors.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cross/flags.sh

for target in "$@"; do
    more=$(column "$target" 5)
    [ "$more" != - ] || more=
    name=${target//-/_}
    export "CARGO_TARGET_${name^^}_RUNNER=qemu-$(column "$target" 3)-static -cpu $(column "$target" 4 | cut -d , -f 1)"
    # Tests have to unwind; little of them is hot, so that nothing is compiled for speed.
    PATH=$cross_home/venv/bin:$PATH RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Clink-self-contained=no -Ctarget-feature=+crt-static $more" \
        CARGO_PROFILE_DEV_DEBUG=false CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/cross-test" \
        cargo-zigbuild test --quiet --locked --lib --no-default-features \
        --config 'profile.dev.package."*".opt-level=1' \
        -Zbuild-std=std,panic_abort,panic_unwind,test --target "$target" \
        -- proto:: util:: accounts:: limits:: mimicry:: flow:: config::
done
