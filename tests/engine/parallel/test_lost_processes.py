"""Which errors of a collective operation mean that another process is gone."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from engine.errors import TeamError
from engine.parallel.processes import _joining, _together
from tests.reliability.report import MORE, promise

LOST = [
    RuntimeError(
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:39"
    ),
    RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"),
    RuntimeError(
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms "
        "for recv operation to complete"
    ),
    RuntimeError("Read error [10.0.0.1]:25266: Connection reset by peer"),
    RuntimeError("writev [127.0.0.1]:1: Broken pipe"),
    dist.DistBackendError(
        "NCCL error in: NCCLUtils.hpp:268, remote process exited or there was a network error, "
        "NCCL version 2.21.5\nncclRemoteError: A call failed possibly due to a network error"
    ),
    dist.DistBackendError("NCCL communicator was aborted on rank 1."),
    dist.DistNetworkError("The client socket has failed to connect to host:29500 (errno: 111)"),
    dist.DistStoreError("wait timeout after 1000ms, keys: /proxprop/group"),
    ConnectionResetError(104, "Connection reset by peer"),
]
OWN = [
    RuntimeError(
        "[enforce fail at ../third_party/gloo/gloo/transport/tcp/pair.cc:446] "
        "op.preamble.length <= op.nbytes. 28 vs 24"
    ),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered; connection closed"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    dist.DistBackendError("NCCL error: invalid usage\nDuplicate GPU detected : rank 1 and rank 0"),
    ValueError("Default process group has not been initialized"),
    IndexError("tuple index out of range"),
]


def first_words(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0][-40:]}"


@promise(
    MORE,
    "an operation between the processes of a job fails",
    "that another process has ended is said only where one has; other errors keep their words",
)
@pytest.mark.parametrize("error", LOST, ids=first_words)
def test_a_lost_process_is_told_in_one_line(error):
    with pytest.raises(TeamError) as told, _together():
        raise error
    assert "another process of this job has ended" in str(told.value)
    assert "proxprop resume" in str(told.value)
    assert str(error).splitlines()[0][:100] in str(told.value)
    assert "\n" not in str(told.value)


@promise(
    MORE,
    "an operation between the processes of a job fails",
    "that another process has ended is said only where one has; other errors keep their words",
)
@pytest.mark.parametrize("error", OWN, ids=first_words)
def test_an_error_of_this_process_keeps_its_words(error):
    with pytest.raises(type(error)) as raised, _together():
        raise error
    assert raised.value is error


def test_processes_that_do_not_meet_say_why():
    with (
        pytest.raises(TeamError, match=r"could not join .*MASTER_ADDR expected, but not set"),
        _joining(),
    ):
        raise ValueError("environment variable MASTER_ADDR expected, but not set")
