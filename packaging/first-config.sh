#!/bin/sh
# Creates the system user mtbox and /etc/mtbox/mtbox.toml with a new secret, unless they exist. Does
# not change the text of an existing config, but lets the service read it if it is still as this
# script leaves it where there is no such user. Run as root after install.sh. PREFIX is where mtbox is installed
# (/usr/local), DPKG_ROOT the root below which the system is.
set -eu

prefix=${PREFIX:-/usr/local}
root=${DPKG_ROOT:-}
config=$root/etc/mtbox/mtbox.toml
# The web site that clients without a valid secret see; MTBOX_HOST names another one.
host=${MTBOX_HOST:-www.google.com}

# Succeeds if a socket of this machine listens on the TCP port $1.
is_taken() {
    port=$(printf '%04X' "$1")
    grep -qs "^ *[0-9]*: [0-9A-F]*:$port [0-9A-F]*:0000 0A" /proc/net/tcp /proc/net/tcp6
}

# Lets the service read the config $1. By number, because the group of another root has no name here.
share() {
    group=$(sed -n 's/^mtbox:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group" 2>/dev/null || true)
    if [ -n "$group" ]; then
        chown "0:$group" "$1"
        chmod 640 "$1"
    fi
}

mkdir -p "$root/etc/mtbox"
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --root="$root/" "$root$prefix/lib/sysusers.d/mtbox.conf"
fi

if [ -e "$config" ] || [ -L "$config" ]; then
    if [ -n "$(find "$config" -type f -uid 0 -gid 0 -perm 600)" ]; then
        share "$config"
    fi
    exit 0
fi

port=443
for wanted in 443 8443 3128; do
    if ! is_taken "$wanted"; then
        port=$wanted
        break
    fi
done
secret=$("$root$prefix/bin/mtbox" generate-secret "$host")

new=$config.new
trap 'rm -f "$new"' EXIT
(umask 077 && sed -e "s|@PORT@|$port|" -e "s|@SECRET@|$secret|" \
    "$root$prefix/share/mtbox/mtbox.toml" >"$new")
share "$new"
mv "$new" "$config"
trap - EXIT

echo "Wrote $config: one user, a new secret, port $port."
echo "To print the link for Telegram: mtbox access $config --qr"
