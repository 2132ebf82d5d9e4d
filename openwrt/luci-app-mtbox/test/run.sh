#!/bin/sh
# Tests the LuCI app. Requires node. Installs npm, busybox, chromium and two npm packages if they
# are missing, and reports tests that are skipped because an installation failed.
#
# MTBOX = the mtbox binary to test with; by default, `cargo build` makes one.
# PICTURES = directory for screenshots of the pages; none are taken by default.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
packages=$root/target/luci-test
passed=0 failed=0

skip() {
	echo "SKIPPED: $*"
}

# need COMMAND PACKAGE: installs a Debian package if the command is missing.
need() {
	command -v "$1" >/dev/null || {
		timeout 300 apt-get install -y --no-install-recommends "$2" || {
			timeout 90 apt-get update &&
				timeout 300 apt-get install -y --no-install-recommends "$2"
		}
	} >/dev/null 2>&1
	command -v "$1" >/dev/null
}

# Runs one test file and adds its results to the totals.
run() {
	echo "== $1"
	output=$(mktemp)
	file=$here/$1
	shift
	node "$file" "$@" >"$output" 2>&1 || :
	grep -v '^counted' "$output" || :
	counted=$(sed -n 's/^counted //p' "$output")
	rm -f "$output"
	# No totals: the file crashed, which counts as one failure.
	counted=${counted:-0 1}
	passed=$((passed + ${counted% *})) failed=$((failed + ${counted#* }))
}

need node nodejs || { echo "run.sh: cannot install node"; exit 1; }
need busybox busybox || { echo "run.sh: cannot install busybox"; exit 1; }
if [ -z "${MTBOX:-}" ]; then
	(cd "$root" && cargo build --quiet)
	MTBOX=${CARGO_TARGET_DIR:-$root/target}/debug/mtbox
fi

run static.mjs
run backend.mjs "$MTBOX"

mkdir -p "$packages"
if [ -d "$packages/node_modules/jsqr" ] && [ -d "$packages/node_modules/playwright-core" ] ||
	{ need npm npm && timeout 300 npm install --silent --no-audit --no-fund --prefix "$packages" \
		jsqr@1.4.0 playwright-core@1.65.1 >/dev/null 2>&1; }; then
	run qr.mjs "$packages"
	if need "${CHROMIUM:-chromium}" chromium; then
		CHROMIUM=$(command -v "${CHROMIUM:-chromium}")
		export CHROMIUM
		run browser.mjs "$MTBOX" "$packages" ${PICTURES:+"$PICTURES"}
	else
		skip "browser tests: cannot install chromium"
	fi
else
	skip "QR code and browser tests: cannot install npm packages"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
