"""What figures cannot be read without: the machine, and the versions of the tools."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

GIB = 1 << 30


def machine(directory: Path) -> dict[str, str]:
    """The machine, and the filesystem of a directory."""
    filesystem = subprocess.run(
        ["stat", "--file-system", "--format", "%T", directory], capture_output=True, text=True, check=True
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / GIB:.0f} GiB",
        "kernel": platform.release(),
        "filesystem": filesystem,
    }


def load() -> float:
    """The load of the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
