"""A Ray cluster of real processes, as a person starts one, for tests."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.sweeps import Sweep, all_sweeps
from tests.cli.terminal import Answer, Terminal, start

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
# what trains is not to wait for other tests, and processes that nobody needs are not to start
_LEAN = {"RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0"}
_WITHOUT = ["--include-dashboard=false", "--no-monitor", "--include-log-monitor=false"]
_TRIES = 3
PATIENCE = 400.0
"""Seconds; Ray takes long to start where others use the machine."""


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true; looking all the time would keep Ray from it."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@dataclass(frozen=True)
class Process:
    """One line of ``ps``."""

    pid: int
    line: str

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                assert select.select([descriptor], [], [], PATIENCE)[0], f"still there: {self}"
            finally:
                os.close(descriptor)


def processes_with(variable: str, value: str) -> list[Process]:
    """Return the processes of Ray that were started with a variable in their environment."""
    mark = f"{variable}={value}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (
                path.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            is_ray = "/ray/" in line or "ray.scripts" in line or line.startswith("ray::")
            if is_ray and mark in path.joinpath("environ").read_bytes():
                found.append(Process(int(path.name), line))
        except OSError:
            continue
    return found


def wait_for_ends(find: Callable[[], list[Process]]) -> None:
    """Wait until there is none of these processes any more."""
    while found := find():
        found[0].wait()


@dataclass(frozen=True)
class Cluster:
    """Nodes with one token.

    :ivar environment: what its processes and those who ask need.
    """

    folder: Path
    address: str
    environment: dict[str, str]

    def processes(self) -> list[Process]:
        return processes_with("RAY_AUTH_TOKEN", self.environment["RAY_AUTH_TOKEN"])

    def seats(self, doing: str = "") -> list[Process]:
        """Return the processes that train, or are about to.

        :param doing: only those; ``.news`` is what those are asked for that train.
        """
        return [p for p in self.processes() if p.line.startswith(f"ray::Seat{doing}")]

    def join(self, ip: str, cpus: int, environment: dict[str, str]) -> None:
        """Start another node.

        :param environment: besides what the cluster's processes need.
        """
        options = [f"--address={self.address}", f"--node-ip-address={ip}", f"--num-cpus={cpus}"]
        output = self.folder / f"output-{ip}"
        assert _start(output, options, {**self.environment, **environment}), output.read_text()


@contextmanager
def cluster(cpus: int, gpus: int = 0, *, grows: bool = False) -> Iterator[Cluster]:
    """Start a head, and end it with all nodes that have joined.

    :param gpus: those that Ray is told of; there need not be any.
    :param grows: whether others may join.
    """
    # paths of sockets are to be short
    folder = Path(tempfile.mkdtemp(prefix="pp-", dir="/tmp"))
    environment = {**QUIET, **_LEAN, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if grows:
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    try:
        for _ in range(_TRIES):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            options = ["--head", f"--port={port}", *_WITHOUT, "--node-ip-address=127.0.0.1"]
            options += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--temp-dir={folder}"]
            made = Cluster(folder, f"127.0.0.1:{port}", environment)
            if _start(folder / "output", options, environment):
                yield made
                return
            _end(made)
        raise AssertionError((folder / "output").read_text())
    finally:
        _end(made)
        shutil.rmtree(folder, ignore_errors=True)


def _start(output: Path, options: list[str], environment: dict[str, str]) -> bool:
    """Start a node; return whether it came up in the time that Ray gives it, which it may not on a
    busy machine."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
    command += ["--object-store-memory=200000000", "--disable-usage-stats"]
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=stream, stderr=stream
        )
    is_up = lambda: "Ray runtime started" in output.read_text()  # noqa: E731
    until(lambda: process.poll() is not None or is_up())
    return process.poll() is None


def _end(there: Cluster) -> None:
    while left := there.processes():
        for process in left:
            process.kill()
        left[0].wait()


class Asker(Terminal):
    """A shell on a machine of a cluster, or on one that is in none."""

    def __init__(self, runs: Path, there: Cluster | None) -> None:
        super().__init__(runs)
        # a cluster of its own is to be quiet and closed by itself
        self.environment |= _LEAN if there is None else there.environment
        self.options = ["--engine", "ray"]
        self.options += [] if there is None else ["--address", there.address]

    def python(self, code: str, *arguments: str) -> Answer:
        """Run other code in the same environment."""
        command = [sys.executable, "-c", code, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = start(command, env=self.environment, **streams)
        out, err = process.communicate(timeout=PATIENCE)
        return Answer(process.returncode, out, err)

    def __call__(
        self, *arguments: str, stdin: str | None = None, seconds: float = PATIENCE
    ) -> Answer:
        return super().__call__(*arguments, stdin=stdin, seconds=seconds)

    def sweep(self) -> Sweep:
        """Return the only sweep, as soon as there is one."""
        until(lambda: all_sweeps(self.runs))
        return all_sweeps(self.runs)[0]

    def rays(self) -> list[Process]:
        """Return the processes of Ray that were started from here."""
        return processes_with("PROXPROP_DIR", str(self.runs))
