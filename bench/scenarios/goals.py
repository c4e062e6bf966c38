"""What Imprint must reach, and whether it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scenario import LARGE_ROWS, ROWS
from table import IMPRINT, MIB, SERVER, Samples, markdown, stored_bytes, wall


@dataclass(frozen=True)
class Goal:
    """A limit, and what was measured. `met` is None if it was not."""

    what: str
    limit: str
    measured: str
    met: bool | None


def goals(samples: Samples, plain_bytes: int | None) -> list[Goal]:
    """All goals, in order."""
    return [
        _faster(samples, "first push", "push-v1", "restic", 3),
        _faster(samples, "push of an unchanged disk (v1)", "again-v1", "restic", 5),
        _faster(samples, "push of an unchanged disk (v4)", "again-v4", "restic", 5),
        *_nothing_sent(samples),
        _faster(samples, "restore onto an empty file", "restore-v4", "restic", 2),
        _at_most_the_copy(samples, 1.3),
        _faster(samples, "update to the next version", "update", "bita", 10),
        _faster(samples, "update to the next version", "update", "casync", 20),
        *_memory(samples),
        _stored(samples, plain_bytes, 1.05),
    ]


def table(reached: list[Goal]) -> str:
    """The goals as a table."""
    words = {True: "yes", False: "no", None: "not measured"}
    return markdown(
        ["", "must be", "is", "met"], [[goal.what, goal.limit, goal.measured, words[goal.met]] for goal in reached]
    )


def _faster(samples: Samples, what: str, row: str, than: str, limit: float) -> Goal:
    ratio = samples.ratio(row, than, IMPRINT, wall)
    measured = "" if ratio is None else f"{ratio:.1f} times"
    return Goal(what, f"{limit:g} times as fast as {than}", measured, None if ratio is None else ratio >= limit)


def _at_most_the_copy(samples: Samples, limit: float) -> Goal:
    ratio = samples.ratio("restore-v4", IMPRINT, "cp", wall)
    measured = "" if ratio is None else f"{ratio:.2f} times"
    return Goal(
        "restore onto an empty file",
        f"at most {limit:g} times `cp --sparse=always`",
        measured,
        None if ratio is None else ratio <= limit,
    )


def _nothing_sent(samples: Samples) -> Iterator[Goal]:
    for tool in (IMPRINT, SERVER):
        before = {sample.run: sample.report["packs"] for sample in samples.of("push-v1", tool)}
        again = samples.of("again-v1", tool)
        chunks = sum(sample.report["new_chunks"] for sample in again)
        packs = sum(sample.report["packs"] - before[sample.run] for sample in again)
        yield Goal(
            f"push of an unchanged disk, {tool}",
            "no chunk sent, no pack written",
            f"{chunks} chunks, {packs} packs" if again else "",
            chunks == packs == 0 if again else None,
        )


def _memory(samples: Samples) -> Iterator[Goal]:
    rows = [("4 GiB", {row.name for row in ROWS}), ("64 GiB", {row.name for row in LARGE_ROWS})]
    limits = [
        ("embedded", IMPRINT, "peak_bytes", 450),
        ("client", SERVER, "peak_bytes", 300),
        ("server", SERVER, "server_peak_bytes", 300),
    ]
    for size, names in rows:
        for what, tool, figure, limit in limits:
            peaks = [getattr(sample.figures, figure) for sample in samples.all_of(tool) if sample.row in names]
            peak = max(peaks) / MIB if peaks else None
            yield Goal(
                f"peak memory, {what}, {size}",
                f"under {limit} MiB",
                "" if peak is None else f"{peak:.0f} MiB",
                None if peak is None else peak < limit,
            )


def _stored(samples: Samples, plain_bytes: int | None, limit: float) -> Goal:
    size = stored_bytes(samples, IMPRINT)
    ratio = size / plain_bytes if size and plain_bytes else None
    return Goal(
        "stored bytes for the series, whole repository",
        f"at most {limit:g} times plain FastCDC 64K, zstd 3",
        "" if ratio is None else f"{ratio:.3f} times",
        None if ratio is None else ratio <= limit,
    )
