"""No memory left: one line, and the store tells of it."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from engine.memory_errors import out_of_memory
from engine.runs import Runs
from engine.summary import summarize
from tests.cli.terminal import SMALL
from tests.reliability.report import MORE, promise

TORCH = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (RuntimeError(TORCH), " for 4000000000000 bytes"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"),
            " for 20.00 GiB",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), ""),
        (MemoryError(), ""),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ""),
    ],
    ids=["cpu", "cuda", "mps", "python", "system"],
)
def test_what_libraries_say(error, amount):
    assert out_of_memory(error).startswith(f"out of memory: there is no room{amount};")


def test_what_numpy_says():
    with pytest.raises(MemoryError) as raised:
        np.empty(1 << 60, np.uint8)
    assert " for 1.00 EiB;" in out_of_memory(raised.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_are_none_of_it(error):
    assert out_of_memory(error) is None


no_memory = promise(
    MORE, "there is no memory left", "one line, exit 1; the run is `failed` and says why"
)


@pytest.fixture
def full_memory(monkeypatch):
    """Training takes more than there is."""

    def step(*_, **__):
        raise RuntimeError(TORCH)

    monkeypatch.setattr("engine.learner.Learner.step", step)


@no_memory
@pytest.mark.usefixtures("full_memory")
def test_a_run(cli, tmp_path):
    answer = cli("train", *SMALL, "--epochs", "1")
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("proxprop: out of memory: there is no room for 4")
    assert "internal error" not in answer.err
    run = Runs(tmp_path / "runs").find("latest")
    assert run.status() == "failed"
    assert summarize(run)["reason"].startswith("out of memory")


@no_memory
@pytest.mark.usefixtures("full_memory")
def test_a_run_of_a_sweep(cli, tmp_path):
    options = ["--tau", "1", "--methods", "cg3", "--seeds", "1", "--epochs", "1"]
    answer = cli("sweep-tau", *SMALL, *options)
    assert answer.code == 1
    assert "out of memory: there is no room for 4" in answer.err
    (run,) = Runs(tmp_path / "runs").all()
    assert summarize(run)["reason"].startswith("out of memory")


def test_a_command_that_trains_nothing(cli, monkeypatch):
    def measure(*_, **__):
        raise MemoryError

    monkeypatch.setattr("engine.diagnosis.networks.diagnose", measure)
    answer = cli("diagnose", *SMALL[:4], "--seeds", "1")
    assert (answer.code, answer.err.count("\n")) == (1, 1), answer.err
    assert "out of memory" in answer.err
