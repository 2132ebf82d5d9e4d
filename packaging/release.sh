#!/usr/bin/env bash
# Builds the files of a release into dist/release, and the release notes into dist/release-notes.md:
#
#     packaging/release.sh [--no-build] [--tag TAG]
#
#   mtbox-VERSION-TARGET.tar.gz        static program, installer, man pages, completions
#   mtbox-mini-VERSION-TARGET.tar.gz   the same with the flavour mini
#   mtbox_VERSION-1_ARCH.deb           Debian packages
#   *_ARCH.ipk, *_ARCH.apk             OpenWrt packages, luci-app-mtbox among them
#   SHA256SUMS                         for `sha256sum --check`
#
# --no-build takes the programs that cross/build.sh left in dist/; DIST names another folder.
# --tag is for a public release. It fails unless TAG is `v` and the version of Cargo.toml, and the
# section of CHANGELOG.md has a date. In GitHub Actions, GITHUB_REPOSITORY must be the repository
# that Cargo.toml names.
# The same programs and SOURCE_DATE_EPOCH (default: the last commit) give the same bytes.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dist=${DIST:-dist}
out=$dist/release
notes=$dist/release-notes.md

# The program in the Debian package of an architecture. armhf takes the one for ARMv6, which also
# runs on the Raspberry Pi 1 and Zero.
debian_targets=(
    x86_64-unknown-linux-musl
    aarch64-unknown-linux-musl
    arm-unknown-linux-musleabi
    i686-unknown-linux-musl
    riscv64gc-unknown-linux-musl
)

fail() {
    echo "release.sh: $*" >&2
    exit 1
}

# Prints the value of a key of [package] in Cargo.toml. Argument: the key.
manifest() {
    sed -n "s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml | head -n 1
}

build=yes tag=
while [ $# -gt 0 ]; do
    case $1 in
    --no-build) build= ;;
    --tag)
        [ $# -gt 1 ] || fail "--tag needs a value"
        shift
        tag=$1
        ;;
    *) fail "unknown argument: $1" ;;
    esac
    shift
done
[ -z "$build" ] || [ "$dist" = dist ] || fail "cross/build.sh writes to dist only; add --no-build"

version=$(manifest version)
if [ -n "$tag" ]; then
    [ "$tag" = "v$version" ] || fail "the tag is $tag, but Cargo.toml has the version $version"
    dated=--dated
fi
if [ -n "${GITHUB_REPOSITORY:-}" ] && [ -n "$tag" ]; then
    repository=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY
    [ "$(manifest repository)" = "$repository" ] ||
        fail "repository in Cargo.toml is $(manifest repository), but this is $repository"
fi
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) ||
        fail "no git history; set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH

mkdir -p "$dist"
packaging/release-notes.sh ${dated:+"$dated"} "$version" >"$notes"

[ -z "$build" ] || cross/build.sh all

mapfile -t targets < <(awk -F '\t' '!/^#/ && $1 { print $1 }' cross/targets.tsv)
for target in "${targets[@]}"; do
    for flavour in full mini; do
        [ -f "$dist/$target/$flavour/mtbox" ] ||
            fail "no $dist/$target/$flavour/mtbox; build it with cross/build.sh $target"
    done
done

rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Writes one archive. Its layout lets packaging/install.sh find everything that it installs.
# Arguments: the program, the name without .tar.gz.
archive() {
    local folder=$work/$2
    mkdir -p "$folder/packaging" "$folder/docs"
    install -m 755 "$1" "$folder/mtbox"
    cp LICENSE CHANGELOG.md README.md README.ru.md example.config.toml "$folder"
    cp docs/COMPATIBILITY.md "$folder/docs"
    cp -R packaging/install.sh packaging/first-config.sh packaging/mtbox.1 packaging/mtbox.toml.5 \
        packaging/mtbox.toml packaging/mtbox.service packaging/mtbox.sysusers \
        packaging/completions "$folder/packaging"
    chmod -R u=rwX,go=rX "$folder"
    tar --create --directory "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner --format=ustar "$2" | gzip -9n >"$out/$2.tar.gz"
    rm -rf "$folder"
}

for target in "${targets[@]}"; do
    archive "$dist/$target/full/mtbox" "mtbox-$version-$target"
    archive "$dist/$target/mini/mtbox" "mtbox-mini-$version-$target"
done

for target in "${debian_targets[@]}"; do
    packaging/deb/build.sh "$dist/$target/full/mtbox" "$out" >/dev/null
done

DIST=$dist OUT=$work/openwrt openwrt/build.sh >/dev/null
cp "$work"/openwrt/ipk/*/*.ipk "$out"
# An .apk has no architecture in its name.
for package in "$work"/openwrt/apk/*/*.apk; do
    architecture=$(basename "$(dirname "$package")")
    cp "$package" "$out/$(basename "$package" .apk)_$architecture.apk"
done

(cd "$out" && LC_ALL=C sha256sum -- * >"$work/SHA256SUMS")
mv "$work/SHA256SUMS" "$out"
echo "release.sh: $version: $(find "$out" -type f | wc -l) files in $out, notes in $notes"
