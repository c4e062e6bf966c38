"""The tools that are compared, one class each.

Every tool works as its users would run it, with one exception: backup tools believe a file's size and times when it
was not changed, and are told to read it, because a disk that is a device has none.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from imprint import Imprint, ImprintServer
from measure import Command
from peer import Peer

PASSWORD = "bench"


class Copy(Peer):
    """The limit for a restore: a copy that makes holes of zeros."""

    name = "cp"
    program = "cp"
    package = "coreutils"

    def restore(self, disk: Path, target: Path) -> Command:
        return self.command("--sparse=always", disk, target, sync=target.parent)


class Restic(Peer):
    """restic; its restore of this version writes zeros too."""

    name = "restic"
    program = "restic"
    package = "apt-get install restic"

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(self.repository)}

    def version(self) -> str:
        return " ".join(self.run(self.executable, "version").split()[:2])

    def create(self) -> None:
        super().create()
        self.run(self.executable, "--quiet", "init")

    def push(self, disk: Path) -> Command:
        return self.command("--quiet", "backup", "--force", "--tag", disk.stem, disk)

    def restore(self, disk: Path, target: Path) -> Command:
        return self.command("--quiet", "restore", "latest", "--tag", disk.stem, "--target", target, sync=target.parent)


class Borg(Peer):
    """Borg, without encryption, at the level of zstd that the others use."""

    name = "borg"
    program = "borg"
    package = "apt-get install borgbackup"

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, "BORG_BASE_DIR": str(self.home / "borg")}

    def create(self) -> None:
        super().create()
        self.pushes = 0
        self.archives: dict[str, str] = {}
        self.run(self.executable, "init", "--encryption", "none", self.repository)

    def push(self, disk: Path) -> Command:
        self.pushes += 1
        self.archives[disk.stem] = f"{disk.stem}-{self.pushes}"
        archive = f"{self.repository}::{self.archives[disk.stem]}"
        return self.command("create", "--compression", "zstd,3", "--files-cache", "disabled", archive, disk)

    def restore(self, disk: Path, target: Path) -> Command:
        target.mkdir()
        archive = f"{self.repository}::{self.archives[disk.stem]}"
        return self.command("extract", "--sparse", archive, sync=target, directory=target)


class Casync(Peer):
    """casync: a store of chunks, and an index for each disk."""

    name = "casync"
    program = "casync"
    package = "apt-get install casync"

    def create(self) -> None:
        super().create()
        self.repository.mkdir()

    def push(self, disk: Path) -> Command:
        return self.command("make", f"--store={self._store}", self._index(disk.stem), disk)

    def restore(self, disk: Path, target: Path) -> Command:
        return self.command("extract", f"--store={self._store}", self._index(disk.stem), target, sync=target.parent)

    def update(self, disk: Path, target: Path) -> Command:
        # A file that is its own seed fails ("Stale file handle"): a new one is made and takes its place.
        new = target.with_suffix(".new")
        extract = [
            self.executable,
            "extract",
            f"--store={self._store}",
            f"--seed={target}",
            self._index(disk.stem),
            new,
        ]
        script = f"{shlex.join(map(str, extract))} && mv {shlex.quote(str(new))} {shlex.quote(str(target))}"
        return Command(["sh", "-c", script], target.parent, self.environment)

    @property
    def _store(self) -> Path:
        return self.repository / "store.castr"

    def _index(self, disk: str) -> Path:
        return self.repository / f"{disk}.caibx"


class Rustic(Peer):
    """rustic, where it is installed."""

    name = "rustic"
    required = False
    program = "rustic"
    package = "cargo install rustic-rs"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment,
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_REPOSITORY": str(self.repository),
            "RUSTIC_NO_PROGRESS": "true",
            "RUSTIC_LOG_LEVEL": "warn",
        }

    def create(self) -> None:
        super().create()
        self.run(self.executable, "init")

    def push(self, disk: Path) -> Command:
        return self.command("backup", "--force", "--tag", disk.stem, disk)

    def restore(self, disk: Path, target: Path) -> Command:
        return self.command("restore", "--filter-tags", disk.stem, f"latest:{disk}", target, sync=target.parent)


class Bita(Peer):
    """bita, where it is installed: an archive for each disk, not compressed, which is the fastest to update from."""

    name = "bita"
    required = False
    program = "bita"
    package = "cargo install bita"

    def update(self, disk: Path, target: Path) -> Command:
        return self.command("clone", "--seed-output", self._archive(disk.stem), target, sync=target)

    def prepare_target(self, disk: Path, target: Path) -> None:
        """Makes the archives of all disks beside this one, too: they are what an update reads."""
        super().prepare_target(disk, target)
        self.repository.mkdir(exist_ok=True)
        for version in ("v3", "v4"):
            if not self._archive(version).exists():
                self.run(
                    self.executable,
                    "compress",
                    "--compression",
                    "none",
                    "--input",
                    disk.with_stem(version),
                    self._archive(version),
                )

    def _archive(self, disk: str) -> Path:
        return self.repository / f"{disk}.cba"


PEERS: tuple[type[Peer], ...] = (Imprint, ImprintServer, Copy, Restic, Borg, Casync, Rustic, Bita)
