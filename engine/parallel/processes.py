"""A team of processes, over torch.distributed: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from engine.errors import TeamError
from engine.parallel.launch import Launch
from engine.parallel.team import Team

# A run may wait for a person or for room on the disk; that a process has died torchrun notices.
_PATIENCE = timedelta(days=365)
_JOINING = timedelta(minutes=30)
_LEAVING = timedelta(seconds=5)
_END = "proxprop/end"
_LOST = re.compile(
    # what gloo's connections say, but not what it checks of its arguments ("[enforce fail at ...")
    r"\[(?!enforce)[^]]*gloo/transport/"
    r"|by (remote )?peer|broken pipe|connection (refused|reset|closed|aborted)|timed out"
    r"|remote process|communicator was aborted",
    re.IGNORECASE,
)
"""In messages of errors that tell of another process, not of this one."""

T = TypeVar("T")


class Processes(Team):
    """The processes that torchrun has started.

    :raises TeamError: here and in all methods: another process has gone.
    """

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(launch.local_rank % torch.cuda.device_count())
        with _joining():
            # torchrun keeps this store, so that it outlives every process of the job
            self._store, *_ = next(rendezvous("env://", timeout=_JOINING))
            dist.init_process_group(
                backend,
                store=PrefixStore("proxprop/group", self._store),
                rank=launch.rank,
                world_size=launch.size,
                timeout=_PATIENCE,
            )

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`Team.sum`."""
        found: dict[int, Tensor] = {}
        for places in _by_type(tensors):
            buffer = torch.cat([tensors[place].reshape(-1) for place in places])
            with _together():
                dist.all_reduce(buffer)
            self.traffic.calls += 1
            self.traffic.summed += buffer.nbytes
            parts = buffer.split([tensors[place].numel() for place in places])
            for place, part in zip(places, parts, strict=True):
                found[place] = part.view(tensors[place].shape)
        return [found[place] for place in range(len(tensors))]

    def gather(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """See :meth:`Team.gather`."""
        found: dict[int, Tensor] = {}
        most, own = max(sizes), sizes[self.rank]
        for places in _by_type(tensors):
            widths = [math.prod(tensors[place].shape[1:]) for place in places]
            like = tensors[places[0]]
            rows = like.new_zeros(most, sum(widths))
            for place, part in zip(places, rows[:own].split(widths, dim=1), strict=True):
                part.copy_(tensors[place].flatten(1))
            buffer = like.new_empty(self.size * most, sum(widths))
            blocks = buffer.split(most)
            with _together():
                dist.all_gather(list(blocks), rows)
            self.traffic.calls += 1
            self.traffic.gathered += buffer.nbytes
            whole = torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])
            for place, part in zip(places, whole.split(widths, dim=1), strict=True):
                found[place] = part.reshape(-1, *tensors[place].shape[1:])
        return [found[place] for place in range(len(tensors))]

    def align(self, tensors: Sequence[Tensor]) -> None:
        """See :meth:`Team.align`."""
        with _together():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def numbers(self, own: Sequence[float]) -> tuple[float, ...]:
        """See :meth:`Team.numbers`; between hosts, whatever the device: no stream is waited for."""
        told = torch.tensor(own, dtype=torch.float64)
        self.align([told])
        return tuple(told.tolist())

    def content(self, own: bytes) -> bytes:
        """See :meth:`Team.content`."""
        (length,) = self.numbers([len(own)])
        told = torch.empty(int(length), dtype=torch.uint8)
        if self.rank == 0 and own:
            told.copy_(torch.frombuffer(bytearray(own), dtype=torch.uint8))
        if len(told):
            self.align([told])
        return told.numpy().tobytes()

    def in_turn(self, action: Callable[[], T]) -> T:
        """See :meth:`Team.in_turn`."""
        # a sum waits for all processes; a word of rank 0 would not wait for other machines' first
        barrier = [torch.zeros(1)]
        if self.launch.local_rank == 0:
            done = action()
            self.sum(barrier)
            return done
        self.sum(barrier)
        return action()

    def conclude(self, code: int) -> int | None:
        """See :meth:`Team.conclude`."""
        own = f"{self.rank}:{code}"
        try:
            self._store.set_timeout(_LEAVING)
            first = self._store.compare_set(_END, "", own).decode()
        except RuntimeError:
            return None  # whoever kept the store is gone
        return None if first == own else int(first.split(":")[1])

    def leave(self) -> None:
        """See :meth:`Team.leave`."""
        with suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()  # threads that are left at the end would abort the process


def _by_type(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Places of the tensors of each type, in the order in which the types come."""
    places: dict[torch.dtype, list[int]] = {}
    for place, tensor in enumerate(tensors):
        places.setdefault(tensor.dtype, []).append(place)
    return list(places.values())


@contextmanager
def _joining() -> Iterator[None]:
    """Whatever the meeting of all processes fails with, in words.

    :raises TeamError: instead of the library's error.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise TeamError(
            f"could not join the other processes of this job ({_first_line(error)}); start it again"
        ) from error


@contextmanager
def _together() -> Iterator[None]:
    """What an operation that needs all processes fails with where one is gone, in words.

    An error of this process alone, such as a wrong shape or a lack of memory, stays what it is.

    :raises TeamError: another process has ended.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not tells_of_another(error):
            raise
        raise TeamError(
            "another process of this job has ended, and so it can not go on; once it is started "
            "again, 'proxprop resume' continues the run from its newest checkpoint "
            f"({_first_line(error)})"
        ) from error


def tells_of_another(error: BaseException) -> bool:
    """Whether an error of a collective operation means that another process is gone."""
    if isinstance(
        error, dist.DistNetworkError | dist.DistStoreError | ConnectionError | TimeoutError
    ):
        return True
    own = isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)
    return not own and _LOST.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
