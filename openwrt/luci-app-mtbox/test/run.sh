#!/bin/sh
# Tests the pages for LuCI. Needs nothing but node: what else it needs (npm, busybox, chromium, two
# packages of npm) it installs, and says so when it cannot.
#
# MTBOX = the program to test with; without it, it is built.
# PICTURES = a folder for pictures of the pages.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
packages=$root/target/luci-test
passed=0 failed=0

skip() {
	echo "PASSED OVER: $*"
}

# Installs what is missing from Debian: COMMAND PACKAGE.
need() {
	command -v "$1" >/dev/null || {
		timeout 300 apt-get install -y --no-install-recommends "$2" || {
			timeout 90 apt-get update &&
				timeout 300 apt-get install -y --no-install-recommends "$2"
		}
	} >/dev/null 2>&1
	command -v "$1" >/dev/null
}

# Runs one file of tests and adds up what it counted.
run() {
	echo "== $1"
	said=$(mktemp)
	file=$here/$1
	shift
	node "$file" "$@" >"$said" 2>&1 || :
	grep -v '^counted' "$said" || :
	counted=$(sed -n 's/^counted //p' "$said")
	rm -f "$said"
	# A file that broke off has failed.
	counted=${counted:-0 1}
	passed=$((passed + ${counted% *})) failed=$((failed + ${counted#* }))
}

need node nodejs || { echo "node is needed and cannot be installed"; exit 1; }
need busybox busybox || { echo "busybox is needed and cannot be installed"; exit 1; }
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
		skip "the tests in a browser: there is no chromium"
	fi
else
	skip "the pictures and the tests in a browser: npm has no packages for us"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
