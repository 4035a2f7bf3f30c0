"""A Ray cluster of real processes, as a person starts one, for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ray_is_there = pytest.mark.skipif(
    not any((Path(folder) / "ray" / "_raylet.so").is_file() for folder in sys.path),
    reason="Ray is not installed: pip install 'proxprop[cluster]'",
)
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    # all listens on 127.0.0.1 alone
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True)
class Process:
    """One line of ``ps``."""

    pid: int
    parent: int
    line: str


def processes() -> list[Process]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = path.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if fields[0] != "Z":
            found.append(Process(int(path.parent.name), int(fields[1]), line))
    return found


@dataclass(frozen=True)
class Cluster:
    """A head with so many CPUs.

    :ivar environment: what its processes and those who ask need.
    """

    folder: Path
    address: str
    environment: dict[str, str]

    def seats(self, doing: str = "") -> list[int]:
        """Processes that train, or are about to.

        :param doing: only those; ``.news`` is what those are asked for that train.
        """
        found = processes()
        raylets = {p.pid for p in found if "raylet/raylet" in p.line and str(self.folder) in p.line}
        assert raylets
        name = f"ray::Seat{doing}"
        return [p.pid for p in found if p.parent in raylets and p.line.startswith(name)]


@contextmanager
def cluster(cpus: int) -> Iterator[Cluster]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # paths of sockets are to be short
    folder = Path(tempfile.mkdtemp(prefix="pp-", dir="/tmp"))
    environment = {**QUIET, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--port={port}", f"--num-cpus={cpus}", "--include-dashboard=false"]
    command += [f"--temp-dir={folder}", "--object-store-memory=200000000", "--disable-usage-stats"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + 120
        while "Ray runtime started" not in (folder / "output").read_text():
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield Cluster(folder, f"127.0.0.1:{port}", environment)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        for left in processes():
            if str(folder) in left.line:
                os.kill(left.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
