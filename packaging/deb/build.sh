#!/bin/sh
# Builds a Debian package from a compiled program, and prints its path:
#
#   build.sh [MTBOX] [FOLDER]    default: target/release/mtbox, target/debian
#
# The same program and SOURCE_DATE_EPOCH (default: the last commit) give the same bytes.
# DEBFULLNAME and DEBEMAIL name the maintainer. Needs dpkg-deb, no other tool of Debian.
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

# Prints Debian's name of the architecture, by the ELF header (elf(5): e_machine, little endian).
architecture() {
    case $(od -An -tx1 -j18 -N2 "$program" | tr -d ' ') in
    3e00) echo amd64 ;;
    b700) echo arm64 ;;
    2800) echo armhf ;;
    0300) echo i386 ;;
    f300) echo riscv64 ;;
    *) fail "$program is for a machine that Debian has no name for" ;;
    esac
}

# Prints the field Depends: what creates the user of the service, and the libraries of a program that
# is not static.
depends() {
    printf 'Depends: systemd | systemd-standalone-sysusers | systemd-sysusers'
    glibc=$(grep -ao 'GLIBC_2\.[0-9]*' "$program" | sort -Vu | tail -n 1)
    if [ -n "$glibc" ]; then
        printf ', libc6 (>= %s)' "${glibc#GLIBC_}"
        if grep -aq 'libgcc_s\.so\.1' "$program"; then
            printf ', libgcc-s1'
        fi
    fi
    echo
}

[ -f "$program" ] || fail "$program does not exist; run cargo build --release, or name the program"
command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing; install the package dpkg"
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct 2>/dev/null) ||
        fail "no git history; set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH

# Prints the value of a key of [package] in Cargo.toml. Argument: the key.
manifest() {
    sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$source/Cargo.toml" | head -n 1
}

version=$(manifest version)-1
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

  * See changelog.gz.

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
    echo "Homepage: $(manifest homepage)"
    echo "Description: $(manifest description)"
    echo " Each user has a secret with a name. A client without a valid secret is"
    echo " connected to the web site behind the host name of the secret. The first"
    echo " installation creates a config with one user and starts the service."
} >"$root/DEBIAN/control"

find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$folder"
package=$folder/mtbox_${version}_$arch.deb
dpkg-deb --build --root-owner-group -Zxz "$root" "$package" >/dev/null
echo "$package"
