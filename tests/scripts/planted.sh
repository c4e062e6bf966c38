#!/usr/bin/env bash
# Plants bugs in a copy of the tree, one at a time, and demands that the suite finds each: planted.sh TARGET_DIR [NAME...]
#
# A bug is a patch in tests/planted; its first lines say what it is and which tests must fail ("Caught by: PACKAGE TARGET
# FILTER"). It is an error when a patch does not apply, when the tree does not compile with it, when its tests pass or do
# not end, and when no test with that name fails. TARGET_DIR is only read, but for TARGET_DIR/planted. Takes half a minute
# a bug.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly patches_dir=$PWD/tests/planted place=$(realpath "$1")/planted built=$(realpath "$1")/release
readonly tree=$place/tree
shift
names=("$@")
[ $# -gt 0 ] || readarray -t names < <(cd "$patches_dir" && ls -- *.patch | sed 's/\.patch$//')

# Dependencies that are compiled already are taken over (linked: cargo does not write to them again). Our own crates are
# compiled apart, fast and little at a time.
export CARGO_TARGET_DIR=$place/target CARGO_INCREMENTAL=1
if [ ! -d "$CARGO_TARGET_DIR" ]; then
    mkdir -p "$CARGO_TARGET_DIR"
    [ ! -d "$built" ] || cp --archive --link "$built" "$CARGO_TARGET_DIR/release"
    rm -rf "$CARGO_TARGET_DIR"/release/{.cargo-*,incremental,.fingerprint/imprint*,build/imprint*}
    rm -f "$CARGO_TARGET_DIR"/release/{,deps/}{,lib}imprint*
fi
profile=()
for package in imprint-content imprint-proto imprint-server imprint-disks imprint-client imprint-tests; do
    profile+=(--config "profile.release.package.$package.opt-level=0")
done

# The tree as it is, not as it was committed. Times are kept, so that only what a bug touches is compiled again.
rm -rf "$tree"
mkdir "$tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --preserve=timestamps --target-directory="$tree"
cd "$tree"

# finds PACKAGE TARGET... FILTER: succeeds when a test with that name fails; `failed` are those, `why` says why not.
finds() {
    local filter=${*: -1} code=0
    set -- cargo test "${profile[@]}" --quiet --release --package "${@:1:$#-1}"
    # That it compiles is demanded, so that a test fails and not the compiler.
    "$@" --no-run >"$log" 2>&1 || { why="does not compile"; return 1; }
    timeout 900 "$@" -- "$filter" >"$log" 2>&1 || code=$?
    case $code in
        0) why="$filter passes"; return 1 ;;
        124) why="$filter does not end"; return 1 ;;
    esac
    failed=$(sed -n '/^failures:$/,$s/^    \([a-z_0-9:]*\)$/\1/p' "$log" | grep --fixed-strings -- "$filter" | sort -u) ||
        { why="something else than $filter fails"; return 1; }
}

bad=0
for name in "${names[@]}"; do
    patch=$patches_dir/$name.patch
    log=$place/$name.log
    start=$SECONDS
    if ! grep --quiet "^| \`$name\` |" docs/testing.md; then
        echo "$name: ERROR: docs/testing.md does not list it" >&2
        bad=$((bad + 1))
        continue
    fi
    if ! patch --batch --strip=1 --forward --silent --dry-run <"$patch" >/dev/null; then
        echo "$name: ERROR: the patch does not apply any more: renew it" >&2
        bad=$((bad + 1))
        continue
    fi
    patch --batch --strip=1 --forward --silent --no-backup-if-mismatch <"$patch"
    test=$(sed -n 's/^Caught by: //p' "$patch")
    # shellcheck disable=SC2086 # words
    if finds $test; then
        echo "$name: found by" $failed "($((SECONDS - start)) s)"
        rm -f "$log"
    else
        echo "$name: NOT FOUND: $why ($log)" >&2
        bad=$((bad + 1))
    fi
    # What this leaves has another time, which is right: it has to be compiled again.
    patch --batch --strip=1 --reverse --silent --no-backup-if-mismatch <"$patch"
done
echo "${#names[@]} times a bug was planted: $((${#names[@]} - bad)) found"
[ "$bad" -eq 0 ]
