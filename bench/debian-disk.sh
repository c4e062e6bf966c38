#!/usr/bin/env bash
# Makes a real disk: 4 GiB, GPT, a bootable Debian on ext4, as first installed. Needs root.
# Usage: debian-disk.sh DISK [PACKAGE...]   (further packages make it a machine with another purpose)
# MACHINE names it; MIRROR is a line for sources.list that replaces Debian with its updates.
set -euo pipefail
disk=$1
shift
packages=linux-image-amd64,systemd-sysv,openssh-server,vim-nox,python3,less,man-db,curl,git
for package in "$@"; do packages+=,$package; done
size_mib=4096

command -v mmdebstrap >/dev/null && [ -e /usr/lib/syslinux/mbr/gptmbr.bin ] && command -v extlinux >/dev/null ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mmdebstrap extlinux syslinux-common >/dev/null; }

work=$(mktemp -d "$(dirname "$disk")/debian.XXXXXX")
loop=
trap 'mountpoint -q "$work/mount" && umount "$work/mount"; [ -z "$loop" ] || losetup -d "$loop"; rm -rf "$work"' EXIT
mkdir "$work/mount"

mmdebstrap --quiet --variant=important --include="$packages" bookworm "$work/root" ${MIRROR:+"$MIRROR"}
echo "${MACHINE:-imprint-demo}" >"$work/root/etc/hostname"
echo '/dev/sda1 / ext4 errors=remount-ro 0 1' >"$work/root/etc/fstab"
mkdir -p "$work/root/boot/extlinux"
cat >"$work/root/boot/extlinux/extlinux.conf" <<CONF
serial 0 115200
default debian
label debian
    linux /vmlinuz
    initrd /initrd.img
    append root=/dev/sda1 ro console=ttyS0
CONF

truncate -s "${size_mib}M" "$work/disk"
echo 'label: gpt
start=2048, type=linux, attrs=LegacyBIOSBootable' | sfdisk --quiet "$work/disk"
# extlinux reads ext4 without 64bit.
mkfs.ext4 -q -F -O ^64bit -d "$work/root" -E offset=$((1 << 20)) "$work/disk" "$((size_mib - 2))M"
loop=$(losetup --find --show --offset $((1 << 20)) --sizelimit $(((size_mib - 2) << 20)) "$work/disk")
mount "$loop" "$work/mount"
extlinux --install "$work/mount/boot/extlinux" 2>/dev/null
umount "$work/mount"
losetup -d "$loop"
loop=
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$work/disk" conv=notrunc bs=440 count=1 status=none
mv "$work/disk" "$disk"
