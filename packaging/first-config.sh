#!/bin/sh
# Makes the user mtbox and /etc/mtbox/mtbox.toml with a secret of its own, where they are not there
# yet. Never touches a config that is there. Run as root after the files are in their places;
# PREFIX says where (/usr/local), DPKG_ROOT below which root.
set -eu

prefix=${PREFIX:-/usr/local}
root=${DPKG_ROOT:-}
config=$root/etc/mtbox/mtbox.toml
# The site that strangers see; MTBOX_HOST names another one.
host=${MTBOX_HOST:-www.google.com}

# Does somebody on this machine listen on the TCP port $1?
is_taken() {
    port=$(printf '%04X' "$1")
    grep -qs "^ *[0-9]*: [0-9A-F]*:$port [0-9A-F]*:0000 0A" /proc/net/tcp /proc/net/tcp6
}

mkdir -p "$root/etc/mtbox"
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --root="$root/" "$root$prefix/lib/sysusers.d/mtbox.conf"
fi

if [ -e "$config" ] || [ -L "$config" ]; then
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
# The service may read it. By number: below another root the name means nothing here.
group=$(sed -n 's/^mtbox:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group" 2>/dev/null || true)
if [ -n "$group" ]; then
    chown "0:$group" "$new"
    chmod 640 "$new"
fi
mv "$new" "$config"
trap - EXIT

echo "Wrote $config: one user, a fresh secret, port $port."
echo "The link for Telegram: mtbox access $config --qr"
