#!/usr/bin/env bash
# Runs the unit tests of the pure layers under qemu, on the first processor model of each target:
# cross/test.sh TARGET…
#
# Not those of `io`: qemu 7.2 does not support SO_MARK and SO_BINDTODEVICE for MIPS, and returns the
# error numbers of the host.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cross/flags.sh

for target in "$@"; do
    more=$(column "$target" 5)
    [ "$more" != - ] || more=
    name=${target//-/_}
    export "CARGO_TARGET_${name^^}_RUNNER=qemu-$(column "$target" 3)-static -cpu $(column "$target" 4 | cut -d , -f 1)"
    # Tests need unwinding. Little of them is hot, so that a low opt-level saves time.
    PATH=$cross_home/venv/bin:$PATH RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Clink-self-contained=no -Ctarget-feature=+crt-static $more" \
        CARGO_PROFILE_DEV_DEBUG=false CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/cross-test" \
        cargo-zigbuild test --quiet --locked --lib --no-default-features \
        --config 'profile.dev.package."*".opt-level=1' \
        -Zbuild-std=std,panic_abort,panic_unwind,test --target "$target" \
        -- proto:: util:: accounts:: limits:: mimicry:: flow:: config::
done
