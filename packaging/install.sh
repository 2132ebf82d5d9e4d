#!/bin/sh
# Puts mtbox and what belongs to it in their places, or takes them away again:
#
#   install.sh [MTBOX]     MTBOX is the program; target/release/mtbox if not given
#   install.sh --remove    the config, the user and what was counted stay
#
# PREFIX (/usr/local) says where to, DESTDIR below which root: with DESTDIR nothing of the running
# system is touched, for who makes packages. ZSH_FOLDER is how the system calls the folder below
# share/zsh (site-functions).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
zsh=${ZSH_FOLDER:-site-functions}

# What goes where, mode:source:place below the prefix.
places() {
    cat <<END
755:$program:bin/mtbox
644:$here/mtbox.1:share/man/man1/mtbox.1
644:$here/mtbox.toml.5:share/man/man5/mtbox.toml.5
644:$here/completions/mtbox.bash:share/bash-completion/completions/mtbox
644:$here/completions/_mtbox:share/zsh/$zsh/_mtbox
644:$here/completions/mtbox.fish:share/fish/vendor_completions.d/mtbox.fish
644:$here/mtbox.service:lib/systemd/system/mtbox.service
644:$here/mtbox.sysusers:lib/sysusers.d/mtbox.conf
644:$here/mtbox.toml:share/mtbox/mtbox.toml
755:$here/first-config.sh:share/mtbox/first-config
644:$here/../example.config.toml:share/doc/mtbox/examples/example.config.toml
644:$here/../README.md:share/doc/mtbox/README.md
644:$here/../docs/COMPATIBILITY.md:share/doc/mtbox/COMPATIBILITY.md
END
}

place() {
    to=$destdir$prefix/$3
    mkdir -p "$(dirname "$to")"
    # Over a program that runs, too.
    rm -f "$to"
    cp "$2" "$to"
    chmod "$1" "$to"
}

tell_systemd() {
    if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
        systemctl "$@"
    fi
}

if [ "${1:-}" = --remove ]; then
    program=
    tell_systemd disable --now mtbox || true
    places | while read -r line; do
        rm -f "$destdir$prefix/${line##*:}"
    done
    rmdir "$destdir$prefix/share/mtbox" "$destdir$prefix/share/doc/mtbox/examples" \
        "$destdir$prefix/share/doc/mtbox" 2>/dev/null || true
    tell_systemd daemon-reload
    exit 0
fi

program=${1:-$here/../target/release/mtbox}
if [ ! -f "$program" ]; then
    echo "install.sh: no $program; build it with cargo build --release, or name it" >&2
    exit 1
fi
places | while IFS=: read -r mode source to; do
    place "$mode" "$source" "$to"
done
unit=$destdir$prefix/lib/systemd/system/mtbox.service
sed "s|/usr/bin/mtbox|$prefix/bin/mtbox|" "$here/mtbox.service" >"$unit"

if [ -z "$destdir" ]; then
    PREFIX=$prefix "$prefix/share/mtbox/first-config"
    tell_systemd daemon-reload
    echo "To start it, now and at every boot: systemctl enable --now mtbox"
    echo "If it was running before: systemctl restart mtbox"
fi
