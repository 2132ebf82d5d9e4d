#!/usr/bin/env bash
# Everything about the packages for OpenWrt: `openwrt/test/run.sh`, or with the names of test
# modules. Needs python3, busybox and root for chroot; shellcheck and qemu-user-static are used if
# they are here. What cannot run here is passed over and said. The last line counts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export PYTHONDONTWRITEBYTECODE=1
if command -v shellcheck >/dev/null; then
    shellcheck run.sh ../build.sh ../mtbox/files/mtbox.init ../mtbox/files/mtbox.defaults
    # The stand-ins build names of variables, as OpenWrt's own scripts do.
    shellcheck -s dash -e SC1090,SC1091,SC2030,SC2031,SC2034,SC2154 \
        stand-in/mtbox stand-in/sbin/uci stand-in/usr/bin/logger
fi
exec python3 run.py "$@"
