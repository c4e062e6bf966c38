"""Imprint as a tool of the bench: embedded, and through a server."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path

from disks import allocated_bytes
from measure import Command, CommandError
from peer import Peer


class Imprint(Peer):
    """Imprint, its repository a directory."""

    name = "imprint"
    program = "imprint"
    package = "`make build` builds it"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.can_update = "\n  update " in self.run(self.executable, "--help")

    @property
    def url(self) -> str:
        """How the repository is named."""
        return str(self.repository)

    def push(self, disk: Path) -> Command:
        image, tag = _image_and_tag(disk.stem)
        return self._imprint("push", disk, image, "--tag", tag)

    def restore(self, disk: Path, target: Path) -> Command:
        return self._imprint("restore", _ref(disk.stem), target, sync=target.parent)

    def update(self, disk: Path, target: Path) -> Command:
        if not self.can_update:
            return self.restore(disk, target)
        return self._imprint("update", target, _ref(disk.stem), sync=target)

    def rollback(self, disk: Path, target: Path) -> Command:
        if not self.can_update:
            return self.restore(disk, target)
        return self._imprint("rollback", target, sync=target)

    def prepare_target(self, disk: Path, target: Path) -> None:
        self.run(*self.restore(disk, target).arguments)

    def stored_bytes(self) -> int:
        """Without the reserve, which has the same size in every repository."""
        reserve = self.repository / "reserve"
        return super().stored_bytes() - (allocated_bytes(reserve) if reserve.exists() else 0)

    def report(self, output: str) -> dict[str, int]:
        result = json.loads(output.splitlines()[-1])
        packs = json.loads(self.run(*self._imprint("stats").arguments).splitlines()[-1])["packs"]
        return {"packs": packs, **{name: value for name, value in result.items() if type(value) is int}}

    def _imprint(self, *arguments: str | Path, sync: Path | None = None) -> Command:
        return self.command("--quiet", "--json", "--repo", self.url, *arguments, sync=sync)


class ImprintServer(Imprint):
    """Imprint through a server on this machine."""

    name = "imprint server"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def server(self) -> int | None:
        return self._process.pid if self._process else None

    def create(self) -> None:
        super().create()
        program = self.executable.with_name("imprint-server")
        arguments = ["serve", "--data", str(self.repository), "--listen", f"127.0.0.1:{self._port}"]
        with self.home.joinpath("server.log").open("wb") as log:
            self._process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        _wait_for(self._port, self._process)

    def close(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None


def _image_and_tag(disk: str) -> tuple[str, str]:
    return ("lab/workstation" if disk.startswith("v") else f"lab/{disk}"), disk


def _ref(disk: str) -> str:
    return ":".join(_image_and_tag(disk))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise CommandError(f"imprint-server did not start on port {port}")
