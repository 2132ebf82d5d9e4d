#!/usr/bin/env bash
# Tests release-notes.sh and release.sh with stand-ins for the programs; takes about 20 seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1790000000
unset GITHUB_REPOSITORY

fail() {
    echo "test-release.sh: $*" >&2
    exit 1
}

# Runs a command that must fail with a message. Arguments: a part of the message, the command.
refuses() {
    local wanted=$1 said
    shift
    if said=$("$@" 2>&1); then
        fail "$* did not fail"
    fi
    [[ $said == *"$wanted"* ]] || fail "$* said: $said"
}

# Compares two texts. Arguments: what is compared, the expected text, the actual one.
same() {
    [ "$2" = "$3" ] || fail "$1: expected:"$'\n'"$2"$'\n'"but got:"$'\n'"$3"
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

echo "test-release.sh: notes"
packaging/release-notes.sh | grep -q . || fail "no notes for $version"
cat >"$work/CHANGELOG.md" <<'END'
# Changelog

## [Unreleased]

## [1.2.3] - 2026-01-31

Words that go on
in the next line.

### Added

- An item that goes on
  in the next line.
- Another.

  | a | b |
  |---|---|
  | 1 | 2 |

## [1.2.30] - unreleased

Something else.

[Unreleased]: ../../compare/v1.2.3...HEAD
END
export CHANGELOG=$work/CHANGELOG.md
same notes "Words that go on in the next line.

### Added

- An item that goes on in the next line.
- Another.

  | a | b |
  |---|---|
  | 1 | 2 |" "$(packaging/release-notes.sh --dated 1.2.3)"
same notes "Something else." "$(packaging/release-notes.sh 1.2.30)"
refuses "has no date" packaging/release-notes.sh --dated 1.2.30
refuses "no section" packaging/release-notes.sh 1.2
refuses "is empty" packaging/release-notes.sh Unreleased
unset CHANGELOG

echo "test-release.sh: files"
export DIST=$work/dist
refuses "the tag is v0" packaging/release.sh --no-build --tag v0
GITHUB_REPOSITORY=a/b refuses "but this is https://github.com/a/b" \
    packaging/release.sh --no-build --tag "v$version"
refuses "no $DIST/" packaging/release.sh --no-build

# An ELF header with the machine, which packaging/deb/build.sh reads (elf(5)), then some bytes.
# Arguments: target, flavour.
stand_in() {
    local machine=0800
    case $1 in
    x86_64-*) machine=3e00 ;;
    i686-*) machine=0300 ;;
    aarch64-*) machine=b700 ;;
    arm*) machine=2800 ;;
    riscv64*) machine=f300 ;;
    esac
    mkdir -p "$DIST/$1/$2"
    {
        printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000'
        printf '%b' "\\x${machine:0:2}\\x${machine:2:2}"
        printf '%s %s\n' "$1" "$2"
    } >"$DIST/$1/$2/mtbox"
}

mapfile -t targets < <(awk -F '\t' '!/^#/ && $1 { print $1 }' cross/targets.tsv)
wanted=SHA256SUMS
wanted+=$'\n'luci-app-mtbox-$version-r1_noarch.apk$'\n'luci-app-mtbox_$version-r1_all.ipk
for target in "${targets[@]}"; do
    IFS=, read -ra names <<<"$(awk -F '\t' -v t="$target" '$1 == t { print $6 }' cross/targets.tsv)"
    for flavour in full mini; do
        name=mtbox
        [ "$flavour" = full ] || name=mtbox-mini
        stand_in "$target" "$flavour"
        wanted+=$'\n'$name-$version-$target.tar.gz
        for architecture in "${names[@]}"; do
            [ "$architecture" != - ] || continue
            wanted+=$'\n'$name-$version-r1_$architecture.apk
            wanted+=$'\n'${name}_$version-r1_$architecture.ipk
        done
    done
done
if command -v dpkg-deb >/dev/null; then
    for architecture in amd64 arm64 armhf i386 riscv64; do
        wanted+=$'\n'mtbox_$version-1_$architecture.deb
    done
else
    echo "test-release.sh: skipped: the files of a release, because dpkg-deb is not installed"
    exit 0
fi

packaging/release.sh --no-build
same "files of the release" "$(sort <<<"$wanted")" "$(find "$DIST/release" -type f -printf '%f\n' | sort)"
(cd "$DIST/release" && sha256sum --check --quiet SHA256SUMS)
same notes "$(packaging/release-notes.sh)" "$(cat "$DIST/release-notes.md")"
sums=$(cat "$DIST/release/SHA256SUMS")
packaging/release.sh --no-build >/dev/null
same "bytes of two builds" "$sums" "$(cat "$DIST/release/SHA256SUMS")"

echo "test-release.sh: install from an archive"
name=mtbox-$version-x86_64-unknown-linux-musl
tar -xzf "$DIST/release/$name.tar.gz" -C "$work"
DESTDIR=$work/installed PREFIX=/usr "$work/$name/packaging/install.sh"
cmp "$work/installed/usr/bin/mtbox" "$DIST/x86_64-unknown-linux-musl/full/mtbox"
[ -s "$work/installed/usr/share/man/man1/mtbox.1" ] || fail "the archive has no man page"
