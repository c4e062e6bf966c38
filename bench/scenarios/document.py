"""What is printed, and docs/benchmarks.md: tables, and what one has to know to read them."""

from __future__ import annotations

from dataclasses import dataclass

import goals
import table
from scenario import Sample

MIB = 1 << 20


@dataclass(frozen=True)
class Results:
    """Everything that one execution of the runner found out. It is the JSON output, too."""

    command: str
    machine: dict[str, str]
    load_before: float
    versions: dict[str, str]
    disks: dict[str, dict[str, int]]
    plain_fastcdc_bytes: int | None
    samples: list[Sample]


def tables(results: Results) -> str:
    """All tables, with their titles."""
    samples = table.Samples(results.samples)
    sections = {
        "Wall time, seconds (and how many times Imprint's in the same run)": table.times(samples, table.wall),
        "CPU time of all cores, seconds (and how many times Imprint's)": table.times(samples, table.cpu),
        "Peak memory, MiB (client + server)": table.peaks(samples),
        "Sent or fetched, MiB (by a tool that does not say: what its repository grew by)": table.bytes_sent(samples),
        "Read / written through system calls, MiB (repository and server included)": table.input_output(samples),
        "Stored for the five disks, whole repository": table.stored(samples, results.plain_fastcdc_bytes),
        "What must be reached": goals.table(goals.goals(samples, results.plain_fastcdc_bytes)),
    }
    return "\n\n".join(f"## {title}\n{text}" for title, text in sections.items()) + "\n\n" + _trust(results, samples)


def page(results: Results) -> str:
    """docs/benchmarks.md."""
    machine = results.machine
    runs = 1 + max((sample.run for sample in results.samples), default=0)
    return f"""# Benchmarks

Written by `{results.command}` on {machine["date"]}: {machine["cores"]} cores of an {machine["processor"]}, \
{machine["memory"]} of memory, Linux {machine["kernel"]}, {machine["filesystem"]}. {"One run" if runs == 1 else f"Medians of {runs} runs"}.
{", ".join(dict.fromkeys(results.versions.values()))}.

{table.markdown(["disk", "size, MiB", "data, MiB"], _disks(results))}

v1 is Debian as it was released, v2 the same machine after the security upgrade, v3 after installing a desktop-sized
set of applications, v4 after removals and a few additions; `other` is a second machine with v3's software, built from
scratch. `large` is v1 and v2 in turn, four times each, with a page changed in every 4 MiB. Debian changes: seconds and
bytes can be compared within one page only.

How it is measured: each tool has a new repository in each run; all tools do one row after the other, in an order that
rotates with the run. What is read is in the page cache, nothing else of the bench is, and a command ends when the
filesystem is synced. What is stored is the whole repository, without the 64 MiB that Imprint keeps in reserve for a full
disk whatever else there is. What was restored or updated is compared with the disk, byte for byte. Backup tools are told to read a file that
has not changed, because a device has no times to believe. restic as shipped by Debian 12 writes the zeros, too, when it
restores; the others leave holes. casync updates by making a new file, with the old one as its seed. bita has no store:
its archives are not compressed, which is the fastest to update from, and making them is not counted. Imprint's repositories
have chunking profile 2, and free space is captured.

{tables(results)}
"""


def _disks(results: Results) -> list[list[str]]:
    return [[name, str(disk["bytes"] // MIB), str(disk["data_bytes"] // MIB)] for name, disk in results.disks.items()]


def _trust(results: Results, samples: table.Samples) -> str:
    return (
        f"Load before: {results.load_before:.1f}. During {samples.disturbed()} of {len(samples)} measurements others "
        "(the kernel's writing included) used more than a tenth of the machine."
    )
