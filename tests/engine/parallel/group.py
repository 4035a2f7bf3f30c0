"""A few processes of one job, without torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.terminal import start

SECONDS = 240


def run(module: str, processes: int, folder: Path) -> Any:
    """Run a module by several processes; return what rank 0 writes as JSON to the file it is given.

    The module gets the file's name, and finds torchrun's numbers in the environment.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    answer = folder / f"{processes}.json"
    started = []
    for rank in range(processes):
        environment = {
            **os.environ,
            "TORCHELASTIC_RUN_ID": "test",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-m", module, str(answer)]
        started.append(start(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, "\n".join(errors)
    return json.loads(answer.read_text())
