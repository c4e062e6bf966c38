#!/usr/bin/env python3
"""How much longer a push takes while the server collects: at most 1.5 times as long is the goal.

Makes disks of this machine's own files (ext4, with mke2fs) and a repository in which about half of one large version is
still needed, so that a collection has to rewrite nearly all its packs. Then, in pairs that take turns, each on a copy of that
repository with a server of its own: a push without a collection, and one that begins 0.3 s after a collection did. Two
kinds: the next version of a disk of which a small part changed, and the first version of another disk. A push that outlasts
its collection is said: it was slowed for a part of its time only. Exits with 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20
GOAL = 1.5
# Large enough to be cut into several chunks, so that what two disks share is found.
FILE_BYTES = range(256 << 10, 32 * MIB)
SOURCES = ("/usr/lib", "/usr/bin", "/usr/share")
# The collection's head start.
HEAD_START = 0.3


def files() -> list[Path]:
    """The machine's larger files, in an order that has nothing to do with what they are."""
    found = (
        Path(directory) / name
        for source in SOURCES
        for directory, _, names in os.walk(source)
        for name in names
    )
    regular = [path for path in found if not path.is_symlink() and path.stat().st_size in FILE_BYTES]
    return sorted(regular, key=lambda path: hashlib.sha256(str(path).encode()).digest())


def take(pool: list[Path], mib: int) -> list[Path]:
    """Takes so much from the pool."""
    taken, size = [], 0
    while size < mib * MIB:
        if not pool:
            sys.exit("this machine has too few files")
        taken.append(pool.pop())
        size += taken[-1].stat().st_size
    return taken


def make_disk(image: Path, content: list[Path]) -> None:
    staging = image.with_suffix(".staging")
    staging.mkdir()
    for number, path in enumerate(content):
        try:
            os.link(path, staging / f"{number:04}")
        except OSError:
            shutil.copy2(path, staging / f"{number:04}")
    mib = sum(path.stat().st_size for path in content) // MIB * 11 // 10 + 32
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", staging, image, f"{mib}M"], check=True)
    shutil.rmtree(staging)


def change(image: Path, changed: Path) -> None:
    """A copy with other bytes in 64 KiB of every 8 MiB that hold data."""
    subprocess.run(["cp", "--sparse=always", image, changed], check=True)
    generator = random.Random(1)
    with changed.open("r+b") as disk:
        for offset in range(MIB, image.stat().st_size - MIB, 8 * MIB):
            disk.seek(offset)
            if any(disk.read(65536)):
                disk.seek(offset)
                disk.write(generator.randbytes(65536))


class Bench:
    def __init__(self, programs: Path, work: Path, mib: int) -> None:
        self.programs, self.work, self.mib = programs, work, mib
        self.template = work / "template"
        self.environment = os.environ | {
            "XDG_CACHE_HOME": str(work / "cache"),
            "XDG_STATE_HOME": str(work / "state"),
            "NO_COLOR": "1",
        }

    @contextmanager
    def server(self, repository: Path) -> Iterator[str]:
        """Serves a repository; its address."""
        command = [self.programs / "imprint-server", "serve", "--data", repository, "--listen", "127.0.0.1:0"]
        command += ["--reserve", "0", "--grace", "0m"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self.environment)
        try:
            for line in server.stderr:
                if found := re.search(r"listening on (http://\S+)", line):
                    break
            else:
                sys.exit("the server did not start")
            yield found[1]
        finally:
            server.terminate()
            server.communicate()

    def imprint(self, url: str, *arguments: str | Path) -> list[str | Path]:
        return [self.programs / "imprint", "--repo", url, *arguments]

    def run(self, url: str, *arguments: str | Path) -> dict:
        command = [*self.imprint(url, *arguments), "--json"]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=self.environment)
        return json.loads(ended.stdout.splitlines()[-1])

    def prepare(self) -> None:
        pool = files()
        mixed = take(pool, self.mib * 3)
        disks = {"mixed": mixed, "half": mixed[::2], "work": take(pool, self.mib), "other": take(pool, self.mib)}
        for name, content in disks.items():
            make_disk(self.disk(name), content)
        change(self.disk("work"), self.disk("next"))
        with self.server(self.template) as url:
            for name in ("mixed", "half", "work"):
                self.run(url, "push", self.disk(name), name)
            self.run(url, "remove", "mixed@1")
        for name in ("mixed", "half"):
            self.disk(name).unlink()

    def disk(self, name: str) -> Path:
        return self.work / f"{name}.raw"

    def measure(self, disk: str, image: str, collect: bool) -> tuple[float, bool]:
        """Seconds that a push takes, and whether a collection ran to its end."""
        repository = self.work / "repository"
        shutil.copytree(self.template, repository, ignore=shutil.ignore_patterns("packs", "lock"))
        # Packs are never changed.
        subprocess.run(["cp", "-al", self.template / "packs", repository / "packs"], check=True)
        subprocess.run(["sync"], check=True)
        try:
            with self.server(repository) as url:
                collection = self.collection(url) if collect else None
                started = time.monotonic()
                self.run(url, "push", self.disk(disk), image)
                seconds = time.monotonic() - started
                outlasted = collection is None or collection.poll() is None
                if collection:
                    collection.terminate()
                    collection.wait()
                return seconds, outlasted
        finally:
            shutil.rmtree(repository)

    def collection(self, url: str) -> subprocess.Popen:
        command = self.imprint(url, "gc", "--rewrite-below", "95", "--quiet")
        collection = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=self.environment)
        time.sleep(HEAD_START)
        return collection

    def compare(self, name: str, disk: str, image: str, pairs: int) -> float:
        """Prints each pair; the median of the ratios."""
        ratios = []
        for pair in range(pairs):
            order = [False, True] if pair % 2 == 0 else [True, False]
            measured = {collect: self.measure(disk, image, collect) for collect in order}
            (alone, _), (beside, outlasted) = measured[False], measured[True]
            ratios.append(beside / alone)
            short = "" if outlasted else "  (the collection ended before)"
            print(f"{name}: {alone:.2f} s, while collecting {beside:.2f} s: {beside / alone:.2f} times{short}", flush=True)
        print(f"{name}: median {statistics.median(ratios):.2f} times, from {min(ratios):.2f} to {max(ratios):.2f}")
        return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("target/release"), help="where the programs are")
    parser.add_argument("--work", type=Path, help="a directory for disks and repositories; what is there is used again")
    parser.add_argument("--mib", type=int, default=400, help="data on the pushed disks; the collected one has three times that")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imprint-bench-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(exist_ok=True)
        bench = Bench(options.programs.resolve(), work, options.mib)
        if not bench.template.exists():
            bench.prepare()
        if options.pairs == 0:
            return
        ratios = [
            bench.compare("the next version", "next", "work", options.pairs),
            bench.compare("a first push", "other", "fresh", options.pairs),
        ]
        if max(ratios) > GOAL:
            sys.exit(f"the goal is at most {GOAL} times")


if __name__ == "__main__":
    main()
