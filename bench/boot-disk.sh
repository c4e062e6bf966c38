#!/usr/bin/env bash
# Boots a disk in QEMU, by emulation, to its login prompt. The disk is not written. Usage: boot-disk.sh DISK
set -euo pipefail
command -v qemu-system-x86_64 >/dev/null ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq qemu-system-x86 >/dev/null; }
log=$(mktemp)
trap 'kill %1 2>/dev/null || true; rm -f "$log"' EXIT
qemu-system-x86_64 -machine accel=tcg -m 1024 -smp 2 -display none -serial "file:$log" -no-reboot -snapshot \
    -drive "file=$1,format=raw,if=virtio" &
for _ in $(seq 300); do
    if grep --quiet --text 'login:' "$log"; then
        grep --text 'login:' "$log" | tail -n 1
        exit 0
    fi
    kill -0 %1 2>/dev/null || break
    sleep 1
done
echo "the disk did not boot to its login; its console said last:" >&2
tail -n 20 "$log" >&2
exit 1
