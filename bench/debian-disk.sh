#!/usr/bin/env bash
# Makes a real disk: 4 GiB, GPT, an EFI system partition and a Debian on ext4, as first installed; it boots by BIOS and
# by UEFI. Needs root. Usage: debian-disk.sh DISK [PACKAGE...]   (further packages make it a machine with another purpose)
# MACHINE names it; MIRROR is a line for sources.list that replaces Debian with its updates.
set -euo pipefail
disk=$1
shift
packages=linux-image-cloud-amd64,systemd-sysv,systemd-boot-efi,openssh-server,python3,less,man-db,curl
for package in "$@"; do packages+=,$package; done
size_mib=4096
# Where machine.py looks for the partitions.
esp_mib=1 root_mib=128

{ command -v mmdebstrap && command -v extlinux && command -v mkfs.fat && command -v mcopy && [ -e /usr/lib/syslinux/mbr/gptmbr.bin ]; } >/dev/null ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mmdebstrap extlinux syslinux-common dosfstools mtools >/dev/null; }

work=$(mktemp -d "$(dirname "$disk")/debian.XXXXXX")
loop=
trap 'mountpoint -q "$work/mount" && umount "$work/mount"; [ -z "$loop" ] || losetup -d "$loop"; rm -rf "$work"' EXIT
mkdir "$work/mount"

mmdebstrap --quiet --variant=important --include="$packages" bookworm "$work/root" ${MIRROR:+"$MIRROR"}
echo "${MACHINE:-imprint-demo}" >"$work/root/etc/hostname"
printf '%s\n' 'LABEL=system / ext4 errors=remount-ro 0 1' 'LABEL=ESP /boot/efi vfat umask=0077,nofail 0 1' >"$work/root/etc/fstab"
mkdir -p "$work/root/boot/extlinux" "$work/root/boot/efi"
cat >"$work/root/boot/extlinux/extlinux.conf" <<CONF
serial 0 115200
default debian
label debian
    linux /vmlinuz
    initrd /initrd.img
    append root=LABEL=system ro console=ttyS0
CONF
truncate -s "${size_mib}M" "$work/disk"
sfdisk --quiet "$work/disk" <<TABLE
label: gpt
start=${esp_mib}MiB, size=$((root_mib - esp_mib))MiB, type=uefi
start=${root_mib}MiB, size=$((size_mib - root_mib - 1))MiB, type=linux, attrs=LegacyBIOSBootable
TABLE
# UEFI starts the kernel from the system partition; mtools, because not every kernel mounts vfat.
truncate -s "$((root_mib - esp_mib))M" "$work/esp"
mkfs.fat -F 32 -n ESP "$work/esp" >/dev/null
printf '%s\n' 'title Debian' 'linux /vmlinuz' 'initrd /initrd.img' 'options root=LABEL=system ro console=ttyS0' >"$work/debian.conf"
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i "$work/esp" "$work/root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$work/debian.conf" ::/loader/entries/debian.conf
mcopy -i "$work/esp" "$work/root/vmlinuz" "$work/root/initrd.img" ::/
dd if="$work/esp" of="$work/disk" bs=1M seek=$esp_mib conv=notrunc,sparse status=none

root_bytes=$(((size_mib - root_mib - 1) << 20))
# extlinux reads ext4 without 64bit.
mkfs.ext4 -q -F -L system -O ^64bit -d "$work/root" -E offset=$((root_mib << 20)) "$work/disk" $((root_bytes >> 10))k
loop=$(losetup --find --show --offset $((root_mib << 20)) --sizelimit $root_bytes "$work/disk")
mount "$loop" "$work/mount"
extlinux --install "$work/mount/boot/extlinux" 2>/dev/null
umount "$work/mount"
losetup -d "$loop"
loop=
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$work/disk" conv=notrunc bs=440 count=1 status=none
mv "$work/disk" "$disk"
