#!/usr/bin/env bash
# Installs what Imprint needs to build and to run its demo and tests, if it is missing. $1: oldest Rust that works.
set -euo pipefail
min_rust=$1

if ! command -v cargo >/dev/null; then
    echo "cargo is missing. Install Rust (stable) as https://rustup.rs says, open a new shell, and try again." >&2
    exit 1
fi
rust=$(rustc --version | cut -d' ' -f2)
if ! printf '%s\n%s\n' "$min_rust" "${rust%%-*}" | sort --version-sort --check=quiet; then
    echo "Rust $rust is too old: Imprint needs $min_rust or newer. Run \`rustup update stable\` and try again." >&2
    exit 1
fi

# A command or a file that shows that a package is there, and the package.
missing=()
need() { compgen -G "$1" >/dev/null || command -v "$1" >/dev/null || missing+=("$2"); }
need c++ build-essential
need clang clang
need '/usr/lib/*/libclang*.so*' libclang-dev
need /usr/sbin/mkfs.ext4 e2fsprogs
need /usr/sbin/sfdisk fdisk
need /usr/sbin/sgdisk gdisk
need /usr/sbin/losetup mount
need strace strace
need /usr/sbin/mkfs.fat dosfstools
need mcopy mtools
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "Please install what these Debian packages provide: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "As root, please run: apt-get update && apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet --quiet
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install --yes --quiet --quiet \
    --option Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
