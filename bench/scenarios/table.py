"""Medians, ratios and tables of what was measured, as Markdown.

A ratio is taken within one run, between what two tools did one after the other; its median is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from scenario import LARGE_ROWS, ROWS, WHOLE_SERIES, Sample

MIB = 1 << 20
IMPRINT = "imprint"
SERVER = "imprint server"
NONE = ""
PUSHES = {row.name for row in (*ROWS, *LARGE_ROWS) if row.action == "push"}

Figure = Callable[[Sample], float | None]


class Samples:
    """All that was measured, to be looked up by row and tool."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)
        self.tools = list(dict.fromkeys(sample.tool for sample in self._samples))

    def of(self, row: str, tool: str) -> list[Sample]:
        """The samples of a row and tool, by run."""
        return [sample for sample in self._samples if (sample.row, sample.tool) == (row, tool)]

    def all_of(self, tool: str) -> list[Sample]:
        """The samples of all rows of a tool."""
        return [sample for sample in self._samples if sample.tool == tool]

    def median(self, row: str, tool: str, figure: Figure) -> float | None:
        """The median over all runs."""
        values = [value for sample in self.of(row, tool) if (value := figure(sample)) is not None]
        return statistics.median(values) if values else None

    def ratio(self, row: str, tool: str, to: str, figure: Figure) -> float | None:
        """How many times a tool's figure is that of another in the same run."""
        others = {sample.run: figure(sample) for sample in self.of(row, to)}
        ratios = [
            mine / theirs
            for sample in self.of(row, tool)
            if (mine := figure(sample)) is not None and (theirs := others.get(sample.run))
        ]
        return statistics.median(ratios) if ratios else None

    def disturbed(self) -> int:
        """How many samples were taken while others used more than a tenth of the machine."""
        return sum(sample.figures.others > 0.1 for sample in self._samples)

    def __len__(self) -> int:
        return len(self._samples)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def wall(sample: Sample) -> float:
    """Seconds until everything was on the disk."""
    return sample.figures.wall_s


def cpu(sample: Sample) -> float:
    """Seconds of all cores."""
    return sample.figures.cpu_s


def sent(sample: Sample) -> float | None:
    """Bytes that left the client, if the tool says so, or else those that its repository grew by."""
    report = sample.report
    if "sent_bytes" in report:
        return report["sent_bytes"] + report.get("node_bytes", 0)
    if "fetched_bytes" in report:
        return report["fetched_bytes"]
    return sample.growth_bytes if sample.row in PUSHES else None


def times(samples: Samples, figure: Figure) -> str:
    """A table of times and of their ratios to Imprint's."""

    def cell(row: str, tool: str) -> str:
        seconds = samples.median(row, tool, figure)
        ratio = None if tool == IMPRINT else samples.ratio(row, tool, IMPRINT, figure)
        return NONE if seconds is None else f"{seconds:.2f}" + (NONE if ratio is None else f" ({ratio:.1f}x)")

    return _by_row(samples, cell)


def peaks(samples: Samples) -> str:
    """A table of peak memory in MiB, client and server."""

    def cell(row: str, tool: str) -> str:
        client = samples.median(row, tool, lambda sample: sample.figures.peak_bytes)
        server = samples.median(row, tool, lambda sample: sample.figures.server_peak_bytes)
        both = [f"{peak / MIB:.0f}" for peak in (client, server) if peak is not None]
        return " + ".join(both)

    return _by_row(samples, cell)


def bytes_sent(samples: Samples) -> str:
    """A table of what was sent, or what the repository grew by, in MiB."""

    def cell(row: str, tool: str) -> str:
        value = samples.median(row, tool, sent)
        return NONE if value is None else f"{value / MIB:.1f}"

    return _by_row(samples, cell)


def input_output(samples: Samples) -> str:
    """A table of what was read and written through system calls, in MiB."""

    def cell(row: str, tool: str) -> str:
        read = samples.median(row, tool, lambda sample: sample.figures.read_bytes)
        written = samples.median(row, tool, lambda sample: sample.figures.written_bytes)
        return NONE if read is None or written is None else f"{read / MIB:.0f} / {written / MIB:.0f}"

    return _by_row(samples, cell)


def stored(samples: Samples, plain_bytes: int | None) -> str:
    """A table of what the repositories take that hold the series."""
    sizes = {tool: size for tool in samples.tools if (size := stored_bytes(samples, tool)) is not None}
    if plain_bytes is not None:
        sizes["plain FastCDC 64K, zstd 3"] = plain_bytes
    ratio = {tool: f"{size / plain_bytes:.3f}" if plain_bytes else NONE for tool, size in sizes.items()}
    return markdown(["", "MiB", "to plain"], [[tool, f"{size / MIB:.1f}", ratio[tool]] for tool, size in sizes.items()])


def stored_bytes(samples: Samples, tool: str) -> float | None:
    """What a tool's whole repository takes on its filesystem once it holds the five disks."""
    return samples.median(WHOLE_SERIES, tool, lambda sample: sample.stored_bytes or None)


def _by_row(samples: Samples, cell: Callable[[str, str], str]) -> str:
    rows = [[row.title, *(cell(row.name, tool) for tool in samples.tools)] for row in (*ROWS, *LARGE_ROWS)]
    filled = [row for row in rows if any(row[1:])]
    used = [column for column in range(1, len(samples.tools) + 1) if any(row[column] for row in filled)]
    return markdown(
        ["", *(samples.tools[column - 1] for column in used)],
        [[row[0], *(row[column] for column in used)] for row in filled],
    )
