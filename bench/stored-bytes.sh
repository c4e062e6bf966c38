#!/usr/bin/env bash
# What the five disks of the bench take, everything captured and without free space, beside an imaging tool that keeps
# every version whole: partclone and zstd. Needs root, partclone, and 3 GiB in TMPDIR. The disks are those that
# `make bench` has made.
#
#   bench/stored-bytes.sh PROGRAMS SERIES
set -euo pipefail
programs=$1 series=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/stored-bytes.XXXXXX")
loop=
finish() {
  [ -z "$loop" ] || losetup -d "$loop"
  rm -rf "$work"
}
trap finish EXIT
disks=(v1 v2 v3 v4 other)
export XDG_CACHE_HOME=$work/cache XDG_STATE_HOME=$work/state

mebibytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1048576 }'; }
repository_bytes() { find "$1" -type f ! -name reserve -printf '%s\n' | awk '{ sum += $1 } END { print sum }'; }

echo "| MiB | ${disks[*]} | all five | seconds |" | sed 's/\([a-z0-9]\) \([a-z]\)/\1 | \2/g; s/all | five/all five/'
echo "|---|--:|--:|--:|--:|--:|--:|--:|"
for mode in keep omit; do
  row="| imprint, $mode |" before=0 start=$(date +%s.%N)
  for disk in "${disks[@]}"; do
    image=$([ "$disk" = other ] && echo lab/other || echo lab/pc)
    "$programs/imprint" --repo "$work/repository" push "$series/$disk.raw" "$image" --free-space $mode --quiet >/dev/null
    now=$(repository_bytes "$work/repository")
    row+=" $(mebibytes $((now - before))) |" before=$now
  done
  echo "$row $(mebibytes "$before") | $(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }') |"
  "$programs/imprint" --repo "$work/repository" stats | sed "s/^/    $mode: /" >&2
  rm -rf "$work/repository" "$work/cache" "$work/state"
done
row="| partclone, zstd 3 |" total=0 start=$(date +%s.%N)
for disk in "${disks[@]}"; do
  bytes=0
  while IFS=, read -r offset type; do
    loop=$(losetup -f --show -r -o $((offset * 512)) "$series/$disk.raw")
    bytes=$((bytes + $("partclone.$type" -c -s "$loop" -o - -L "$work/log" 2>/dev/null | zstd -q -3 | wc -c)))
    losetup -d "$loop"
    loop=
  done < <(sfdisk -d "$series/$disk.raw" |
    sed -n 's/.*start= *\([0-9]*\),.*type=C12A7328-.*/\1,vfat/p; s/.*start= *\([0-9]*\),.*type=0FC63DAF-.*/\1,ext4/p')
  total=$((total + bytes)) row+=" $(mebibytes "$bytes") |"
done
echo "$row $(mebibytes "$total") | $(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }') |"
