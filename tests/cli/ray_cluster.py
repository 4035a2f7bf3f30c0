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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ray_is_there = pytest.mark.skipif(
    not any((Path(folder) / "ray" / "_raylet.so").is_file() for folder in sys.path),
    reason="Ray is not installed: pip install 'proxprop[cluster]'",
)
_TRIES = 3
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
def cluster(cpus: int, gpus: int = 0, *, grows: bool = False) -> Iterator[Cluster]:
    """A head.

    :param gpus: those that Ray is told of; there need not be any.
    :param grows: whether others may join.
    """
    # paths of sockets are to be short
    folder = Path(tempfile.mkdtemp(prefix="pp-", dir="/tmp"))
    environment = {**QUIET, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if grows:
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    try:
        for _ in range(_TRIES):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            options = ["--head", f"--port={port}", "--include-dashboard=false"]
            options += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--temp-dir={folder}"]
            options += ["--node-ip-address=127.0.0.1"]
            if start(folder / "output", options, environment):
                yield Cluster(folder, f"127.0.0.1:{port}", environment)
                return
            end_all(folder, str(port))
        raise AssertionError((folder / "output").read_text())
    finally:
        end_all(folder, str(port))
        shutil.rmtree(folder, ignore_errors=True)


def join(there: Cluster, ip: str, cpus: int, environment: dict[str, str]) -> None:
    """Start another node; it ends with the cluster.

    :param environment: besides what the cluster's processes need.
    """
    options = [f"--address={there.address}", f"--node-ip-address={ip}", f"--num-cpus={cpus}"]
    output = there.folder / f"output-{ip}"
    assert start(output, options, {**there.environment, **environment}), output.read_text()


def start(output: Path, options: list[str], environment: dict[str, str]) -> bool:
    """Start a node; tells whether it came up in the time that Ray gives it, which it may not on a
    busy machine."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
    command += ["--object-store-memory=200000000", "--disable-usage-stats"]
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=stream, stderr=stream
        )
    while process.poll() is None:
        if "Ray runtime started" in output.read_text():
            return True
        time.sleep(0.1)
    return False


def end_all(folder: Path, port: str) -> None:
    """End a cluster: as a person does, then for sure."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        limit = time.monotonic() + 30
        for left in processes():
            # first what "ray start" itself is, which ends the others
            is_starter = "ray.scripts.scripts start" in left.line and port in left.line
            if is_starter or (number == signal.SIGKILL and str(folder) in left.line):
                with suppress(ProcessLookupError):
                    os.kill(left.pid, number)
        while time.monotonic() < limit and any(str(folder) in p.line for p in processes()):
            time.sleep(0.1)
