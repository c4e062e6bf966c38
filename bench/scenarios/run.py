#!/usr/bin/env python3
"""Measures Imprint and its peers on real disks, and prints tables.

Makes the disks if they are missing (root, an hour of Debian packages at worst) and keeps them outside the checkout.
A missing program of a required tool, a wrong disk, or a tool that gives back something else fails the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import document
import facts
from disks import SERIES, DiskError, Disks
from measure import CommandError
from peer import MissingError, Peer
from peers import PEERS
from scenario import LARGE_ROWS, ROWS, Contestant, Row, Sample, WrongError, in_turns, with_needs

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("imprint", "imprint-server", "plain_fastcdc")
# Repositories of all tools, and a target.
FREE_BYTES = 32 << 30
LARGE_TOOLS = ("imprint", "imprint server")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    tools = [peer.name for peer in PEERS]
    rows = [row.name for row in (*ROWS, *LARGE_ROWS)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--programs",
        type=Path,
        default=CHECKOUT / "target/release",
        help="where imprint, imprint-server and plain_fastcdc are (%(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache/imprint-bench",
        help="where disks are kept and repositories are made (%(default)s)",
    )
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured (%(default)s)")
    parser.add_argument("--tools", type=_names(tools), default=tools, help=f"some of: {','.join(tools)}")
    parser.add_argument("--rows", type=_names(rows), default=rows, help=f"some of: {','.join(rows)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to this file, too")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md, too")
    return parser.parse_args()


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"no such name: {', '.join(unknown)}")
        return [name for name in known if name in names]

    return parse


class Runner:
    """One execution: disks, a place to work, and what was measured."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments = arguments
        self.work = work
        self.disks = Disks(arguments.cache / "series")
        self.samples: list[Sample] = []
        self.peers = _installed(arguments.tools, work)

    def run(self) -> document.Results:
        """Makes what is missing, measures everything and returns it."""
        rows = with_needs(self.arguments.rows, ROWS)
        large_rows = with_needs(self.arguments.rows, LARGE_ROWS)
        self.disks.make_series()
        if large_rows:
            self.disks.make_large()
        _check_space(self.work)
        load_before = facts.load()
        for run in range(self.arguments.runs):
            self._run_once(run, rows, self.peers)
        self._run_once(0, large_rows, [peer for peer in self.peers if peer.name in LARGE_TOOLS])
        return document.Results(
            command=f"bench/scenarios/run.py {shlex.join(sys.argv[1:])}".strip(),
            machine=facts.machine(self.work),
            load_before=load_before,
            versions={peer.name: peer(self.work / "version").version() for peer in self.peers},
            disks=self.disks.facts(),
            plain_fastcdc_bytes=self._plain_fastcdc(),
            samples=self.samples,
        )

    def _run_once(self, run: int, rows: list[Row], peers: list[type[Peer]]) -> None:
        if not rows or not peers:
            return
        with ExitStack() as undo:
            contestants = []
            for number, peer in enumerate(peers):
                contestant = Contestant(peer(self.work / f"home-{number}"), self.disks, run)
                contestant.peer.create()
                undo.callback(contestant.clear)
                contestants.append(contestant)
            first = run % len(contestants)
            for turn in in_turns(rows):
                for contestant in contestants[first:] + contestants[:first]:
                    for row in turn:
                        self._measure(row, contestant)
                    contestant.remove_target()

    def _measure(self, row: Row, contestant: Contestant) -> None:
        sample = contestant.measure(row)
        if sample is None or row.name not in self.arguments.rows:
            return
        self.samples.append(sample)
        figures = sample.figures
        print(
            f"run {sample.run + 1}  {row.title:26} {sample.tool:15} {figures.wall_s:8.2f} s  "
            f"{figures.peak_bytes >> 20:5} MiB  others {figures.others:.0%}",
            file=sys.stderr,
            flush=True,
        )

    def _plain_fastcdc(self) -> int | None:
        if "push-other" not in self.arguments.rows:
            return None
        command = ["plain_fastcdc", *(str(self.disks.path(name)) for name in SERIES)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _installed(names: Sequence[str], work: Path) -> list[type[Peer]]:
    installed, missing = [], []
    for peer in (peer for peer in PEERS if peer.name in names):
        try:
            peer(work)
            installed.append(peer)
        except MissingError as error:
            if peer.required:
                missing.append(str(error))
            else:
                print(f"without {peer.name}: {error}", file=sys.stderr)
    if missing:
        raise MissingError("\n".join(missing))
    return installed


def _check_space(work: Path) -> None:
    if shutil.disk_usage(work).free < FREE_BYTES:
        raise DiskError(f"{work.parent} needs {FREE_BYTES >> 30} GiB of free space")


def _use_programs(programs: Path, tools: Path, work: Path) -> None:
    """Copies the programs that are measured, so that a build beside the bench changes nothing."""
    private = work / "programs"
    private.mkdir()
    for name in PROGRAMS:
        if not programs.joinpath(name).exists():
            raise MissingError(f"{programs / name} is missing: `make build` builds it")
        shutil.copy2(programs / name, private)
    os.environ["PATH"] = os.pathsep.join([str(private), str(tools), os.environ["PATH"]])


def main() -> int:
    """Measures, prints, writes. Returns the exit code."""
    arguments = parse_arguments()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="run.", dir=arguments.cache) as work:
            _use_programs(arguments.programs, arguments.cache / "tools/bin", Path(work))
            results = Runner(arguments, Path(work)).run()
    except (MissingError, DiskError, CommandError, WrongError, RuntimeError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(document.tables(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n")
    if arguments.write_docs:
        CHECKOUT.joinpath("docs/benchmarks.md").write_text(document.page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
