#!/usr/bin/env bash
# Tests the OpenWrt packages: `run.sh [TEST-MODULE...]`. Requires python3. Uses busybox and root
# (for chroot), make, shellcheck and qemu-user-static if available, and reports skipped tests. The
# last line is a summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export PYTHONDONTWRITEBYTECODE=1
if command -v shellcheck >/dev/null; then
    shellcheck run.sh ../build.sh ../mtbox/files/mtbox.init ../mtbox/files/mtbox.defaults
    # The stubs compose variable names, as OpenWrt's own scripts do.
    shellcheck -s dash -e SC1090,SC1091,SC2030,SC2031,SC2034,SC2154 \
        stubs/mtbox stubs/sbin/uci stubs/usr/bin/logger
fi
exec python3 run.py "$@"
