#!/bin/sh
# Builds a package for Debian and its kin from a program that is built already:
#
#   build.sh [MTBOX] [FOLDER]    target/release/mtbox, into the folder target/debian
#
# The same program and SOURCE_DATE_EPOCH (the last commit, if not set) give the same bytes.
# DEBFULLNAME and DEBEMAIL say who made it. Needs dpkg-deb, nothing else of Debian.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
program=${1:-$source/target/release/mtbox}
folder=${2:-$source/target/debian}

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

# The architecture as Debian calls it, from the ELF header (elf(5): e_machine, little endian).
architecture() {
    case $(od -An -tx1 -j18 -N2 "$program" | tr -d ' ') in
    3e00) echo amd64 ;;
    b700) echo arm64 ;;
    2800) echo armhf ;;
    0300) echo i386 ;;
    f300) echo riscv64 ;;
    *) fail "$program is for a machine that Debian's packages do not know" ;;
    esac
}

# What the program is linked with: nothing, if it is static.
depends() {
    glibc=$(grep -ao 'GLIBC_2\.[0-9]*' "$program" | sort -Vu | tail -n 1)
    if [ -n "$glibc" ]; then
        printf 'Depends: libc6 (>= %s)' "${glibc#GLIBC_}"
        if grep -aq 'libgcc_s\.so\.1' "$program"; then
            printf ', libgcc-s1'
        fi
        echo
    fi
}

[ -f "$program" ] || fail "no $program; build it with cargo build --release, or name it"
command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing; the package dpkg brings it"
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct 2>/dev/null) ||
        fail "no git history; set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -n 1)-1
about=$(sed -n 's/^description = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -n 1)
maintainer="${DEBFULLNAME:-mtbox developers} <${DEBEMAIL:-mtbox@users.noreply.invalid}>"
arch=$(architecture)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
DESTDIR=$root PREFIX=/usr ZSH_FOLDER=vendor-completions "$here/../install.sh" "$program"

documents=$root/usr/share/doc/mtbox
gzip -9n "$root/usr/share/man/man1/mtbox.1" "$root/usr/share/man/man5/mtbox.toml.5"
gzip -9nc "$source/CHANGELOG.md" >"$documents/changelog.gz"
gzip -9nc >"$documents/changelog.Debian.gz" <<END
mtbox ($version) stable; urgency=medium

  * What is new stands in changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n'
    printf 'Upstream-Name: mtbox\n\nFiles: *\n'
    sed -n 's/^Copyright (c) /Copyright: /p' "$source/LICENSE"
    printf 'License: Expat\n'
    sed -e '1,/^Copyright/d' -e '/./!s/^/./' -e 's/^/ /' "$source/LICENSE" | sed 1d
} >"$documents/copyright"

mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do
    cp "$here/$script" "$root/DEBIAN/$script"
    chmod 755 "$root/DEBIAN/$script"
done
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) \
    >"$root/DEBIAN/md5sums"
size=$(find "$root/usr" -type f -printf '%s\n' |
    awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
{
    echo "Package: mtbox"
    echo "Version: $version"
    echo "Architecture: $arch"
    echo "Maintainer: $maintainer"
    echo "Installed-Size: $size"
    depends
    echo "Section: net"
    echo "Priority: optional"
    echo "Description: $about"
    echo " Everyone who is invited has a named secret; to anyone else the port is the"
    echo " web site that the secret names. The first installation makes a config with"
    echo " one user and starts the service."
} >"$root/DEBIAN/control"

find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$folder"
package=$folder/mtbox_${version}_$arch.deb
dpkg-deb --build --root-owner-group -Zxz "$root" "$package" >/dev/null
echo "$package"
