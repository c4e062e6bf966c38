#!/usr/bin/env bash
# Pushes and restores a real 4 GiB Debian disk with Imprint and with restic, in turn, page cache warm, final sync
# counted, and prints the medians and their ratios. Needs root. Usage: peers.sh DIRECTORY-OF-PROGRAMS [RUNS]
# The disk is made once and kept in ~/.cache/imprint-bench.
set -euo pipefail
export PATH=$(realpath "$1"):$PATH
runs=${2:-5}
here=$(dirname "$(realpath "$0")")
cache=$HOME/.cache/imprint-bench
disk=$cache/debian.raw
mkdir -p "$cache"
command -v restic >/dev/null && [ -x /usr/bin/time ] ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq restic time >/dev/null; }
[ -e "$disk" ] || { echo "making $disk"; "$here/debian-disk.sh" "$disk"; }

work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export XDG_CACHE_HOME=$work/cache XDG_STATE_HOME=$work/state RESTIC_PASSWORD=bench

# measure NAME COMMAND...: wall seconds, CPU seconds and peak memory of the command and of making it durable
measure() {
    local name=$1
    shift
    /usr/bin/time --quiet --format '%e %U %S %M' --output="$work/time" "$@" >"$work/out" 2>&1 ||
        { cat "$work/out"; exit 1; }
    echo "$name $(cat "$work/time")" >>"$work/results"
}

imprint_push() { measure "imprint $1" imprint --quiet --repo "$work/imprint" push "$disk" lab/workstation; }
restic_push() { measure "restic $1" restic --quiet --repo "$work/restic" backup --force "$disk"; }

cat "$disk" >/dev/null
for _ in $(seq "$runs"); do
    rm -rf imprint restic cache state restored ./*.raw
    restic --quiet init --repo "$work/restic"
    sync
    imprint_push "first push"
    restic_push "first push"
    imprint_push "push again"
    restic_push "push again"
    mkdir restored
    sync
    measure "imprint restore" imprint --quiet --repo "$work/imprint" restore lab/workstation "$work/imprint.raw"
    sync
    measure "restic restore" bash -c "restic --quiet --repo '$work/restic' restore latest --target '$work/restored' && sync -f '$work'"
    sync
    measure "cp restore" bash -c "cp --sparse=always '$disk' '$work/cp.raw' && sync -f '$work/cp.raw'"
    cmp "$disk" imprint.raw
done

echo "$(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(du -m "$disk" | cut -f1) MiB of data in a $(du -m --apparent-size "$disk" | cut -f1) MiB disk, medians of $runs runs"
echo "stored: imprint $(du -sm imprint | cut -f1) MiB, restic $(du -sm restic | cut -f1) MiB"
python3 - "$work/results" <<'PYTHON'
import collections, statistics, sys
figures = collections.defaultdict(list)
for line in open(sys.argv[1]):
    tool, *what, wall, user, system, peak = line.split()
    figures[" ".join(what), tool].append((float(wall), float(user) + float(system), int(peak) / 1024))
print(f"{'':12} {'tool':8} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9} {'wall / imprint':>15}")
for (what, tool), runs in figures.items():
    wall, cpu, peak = (statistics.median(column) for column in zip(*runs))
    ratios = [theirs[0] / ours[0] for theirs, ours in zip(runs, figures[what, "imprint"])]
    print(f"{what:12} {tool:8} {wall:8.2f} {cpu:8.2f} {peak:9.0f} {statistics.median(ratios):15.2f}")
PYTHON
