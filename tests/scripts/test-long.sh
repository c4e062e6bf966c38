#!/usr/bin/env bash
# The long versions of the tests that can be longer. Stopped, it goes on where it was; `--again` starts over.
# What is done is noted in $1 (a directory that is kept), with seeds and totals.
set -euo pipefail
state=$1/test-long
[ "${2:-}" = --again ] && rm -rf "$state"
mkdir -p "$state"
[ -e "$state/seed" ] || echo "${IMPRINT_SEED:-$((RANDOM * 32768 + RANDOM))}" >"$state/seed"
IMPRINT_SEED=$(cat "$state/seed")
export IMPRINT_SEED
echo "seed $IMPRINT_SEED (replay with IMPRINT_SEED=$IMPRINT_SEED make test-long ARGS=--again)"

# step NAME COMMAND...: runs a command once, and keeps what it printed.
step() {
    local name=$1
    shift
    if [ -e "$state/$name.done" ]; then
        echo "== $name: done before, $(cat "$state/$name.done") s"
        return
    fi
    echo "== $name: $*"
    local start=$SECONDS
    if ! "$@" >"$state/$name.log" 2>&1; then
        tail --lines=40 "$state/$name.log" >&2
        echo "$name failed: $state/$name.log" >&2
        exit 1
    fi
    grep --extended-regexp '^(seed|test result|script:|recovery:|[0-9]+ times)' "$state/$name.log" || true
    echo $((SECONDS - start)) >"$state/$name.done"
}

step crashes env IMPRINT_CRASH_ROUNDS="${IMPRINT_CRASH_ROUNDS:-20}" \
    cargo test --release --package imprint-server --lib crash_tests -- --nocapture
step fuzz-disks env IMPRINT_FUZZ_SECONDS="${IMPRINT_FUZZ_SECONDS:-120}" \
    cargo test --release --package imprint-disks --test fuzz -- --nocapture
echo "all done; totals in $state"
