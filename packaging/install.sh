#!/bin/sh
# Installs or removes mtbox with its man pages, completions and service:
#
#   install.sh [MTBOX]     MTBOX is the program. Default: the program of a release archive,
#                          otherwise target/release/mtbox
#   install.sh --remove    keeps the config, the user and the totals
#
# PREFIX is where to install (/usr/local). DESTDIR is a root to install below, for packagers; the
# running system is then not changed. ZSH_FOLDER is the folder of completions below share/zsh
# (site-functions).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
zsh=${ZSH_FOLDER:-site-functions}

# Prints a line MODE:SOURCE:DESTINATION for each file; the destination is below the prefix.
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

# Installs one file. Arguments: mode, source, destination.
place() {
    to=$destdir$prefix/$3
    mkdir -p "$(dirname "$to")"
    # A running program cannot be overwritten, but it can be replaced.
    rm -f "$to"
    cp "$2" "$to"
    chmod "$1" "$to"
}

# Runs systemctl if systemd runs this system.
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

program=$here/../mtbox
[ -f "$program" ] || program=$here/../target/release/mtbox
program=${1:-$program}
if [ ! -f "$program" ]; then
    echo "install.sh: $program does not exist; run cargo build --release, or name the program" >&2
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
    echo "To start it now and at every boot: systemctl enable --now mtbox"
    echo "After an upgrade: systemctl restart mtbox"
fi
