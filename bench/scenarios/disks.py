"""The disks of the bench: five 4 GiB disks of real Debian machines, and a 64 GiB one for memory.

v1 is Debian as it was released, v2 the same machine after the security upgrade, v3 after installing a desktop-sized
set of applications, v4 after removals and a few additions; `other` is a second machine, built from scratch with v3's
software. Each is made once, under a temporary name, and kept. What Debian ships changes with time, so figures are
comparable within one set of disks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import machine

SERIES = ("v1", "v2", "v3", "v4", "other")
LARGE = "large"

GIB = 1 << 30
MIB = 1 << 20
DISK_BYTES = 4 * GIB
LARGE_BYTES = 64 * GIB
# Where the boot sector of FAT32 has its name.
FAT32_OFFSET, FAT32 = 82, b"FAT32   "
# Less would not be a machine.
MIN_DATA_BYTES = 256 * MIB

MIRROR = "http://deb.debian.org/debian"
RELEASED = f"deb {MIRROR} bookworm main"
UPGRADED = (RELEASED, f"deb {MIRROR} bookworm-updates main", f"deb {MIRROR}-security bookworm-security main")
APPLICATIONS = ("firefox-esr", "libreoffice-writer", "gimp")
# What is recommended beside them does not fit on 4 GiB.
FIT = ("--no-install-recommends",)
REMOVED = ("gimp",)
ADDED = ("nginx", "tmux", "postgresql-client")

# The large disk: v1 and v2 in turn, one copy every 8 GiB, a page changed in every 4 MiB.
COPY_STRIDE = 8 * GIB
CHANGE_STRIDE = 4 * MIB
PAGE = 4096


class DiskError(Exception):
    """A disk is not fit for the bench."""


def allocated_bytes(path: Path) -> int:
    """What a file, or everything below a directory, takes on its filesystem."""
    if path.is_dir():
        return sum(allocated_bytes(entry) for entry in path.iterdir())
    return path.stat(follow_symlinks=False).st_blocks * 512


def data_ranges(file: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that are not holes, as start and end."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # only a hole is left
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end


class Disks:
    """The disks in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Where a disk is, or will be."""
        return self.directory / f"{name}.raw"

    def make_series(self) -> None:
        """Makes the five disks that are missing, and refuses disks that are not what they should be."""
        with self._locked():
            for name, make in self._recipes().items():
                self._make_missing(name, make)
                self._check(name)

    def make_large(self) -> None:
        """Makes the 64 GiB disk, if it is missing, from the series."""
        with self._locked():
            self._make_missing(LARGE, self._make_large)

    def facts(self) -> dict[str, dict[str, int]]:
        """Size and data of the disks that there are."""
        paths = {name: self.path(name) for name in (*SERIES, LARGE) if self.path(name).exists()}
        return {
            name: {"bytes": path.stat().st_size, "data_bytes": allocated_bytes(path)} for name, path in paths.items()
        }

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Two runners must not make the same disk.
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.directory.joinpath("lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _recipes(self) -> dict[str, Callable[[Path], None]]:
        return {
            "v1": self._make_v1,
            "v2": self._make_v2,
            "v3": self._make_v3,
            "v4": self._make_v4,
            "other": self._make_other,
        }

    def _make_missing(self, name: str, make: Callable[[Path], None]) -> None:
        path = self.path(name)
        if path.exists():
            return
        print(f"making {path}", flush=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        make(unfinished)
        machine.run("fallocate", "--dig-holes", unfinished)
        os.sync()
        unfinished.rename(path)

    def _check(self, name: str) -> None:
        path = self.path(name)
        if path.stat().st_size < DISK_BYTES:
            raise DiskError(f"{path} is smaller than 4 GiB: remove it, and it is made again")
        with path.open("rb") as disk:
            disk.seek(machine.ESP_START + FAT32_OFFSET)
            if disk.read(len(FAT32)) != FAT32:
                raise DiskError(f"{path} has no system partition, as in a former series: remove all, and they are made again")
        if allocated_bytes(path) < MIN_DATA_BYTES:
            raise DiskError(f"{path} holds hardly any data: remove it, and it is made again")

    def _make_v1(self, disk: Path) -> None:
        _install(disk, name="workstation", mirror=RELEASED)

    def _make_v2(self, disk: Path) -> None:
        with self._next_version_of("v1", disk) as workstation:
            workstation.set_sources(UPGRADED)
            workstation.apt("update")
            workstation.apt("dist-upgrade")

    def _make_v3(self, disk: Path) -> None:
        with self._next_version_of("v2", disk) as workstation:
            workstation.apt("update")
            workstation.apt("install", *FIT, *APPLICATIONS)

    def _make_v4(self, disk: Path) -> None:
        with self._next_version_of("v3", disk) as workstation:
            workstation.apt("purge", *REMOVED)
            workstation.apt("autoremove", "--purge")
            workstation.apt("update")
            workstation.apt("install", *FIT, *ADDED)

    def _make_other(self, disk: Path) -> None:
        _install(disk, *APPLICATIONS, name="reception", mirror=None)

    @contextlib.contextmanager
    def _next_version_of(self, name: str, disk: Path) -> Iterator[machine.Machine]:
        machine.run("cp", "--sparse=always", self.path(name), disk)
        with machine.mounted(disk) as workstation:
            yield workstation

    def _make_large(self, disk: Path) -> None:
        with disk.open("wb") as large:
            large.truncate(LARGE_BYTES)
            for copy, start in enumerate(range(0, LARGE_BYTES, COPY_STRIDE)):
                _copy_with_changes(self.path(SERIES[copy % 2]), large.fileno(), start, seed=copy)


def _install(disk: Path, *packages: str, name: str, mirror: str | None) -> None:
    script = Path(__file__).resolve().parent.parent / "debian-disk.sh"
    environment = {**os.environ, "MACHINE": name, **({"MIRROR": mirror} if mirror else {})}
    subprocess.run([script, disk, *packages], env=environment, check=True)


def _copy_with_changes(source: Path, target: int, start: int, seed: int) -> None:
    changes = random.Random(seed)
    with source.open("rb") as disk:
        for position, end in data_ranges(disk.fileno(), source.stat().st_size):
            while position < end:
                # Steps end at multiples of the stride, so that a page is changed in each of them.
                step = min(CHANGE_STRIDE - position % CHANGE_STRIDE, end - position)
                data = bytearray(os.pread(disk.fileno(), step, position))
                if position % CHANGE_STRIDE == 0 and step >= PAGE:
                    page = changes.randrange(step // PAGE) * PAGE
                    data[page : page + PAGE] = changes.randbytes(PAGE)
                os.pwrite(target, data, start + position)
                position += step
