#!/usr/bin/env bash
# Makes the packages for OpenWrt from the static programs of cross/build.sh:
#
#   build.sh [VERSION-rN]        that of Cargo.toml and r1
#
# dist/TARGET/FLAVOUR/mtbox becomes, for every architecture that cross/targets.tsv names,
#   dist/openwrt/ipk/ARCHITECTURE/…ipk, and Packages for a feed     OpenWrt up to 24.10
#   dist/openwrt/apk/ARCHITECTURE/…apk                              OpenWrt from 25.12 on
# Programs that are not there are passed over. DIST and OUT name other folders. The same programs
# and SOURCE_DATE_EPOCH (the last commit, if not set) give the same bytes. Needs python3 alone.
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

[[ $version =~ ^[0-9]+(\.[0-9]+)*-r[0-9]+$ ]] || fail "not a version such as 0.1.0-r1: $version"
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct 2>/dev/null) ||
        fail "no git history; set SOURCE_DATE_EPOCH"
fi
export SOURCE_DATE_EPOCH PYTHONDONTWRITEBYTECODE=1

# Puts a file into the folder that becomes a package. Arguments: mode, from, to.
put() {
    install -D -m "$1" "$2" "$work/tree/$3"
}

# Begins a package anew. Arguments: its name, then its description in one line.
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

# One more field of the description.
field() {
    echo "$1: $2" >>"$work/about/control"
}

# Writes the package for the given architectures, in both formats.
finish() {
    python3 "$here/tools/mkipk.py" "$work/about" "$work/tree" "$OUT/ipk" "$@"
    python3 "$here/tools/mkapk.py" "$work/about" "$work/tree" "$OUT/apk" "$@"
}

# Arguments: the program, the flavour, then the architectures.
pack_mtbox() {
    local program=$1 files=$here/mtbox/files
    local about='Telegram MTProto proxy (FakeTLS) for routers and other small machines'
    if [ "$2" = full ]; then
        begin mtbox "$about"
        field Conflicts mtbox-mini
        field Provider-Priority 100
    else
        begin mtbox-mini \
            "$about, without https lists, encrypted DNS, doctor, metrics and QR codes: half the size"
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

# The web pages, for every architecture. Argument: their folder, laid out as LuCI's are.
pack_luci() {
    [ -d "$1" ] || return 0
    begin luci-app-mtbox 'LuCI pages for mtbox: users, links, live numbers, settings, log'
    field Depends "luci-base, mtbox"
    field Section luci
    # As luci.mk does: menus and rights are read anew.
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
[ "$count" -gt 0 ] || fail "nothing in $DIST; make it with cross/build.sh"

pack_luci "$here/luci-app-mtbox"
python3 "$here/tools/index.py" "$OUT/ipk"/*
echo "build.sh: $version for $count architectures and flavours in $OUT"
