#!/bin/sh
# Runs every target for $1 seconds, 60 if not given, from its seeds; stops at the first finding.
set -eu
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
for target in fuzz/targets/*.rs; do
	name=$(basename "$target" .rs)
	mkdir -p "fuzz/corpus/$name"
	echo "==> $name"
	cargo fuzz run -s none "$name" "fuzz/corpus/$name" "fuzz/seeds/$name" -- \
		-max_total_time="${1:-60}" -max_len=8192 -print_final_stats=1
done
