"""The rows of the bench, and how one of them is measured with one tool.

A row stands on others: a next version needs the versions before it in the repository. Within a run all tools do one
row after the other, so that what disturbs the machine meets them alike. What is done to one target is done by one tool
before the next has its turn, so that there is never more than one target on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from disks import Disks, data_ranges
from measure import READ, Command, Figures, cool, measure, warm
from peer import Peer


@dataclass(frozen=True)
class Row:
    """One thing that a tool does with one disk."""

    name: str
    title: str
    action: str
    disk: str
    needs: tuple[str, ...] = ()
    # The disk that the target of an update holds.
    old: str | None = None


ROWS = (
    Row("push-v1", "first push: v1", "push", "v1"),
    Row("again-v1", "push v1 again", "push", "v1", ("push-v1",)),
    Row("push-v2", "push v2: security upgrade", "push", "v2", ("push-v1",)),
    Row("push-v3", "push v3: applications", "push", "v3", ("push-v2",)),
    Row("push-v4", "push v4: removals", "push", "v4", ("push-v3",)),
    Row("again-v4", "push v4 again", "push", "v4", ("push-v4",)),
    Row("push-other", "push other: second machine", "push", "other", ("push-v4",)),
    Row("restore-v4", "restore v4", "restore", "v4", ("push-v4",)),
    Row("update", "update v3 to v4", "update", "v4", ("push-v4",), old="v3"),
    Row("rollback", "rollback v4 to v3", "rollback", "v3", ("update",), old="v4"),
)
LARGE_ROWS = (
    Row("push-large", "first push: 64 GiB", "push", "large"),
    Row("again-large", "push 64 GiB again", "push", "large", ("push-large",)),
    Row("restore-large", "restore 64 GiB", "restore", "large", ("push-large",)),
)
# After this row the repository holds the series.
WHOLE_SERIES = "push-other"


def with_needs(names: Iterable[str], rows: Iterable[Row]) -> list[Row]:
    """The rows that are named and those they stand on, in order."""
    wanted = set(names)
    for row in reversed(tuple(rows)):
        if row.name in wanted:
            wanted.update(row.needs)
    return [row for row in rows if row.name in wanted]


@dataclass(frozen=True)
class Sample:
    """What one tool took for one row in one run."""

    run: int
    row: str
    tool: str
    figures: Figures
    # What the whole repository takes on its filesystem, and by how much that grew.
    stored_bytes: int
    growth_bytes: int
    # What the tool says it did.
    report: dict[str, int]


def in_turns(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows, those together that a tool does in one turn."""
    turns: list[list[Row]] = []
    for row in rows:
        if row.action == "rollback":
            turns[-1].append(row)
        else:
            turns.append([row])
    return turns


class WrongError(Exception):
    """A tool did not give back what it was given."""


class Contestant:
    """A tool with a new repository, in one run."""

    def __init__(self, peer: Peer, disks: Disks, run: int) -> None:
        self.peer = peer
        self.run = run
        self.disks = disks
        self.target = peer.home / "target"

    def measure(self, row: Row) -> Sample | None:
        """What a row took and did, or None if the tool cannot do it. Raises if the result is wrong."""
        disk = self.disks.path(row.disk)
        if row.action == "push":
            return self._measure(row, self.peer.push(disk), [disk])
        if row.action == "restore":
            return self._measure_restore(row, disk)
        return self._measure_change(row, disk)

    def remove_target(self) -> None:
        """Removes what updates left."""
        self.target.unlink(missing_ok=True)

    def clear(self) -> None:
        """Ends what the tool runs, and removes all it has."""
        self.peer.close()
        shutil.rmtree(self.peer.home)

    def _measure_restore(self, row: Row, disk: Path) -> Sample | None:
        restored = self.peer.home / "restored"
        command = self.peer.restore(disk, restored)
        sample = self._measure(row, command, [disk if self.peer.program == "cp" else self.peer.repository])
        if sample is not None:
            _compare(disk, _only_file(restored))
            self.peer.run("rm", "-r", restored)
        return sample

    def _measure_change(self, row: Row, disk: Path) -> Sample | None:
        command = getattr(self.peer, row.action)(disk, self.target)
        if command is None:
            return None
        if not self.target.exists() and row.old:
            self.peer.prepare_target(self.disks.path(row.old), self.target)
        sample = self._measure(row, command, [self.peer.repository, self.target])
        _compare(disk, self.target)
        return sample

    def _measure(self, row: Row, command: Command | None, reads: list[Path]) -> Sample | None:
        if command is None:
            return None
        os.sync()
        cool(self.disks.directory.parent, reads)
        for path in reads:
            warm(path)
        before = self._stored_bytes()
        figures, output = measure(command, self.peer.home / "peak", self.peer.server)
        stored = self._stored_bytes()
        return Sample(
            run=self.run,
            row=row.name,
            tool=self.peer.name,
            figures=figures,
            stored_bytes=stored,
            growth_bytes=stored - before,
            report=self.peer.report(output),
        )

    def _stored_bytes(self) -> int:
        return self.peer.stored_bytes() if self.peer.repository.exists() else 0


def _only_file(path: Path) -> Path:
    return next(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else path


def _compare(disk: Path, other: Path) -> None:
    with disk.open("rb") as wanted, other.open("rb") as got:
        size = disk.stat().st_size
        # Where both have a hole both are zero.
        ranges = [*data_ranges(wanted.fileno(), size), *data_ranges(got.fileno(), size)]
        same = all(_equal(wanted.fileno(), got.fileno(), start, end) for start, end in ranges)
    if not same or other.stat().st_size != size:
        raise WrongError(f"{other} is not {disk}")


def _equal(wanted: int, got: int, start: int, end: int) -> bool:
    return all(os.pread(wanted, READ, at) == os.pread(got, READ, at) for at in range(start, end, READ))
