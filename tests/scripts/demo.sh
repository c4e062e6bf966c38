#!/usr/bin/env bash
# The main job on real input: two versions of a disk with a partition table and an ext4 filesystem, pushed to a
# server, listed, restored, verified, compared byte for byte. $1: directory of the programs.
set -euo pipefail
export PATH=$(realpath "$1"):/usr/sbin:$PATH
work=$(mktemp -d "${TMPDIR:-/tmp}/imprint-demo.XXXXXX")
export XDG_CACHE_HOME=$work/cache XDG_STATE_HOME=$work/state
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
cd "$work"

say "A real disk: a GPT, and an ext4 filesystem with this machine's programs"
mkdir files
for from in /usr/bin /usr/sbin /etc/alternatives /usr/share/perl /usr/share/doc; do
    [ -d "$from" ] || continue
    mkdir -p "files$from"
    cp -a "$from/." "files$from/" 2>/dev/null || true
    [ "$(du -sm files | cut -f1)" -lt 300 ] || break
done
size=$(( $(du -sm files | cut -f1) * 5 / 4 + 64 ))
truncate -s "$(( size + 2 ))M" v1.img
echo 'label: gpt
start=2048, type=linux' | sfdisk --quiet v1.img
mkfs.ext4 -q -F -d files -E offset=1048576 v1.img "${size}M"

# The next version: some files gone, some new, one changed, as an upgrade does it.
cp --sparse=always v1.img v2.img
{
    # sed, not head: who stops reading early ends the writer, and with it this script.
    ls files/usr/bin | sed -n '36,40s|^|rm /usr/bin/|p'
    for library in $(find /usr/lib -name '*.so*' -type f -size +100k 2>/dev/null | sed -n 1,12p); do
        echo "write $library $(basename "$library")"
    done
    echo "write /etc/passwd upgraded"
} >changes
debugfs -w -f changes 'v2.img?offset=1048576' >debugfs.log 2>&1
ls -lsh v1.img v2.img

say "A server"
echo '$ imprint-server serve --data repository --listen 127.0.0.1:0'
imprint-server serve --data repository --listen 127.0.0.1:0 2>server.log &
server=$!
until url=$(grep --only-matching --max-count=1 'http://[0-9.:]*' server.log) && [ -n "$url" ]; do
    kill -0 "$server" || { cat server.log; exit 1; }
    sleep 0.1
done
export IMPRINT_REPO=$url
echo "IMPRINT_REPO=$IMPRINT_REPO"

say "Version 1, and again: what is known is not sent twice"
run imprint push v1.img lab/workstation --tag stable -m "as installed"
run imprint push v1.img lab/workstation -m "nothing changed"

say "The next version: only what changed is sent and stored"
run imprint push v2.img lab/workstation --tag testing -m "after the upgrade"
run imprint diff lab/workstation:stable lab/workstation:testing
run imprint versions lab/workstation
run imprint images
run imprint stats

say "Restore both; every byte is compared"
run imprint restore lab/workstation:stable restored1.img
run imprint restore lab/workstation:testing restored2.img
cmp v1.img restored1.img
cmp v2.img restored2.img
echo "v1.img and restored1.img are equal, v2.img and restored2.img are equal"
run imprint verify ./restored2.img
run imprint verify lab/workstation@1

say "A machine that follows the tag testing: update, roll back; only what differs is read and written"
run imprint tag lab/workstation@1 testing
run imprint restore lab/workstation:testing machine.img
run imprint tag lab/workstation@3 testing
run imprint update machine.img
cmp v2.img machine.img
run imprint rollback machine.img
cmp v1.img machine.img

say "The same repository without a server"
kill "$server"
wait "$server" || true
server=
run imprint --repo repository versions lab/workstation

say "Done: two versions pushed, restored and verified. Everything was in $work and is removed now."
