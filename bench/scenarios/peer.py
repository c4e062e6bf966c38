"""What every tool of the bench has: a program, a repository, and commands for what it can do.

A command is described here and run by `measure`, so that all tools are measured in one way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from disks import allocated_bytes
from measure import Command, CommandError


class MissingError(Exception):
    """A program is not installed."""


class Peer:
    """A tool with a repository of its own below `home`. What it cannot do is None."""

    name: str
    # A tool that is not required takes part where it is installed.
    required = True
    program: str
    # Where to get the program.
    package: str

    def __init__(self, home: Path) -> None:
        program = shutil.which(self.program)
        if program is None:
            raise MissingError(f"{self.program} is missing ({self.package})")
        self.executable = Path(program)
        self.home = home
        self.repository = home / "repository"

    @property
    def environment(self) -> Mapping[str, str]:
        """What keeps caches and states of this run to itself."""
        return {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}

    @property
    def server(self) -> int | None:
        """The process that serves the repository, if it is not the client itself."""
        return None

    def version(self) -> str:
        """The tool's name and version, by its own words."""
        return self.run(self.executable, "--version").splitlines()[0]

    def create(self) -> None:
        """Makes a new repository."""
        self.home.mkdir(parents=True)

    def close(self) -> None:
        """Ends what still runs."""

    def stored_bytes(self) -> int:
        """What the repository takes on its filesystem."""
        return allocated_bytes(self.repository)

    def push(self, disk: Path) -> Command | None:
        """Stores a disk under the name of its file."""
        return None

    def restore(self, disk: Path, target: Path) -> Command | None:
        """Writes what was pushed of a disk to a target that does not exist: a file, or a directory for the file."""
        return None

    def update(self, disk: Path, target: Path) -> Command | None:
        """Makes a target, which holds another version, hold this one."""
        return None

    def rollback(self, disk: Path, target: Path) -> Command | None:
        """Takes an update back: the target held this disk before."""
        return self.update(disk, target)

    def prepare_target(self, disk: Path, target: Path) -> None:
        """Makes a new target hold a disk, as its users would have."""
        self.run("cp", "--sparse=always", disk, target)

    def report(self, output: str) -> dict[str, int]:
        """What a command said it did, as far as it says so."""
        return {}

    def command(self, *arguments: str | Path, sync: Path | None = None, directory: Path | None = None) -> Command:
        """A command of the tool; without `sync` it writes to the repository."""
        return Command([self.executable, *arguments], sync or self.repository, self.environment, directory)

    def run(self, *arguments: str | Path) -> str:
        """Runs what is not measured."""
        done = subprocess.run(
            [str(argument) for argument in arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        if done.returncode:
            raise CommandError(f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()
