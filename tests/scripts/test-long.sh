#!/usr/bin/env bash
# The long versions of the tests that can be longer. Stopped, it goes on where it was; `--again` starts over.
# What is done is noted in $1 (a directory that is kept), with seeds and totals. A variable that is set already is kept:
# IMPRINT_MODEL_OPERATIONS=100000 makes the model shorter. Whatever takes long is done in rounds, each with a seed of
# its own, so that little is lost when it is stopped.
set -euo pipefail
state=$1/test-long
[ "${2:-}" = --again ] && rm -rf "$state"
mkdir -p "$state"
# What was done with other sources says nothing about these.
sources=$(git ls-files -z '*.rs' '*.proto' '*Cargo.toml' Cargo.lock | xargs --null sha1sum | sha1sum)
[ -e "$state/sources" ] || echo "$sources" >"$state/sources"
if [ "$(cat "$state/sources")" != "$sources" ]; then
    echo "the sources have changed since this run was begun: start over with 'make test-long ARGS=--again'" >&2
    exit 1
fi
[ -e "$state/seed" ] || echo "${IMPRINT_SEED:-$((RANDOM * 32768 + RANDOM))}" >"$state/seed"
seed=$(cat "$state/seed")
echo "commit $(git describe --always --dirty), seed $seed (replay with IMPRINT_SEED=$seed make test-long ARGS=--again)"

# step NAME COMMAND...: runs a command once, and keeps what it printed.
step() {
    local name=$1
    shift
    if [ -e "$state/$name.done" ]; then
        return
    fi
    echo "== $name: $*"
    local start=$SECONDS
    if ! "$@" >"$state/$name.log" 2>&1; then
        tail --lines=60 "$state/$name.log" >&2
        echo "$name failed: $state/$name.log" >&2
        exit 1
    fi
    # What says nothing new is not kept: a round's log is short, and there are many.
    grep --extended-regexp '^(seed|test result|script:|recovery:|model:|kills:|[0-9]+ |(test [a-z_]+ \.\.\. )?[a-z, ]+: [0-9]+ )' \
        "$state/$name.log" | tee "$state/$name.totals" || true
    echo $((SECONDS - start)) >"$state/$name.done"
    rm -f "$state/$name.log"
}

# rounds NAME SEEDS COMMAND...: a step for each of $rounds rounds. Seeds are so far apart that no two rounds share one.
rounds() {
    local name=$1 seeds=$2 round
    shift 2
    for ((round = 1; round <= rounds; round++)); do
        step "$name-$round" env IMPRINT_SEED=$((seed + round * seeds)) "$@"
    done
}

in_server=(cargo test --release --package imprint-server --lib)
end_to_end=(cargo test --release --package imprint-tests --test)

rounds=${IMPRINT_CRASH_ROUNDS:-20}
IMPRINT_CRASH_ROUNDS=1 rounds crashes 1 "${in_server[@]}" crash_tests -- --nocapture

# A hundred kills, ten in each round.
rounds=$(((${IMPRINT_KILLS:-100} + 9) / 10))
IMPRINT_KILLS=10 rounds kills 1 "${end_to_end[@]}" end_to_end kills:: -- --nocapture

step damages env IMPRINT_SEED="$seed" IMPRINT_DAMAGES="${IMPRINT_DAMAGES:-1000}" "${end_to_end[@]}" end_to_end damage:: -- --nocapture
step fuzz env IMPRINT_SEED="$seed" IMPRINT_FUZZ_SECONDS="${IMPRINT_FUZZ_SECONDS:-60}" "${end_to_end[@]}" fuzz -- --nocapture
step fuzz-catalog env IMPRINT_SEED="$seed" IMPRINT_FUZZ_SECONDS="${IMPRINT_FUZZ_SECONDS:-60}" \
    "${in_server[@]}" catalog::fuzz -- --nocapture
step fuzz-disks env IMPRINT_SEED="$seed" IMPRINT_FUZZ_SECONDS="${IMPRINT_FUZZ_SECONDS:-120}" \
    cargo test --release --package imprint-disks --test fuzz -- --nocapture
step protocol env IMPRINT_SEED="$seed" cargo test --release --package imprint-reclamation-model --test protocol -- --ignored --nocapture \
    --test-threads=1

# The longest last. A million operations, 20,000 in each round.
rounds=$(((${IMPRINT_MODEL_OPERATIONS:-1000000} + 19999) / 20000))
IMPRINT_MODEL_OPERATIONS=20000 rounds model 1000 "${in_server[@]}" reference_model -- --nocapture

seconds=0
for done in "$state"/*.done; do
    seconds=$((seconds + $(cat "$done")))
done
echo "all done in $seconds s; totals in $state"
