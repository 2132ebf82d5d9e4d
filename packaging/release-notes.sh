#!/bin/sh
# Prints the release notes of a version: its section of CHANGELOG.md without the heading.
#
#   release-notes.sh [--dated] [VERSION]    default: the version of Cargo.toml
#
# --dated fails unless the heading has a date (`## [1.2.3] - 2026-01-31`). CHANGELOG names another
# file. GitHub keeps line breaks in release notes, so wrapped lines are joined.
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
changelog=${CHANGELOG:-$source/CHANGELOG.md}
dated=
if [ "${1:-}" = --dated ]; then
    dated=yes
    shift
fi
version=${1:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -n 1)}

fail() {
    echo "release-notes.sh: $*" >&2
    exit 1
}

heading=$(awk -v start="## [$version]" 'index($0, start) == 1 { print; exit }' "$changelog")
[ -n "$heading" ] || fail "$changelog has no section \"## [$version]\"; add it"
if [ -n "$dated" ]; then
    date=${heading#"## [$version] - "}
    echo "$date" | grep -Eqx '[0-9]{4}-[0-9]{2}-[0-9]{2}' ||
        fail "\"$heading\" has no date; write \"## [$version] - YYYY-MM-DD\""
fi

notes=$(awk -v heading="$heading" '
    function flush() {
        if (line != "") print line
        line = ""
    }
    $0 == heading { inside = 1; next }
    /^## / { inside = 0 }
    !inside || /^\[[^]]*\]: / { next }
    /^$/ { flush(); print ""; next }
    # A heading, a list item, a table row or a quotation begins a new line.
    line == "" || /^ *([-*|#>]|[0-9]+\.) ?/ || line ~ /^ *[|#]/ { flush(); line = $0; next }
    { sub(/^ +/, ""); line = line " " $0 }
    END { flush() }
' "$changelog" | sed '/./,$!d')
[ -n "$notes" ] || fail "the section \"$heading\" of $changelog is empty"
printf '%s\n' "$notes"
