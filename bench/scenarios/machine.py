"""Changes the software of a machine whose disk is a file, as its administrator would: with apt, in a chroot.

Needs root. Whatever happens, nothing stays mounted.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

# Where debian-disk.sh puts the filesystems.
ESP_START = 1 << 20
ROOT_START = 128 << 20
ROOT_BYTES = 3967 << 20
NO_SERVICES = "#!/bin/sh\nexit 101\n"
# Losing a disk that is being made costs nothing: dpkg need not sync each file.
APT = (
    "apt-get",
    "--yes",
    "--quiet",
    "--quiet",
    "--option",
    "Dpkg::Use-Pty=0",
    "--option",
    "Dpkg::Options::=--force-unsafe-io",
)


def run(*command: str | Path) -> str:
    """Runs a command and returns what it printed; raises with its errors if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout.strip()


class Machine:
    """A machine that is mounted and does not run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def apt(self, *arguments: str) -> None:
        """Runs apt-get inside, without starting services."""
        run("chroot", self.root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", *APT, *arguments)

    def set_sources(self, lines: Sequence[str]) -> None:
        """Says where packages come from."""
        self.root.joinpath("etc/apt/sources.list").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def mounted(disk: Path) -> Iterator[Machine]:
    """Mounts a machine's disk with what a chroot needs."""
    with contextlib.ExitStack() as undo:
        root = disk.with_name(disk.name + ".mount")
        root.mkdir(exist_ok=True)
        undo.callback(root.rmdir)
        loop = run("losetup", "--find", "--show", "--offset", str(ROOT_START), "--sizelimit", str(ROOT_BYTES), disk)
        undo.callback(run, "losetup", "--detach", loop)
        run("mount", "--types", "ext4", loop, root)
        undo.callback(run, "umount", root)
        for kind, name in (("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev")):
            run("mount", "--types", kind, kind, root / name)
            undo.callback(run, "umount", root / name)
        for name in ("etc/resolv.conf", "etc/hosts"):
            root.joinpath(name).touch()
            run("mount", "--bind", Path("/", name).resolve(), root / name)
            undo.callback(run, "umount", root / name)
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text(NO_SERVICES)
        policy.chmod(0o755)
        undo.callback(policy.unlink)
        yield Machine(root)
        run("chroot", root, "apt-get", "clean")
        _copy_kernel(root, disk)


def _copy_kernel(root: Path, disk: Path) -> None:
    """What the hook of a boot loader does after an upgrade: UEFI starts the kernel from the system partition."""
    partition = f"{disk}@@{ESP_START}"
    for name in ("vmlinuz", "initrd.img"):
        installed = root / name
        there = subprocess.run(["mtype", "-i", partition, f"::/{name}"], capture_output=True, check=False).stdout
        if there != installed.read_bytes():
            run("mcopy", "-o", "-i", partition, installed, f"::/{name}")
