#!/usr/bin/env bash
# Builds static binaries for other processors into dist/TARGET/FLAVOUR/: mtbox, which is stripped,
# and mtbox.symbols, the same binary with symbols.
#
#     cross/build.sh TARGET… [--flavour full|mini]… [--accept]
#     cross/build.sh all
#
# Default: both flavours. cross/assert.sh checks each binary. A binary that is more than 3 % larger
# than the accepted size in cross/sizes.tsv is an error; --accept writes the new size instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cross/flags.sh

fail() {
    printf 'cross/build.sh: %s\n' "$*" >&2
    exit 1
}

targets=() flavours=() accept=
while [ $# -gt 0 ]; do
    case $1 in
    --flavour) shift; flavours+=("${1:-}") ;;
    --accept) accept=yes ;;
    all) mapfile -t targets < <(awk -F '\t' '!/^#/ { print $1 }' cross/targets.tsv) ;;
    -*) fail "unknown flag: $1" ;;
    *) targets+=("$1") ;;
    esac
    shift
done
[ "${#targets[@]}" -gt 0 ] || fail "no target given; see cross/targets.tsv"
[ "${#flavours[@]}" -gt 0 ] || flavours=(mini full)

folder=${CARGO_TARGET_DIR:-target}/cross

# Succeeds if cross/setup.sh has not been run, and rustup has the standard library of the target $1.
has_rustup_std() {
    ! [ -x "$cross_home/venv/bin/cargo-zigbuild" ] && command -v rustup >/dev/null &&
        [[ $'\n'$(rustup target list --installed 2>/dev/null)$'\n' == *$'\n'"$1"$'\n'* ]]
}

# Builds one binary. Arguments: the target, flags of cargo.
build() {
    local target=$1 more
    shift
    more=$(column "$target" 5)
    [ "$more" != - ] || more=
    export CARGO_TARGET_DIR=$folder CARGO_TERM_COLOR=never
    # llvm-strip removes the symbols later, after the copy to mtbox.symbols.
    export "CARGO_PROFILE_${profile^^}_STRIP=none"
    if has_rustup_std "$target"; then
        local command=build
        # ring needs a C compiler.
        case " $* " in *" --no-default-features "*) ;; *) command=zigbuild ;; esac
        RUSTFLAGS="-Ctarget-feature=+crt-static $more" \
            cargo "$command" --locked --profile "$profile" --target "$target" "$@"
        return
    fi
    [ -x "$cross_home/venv/bin/cargo-zigbuild" ] || fail "zig is not installed in $cross_home; run cross/setup.sh"
    # RUSTC_BOOTSTRAP=1 lets Debian's stable compiler take the nightly flags of build-std.
    PATH=$cross_home/venv/bin:$PATH RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo \
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="$rustflags $more" \
        /usr/bin/cargo zigbuild --locked --profile "$profile" "${std[@]}" --target "$target" "$@"
}

# Compares a size with the accepted one, or writes it with --accept.
# Arguments: target, flavour, bytes.
hold_size() {
    local target=$1 flavour=$2 bytes=$3 last
    if [ -n "$accept" ]; then
        python3 cross/accept.py "$target" "$flavour" "$bytes"
        return
    fi
    last=$(awk -F '\t' -v t="$target" -v f="$flavour" '$1 == t && $2 == f { print $3 }' cross/sizes.tsv)
    [ -n "$last" ] || fail "cross/sizes.tsv has no line for $target $flavour; add it with --accept"
    [ $((bytes * 100)) -le $((last * 103)) ] ||
        fail "$target $flavour has $bytes bytes, more than 3 % above the accepted $last"
}

for target in "${targets[@]}"; do
    [ -n "$(column "$target" 1)" ] || fail "cross/targets.tsv has no target $target"
    for flavour in "${flavours[@]}"; do
        case $flavour in
        full) features=() ;;
        mini) features=(--no-default-features) ;;
        *) fail "unknown flavour: $flavour" ;;
        esac
        start=$SECONDS
        build "$target" --bin mtbox "${features[@]}"
        out=dist/$target/$flavour
        mkdir -p "$out"
        cp "$folder/$target/$profile/mtbox" "$out/mtbox.symbols"
        llvm-strip -o "$out/mtbox" "$out/mtbox.symbols"
        cross/assert.sh "$target" "$out"
        bytes=$(wc -c <"$out/mtbox")
        printf '%s %s: %s bytes, %s with gzip, %s s\n' "$target" "$flavour" "$bytes" \
            "$(gzip -9nc "$out/mtbox" | wc -c)" $((SECONDS - start))
        # The accepted sizes are for a standard library built by -Zbuild-std.
        has_rustup_std "$target" || hold_size "$target" "$flavour" "$bytes"
    done
done
