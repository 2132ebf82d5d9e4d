#!/usr/bin/env bash
# Makes OpenWrt packages from the static binaries of cross/build.sh:
#
#   build.sh [VERSION-rN]        default: the version in Cargo.toml, and r1
#
# For each architecture in cross/targets.tsv, dist/TARGET/FLAVOUR/mtbox becomes
#   dist/openwrt/ipk/ARCHITECTURE/…ipk, and Packages for a feed     OpenWrt up to 24.10
#   dist/openwrt/apk/ARCHITECTURE/…apk                              OpenWrt 25.12 and later
# Missing binaries are skipped. DIST and OUT set other directories. Requires python3. The output is
# reproducible: it depends only on the binaries and on SOURCE_DATE_EPOCH (default: the last commit).
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(dirname "$here")
DIST=${DIST:-$source/dist}
OUT=${OUT:-$DIST/openwrt}
version=${1:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -n 1)-r1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

[[ $version =~ ^[0-9]+(\.[0-9]+)*-r[0-9]+$ ]] || fail "invalid version: $version; example: 0.1.0-r1"
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct 2>/dev/null) ||
        fail "no git history: set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH PYTHONDONTWRITEBYTECODE=1

# Copies a file into the package root. Arguments: mode, source, destination.
put() {
    install -D -m "$1" "$2" "$work/tree/$3"
}

# Starts a new package. Arguments: name, description in one line.
begin() {
    rm -rf "$work/tree" "$work/about"
    mkdir -p "$work/tree" "$work/about"
    cat >"$work/about/control" <<END
Package: $1
Version: $version
Source: $1
License: MIT
Maintainer: mtbox developers <mtbox@users.noreply.invalid>
Description: $2
END
}

# Adds a field to the control file. Arguments: name, value.
field() {
    echo "$1: $2" >>"$work/about/control"
}

# Writes the package for the given architectures, in both formats.
finish() {
    python3 "$here/tools/mkipk.py" "$work/about" "$work/tree" "$OUT/ipk" "$@"
    python3 "$here/tools/mkapk.py" "$work/about" "$work/tree" "$OUT/apk" "$@"
}

# Packs the binary and its service files. Arguments: binary, flavour, architectures.
pack_mtbox() {
    local program=$1 files=$here/mtbox/files
    local about='Telegram MTProto proxy (FakeTLS) for routers and other small machines'
    if [ "$2" = full ]; then
        begin mtbox "$about"
        field Conflicts mtbox-mini
        field Provider-Priority 100
    else
        begin mtbox-mini \
            "$about, half the size, without HTTPS lists, encrypted DNS, doctor, metrics, QR codes"
        field Provides mtbox
        field Conflicts mtbox
    fi
    field Section net
    field Require-User mtbox=5443:mtbox=5443
    echo /etc/config/mtbox >"$work/about/conffiles"
    sed -n '/^define Package\/mtbox\/postinst$/,/^endef$/{//d;s/\$\$/$/g;p}' \
        "$here/mtbox/Makefile" >"$work/about/postinst"
    put 755 "$program" usr/bin/mtbox
    put 755 "$files/mtbox.init" etc/init.d/mtbox
    put 600 "$files/mtbox.config" etc/config/mtbox
    put 644 "$files/mtbox.capabilities.json" etc/capabilities/mtbox.json
    put 755 "$files/mtbox.defaults" etc/uci-defaults/80-mtbox
    put 644 "$files/mtbox.keep" lib/upgrade/keep.d/mtbox
    finish "${@:3}"
}

# Packs the LuCI app for all architectures. Argument: its directory, with the layout of LuCI apps.
pack_luci() {
    [ -d "$1" ] || return 0
    begin luci-app-mtbox 'LuCI support for mtbox: users, links, statistics, settings, log'
    field Depends "luci-base, mtbox"
    field Section luci
    # As in luci.mk: makes LuCI reload menus and ACLs.
    cat >"$work/about/postinst" <<'END'
#!/bin/sh
if [ -z "${IPKG_INSTROOT}" ]; then
	rm -rf /tmp/luci-indexcache.* /tmp/luci-modulecache/
	/etc/init.d/rpcd reload
fi
END
    mkdir -p "$work/tree/www"
    (cd "$1/root" && cp -R . "$work/tree")
    cp -R "$1/htdocs/." "$work/tree/www"
    for po in "$1"/po/*/*.po; do
        [ -f "$po" ] || continue
        language=$(basename "$(dirname "$po")")
        mkdir -p "$work/tree/usr/lib/lua/luci/i18n"
        python3 "$here/tools/po2lmo.py" "$po" \
            "$work/tree/usr/lib/lua/luci/i18n/mtbox.$language.lmo"
    done
    finish all
}

rm -rf "$OUT"
mkdir -p "$OUT"
count=0
while IFS=$'\t' read -r target _ _ _ _ architectures; do
    case $target in '' | '#'*) continue ;; esac
    [ "$architectures" != - ] || continue
    for flavour in full mini; do
        program=$DIST/$target/$flavour/mtbox
        [ -f "$program" ] || continue
        IFS=, read -ra names <<<"$architectures"
        pack_mtbox "$program" "$flavour" "${names[@]}"
        count=$((count + ${#names[@]}))
    done
done <"$source/cross/targets.tsv"
[ "$count" -gt 0 ] || fail "no binaries in $DIST: run cross/build.sh first"

pack_luci "$here/luci-app-mtbox"
python3 "$here/tools/index.py" "$OUT/ipk"/*
echo "build.sh: $version for $count architectures and flavours, in $OUT"
