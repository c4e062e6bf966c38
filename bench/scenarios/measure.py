"""Runs one command and says what it took: time, CPU, memory, bytes read and written, and how busy the machine was.

A command has ended when its results are on the disk: the sync of its filesystem is a part of it. What others left
unwritten is synced before, without being counted.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
READ = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


class CommandError(Exception):
    """A command failed."""


@dataclass(frozen=True)
class Command:
    """What is run, and where. `sync` is a path on the filesystem that it writes to."""

    arguments: Sequence[str | Path]
    sync: Path
    environment: Mapping[str, str]
    directory: Path | None = None


@dataclass(frozen=True)
class Figures:
    """What one command took, its children and its server included."""

    wall_s: float
    cpu_s: float
    # The part of it that the kernel took.
    system_s: float
    peak_bytes: int
    server_peak_bytes: int | None
    # Through system calls; what was mapped is not counted.
    read_bytes: int
    written_bytes: int
    # The part of all cores that was used by nobody measured here: above 0.1 the figures are not to be trusted.
    others: float


def warm(path: Path) -> None:
    """Brings a file, or all files of a directory, into the page cache."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb", buffering=0) as opened:
                while opened.read(READ):
                    pass


def cool(directory: Path, reads: Sequence[Path]) -> None:
    """Puts large files of a directory, but those that will be read, out of the page cache.

    What is written then finds free memory, and is not charged with making room.
    """
    for file in directory.rglob("*"):
        wanted = any(file.is_relative_to(path) for path in reads)
        if not wanted and file.is_file() and file.stat().st_size >= READ:
            with file.open("rb", buffering=0) as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(command: Command, peak_file: Path, server: int | None = None) -> tuple[Figures, str]:
    """Runs a command, which works with the server of this process id, and returns its figures and output."""
    subprocess.run(["sync"], check=True)
    if server is not None:
        _forget_peak(server)
    before = _Counters.now(server)
    # GNU time starts from a small process of its own. Memory of this one, which a child inherits until it executes
    # its program, would count as its peak otherwise.
    output = _run(
        ["/usr/bin/time", "--quiet", "--format", "%M", "--output", str(peak_file), *command.arguments], command
    )
    _run(["sync", "--file-system", command.sync], command)
    took = _Counters.now(server).since(before)
    figures = Figures(
        wall_s=took.wall_s,
        cpu_s=took.cpu_s,
        system_s=took.system_s,
        peak_bytes=int(peak_file.read_text().split()[-1]) * KIB,
        server_peak_bytes=None if server is None else _peak_bytes(server),
        read_bytes=took.read_bytes,
        written_bytes=took.written_bytes,
        others=max(0.0, (took.machine_cpu_s - took.cpu_s) / (took.wall_s * CORES)),
    )
    return figures, output


def _run(arguments: Sequence[str | Path], command: Command) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=command.directory,
        text=True,
        env={**os.environ, **command.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{' '.join(map(str, command.arguments))}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


@dataclass(frozen=True)
class _Counters:
    wall_s: float
    cpu_s: float
    system_s: float
    machine_cpu_s: float
    read_bytes: int
    written_bytes: int

    @classmethod
    def now(cls, server: int | None) -> _Counters:
        # A process counts what its children took once they have ended.
        processes = ["self"] if server is None else ["self", str(server)]
        inputs_outputs = [_io_bytes(process) for process in processes]
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        user_s, system_s = (0.0, 0.0) if server is None else _cpu_s(server)
        return cls(
            wall_s=time.monotonic(),
            cpu_s=children.ru_utime + children.ru_stime + user_s + system_s,
            system_s=children.ru_stime + system_s,
            machine_cpu_s=_machine_cpu_s(),
            read_bytes=sum(read for read, _ in inputs_outputs),
            written_bytes=sum(written for _, written in inputs_outputs),
        )

    def since(self, before: _Counters) -> _Counters:
        return _Counters(*(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__))


def _io_bytes(process: str) -> tuple[int, int]:
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    counters = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return counters["rchar"], counters["wchar"]


def _cpu_s(process: int) -> tuple[float, float]:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def _machine_cpu_s() -> float:
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, first.split()[1:])
    return (user + nice + system + irq + softirq) / TICKS


def _forget_peak(process: int) -> None:
    Path(f"/proc/{process}/clear_refs").write_text("5")


def _peak_bytes(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise CommandError(f"process {process} has ended")
