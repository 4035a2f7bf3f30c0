"""What a run takes of a machine, and how many find room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_SLACK = 1e-6
"""Ray counts in ten-thousandths; 0.1 goes ten times into 1."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of one run.

    :ivar cpus: CPU threads.
    :ivar gpus: 0.25: four runs share a GPU; above 1 whole ones.
    """

    cpus: int
    gpus: float = 0.0

    def fits(self, resources: Mapping[str, float]) -> int:
        """How many runs find room on a machine at once.

        :param resources: as Ray names them.
        """
        by_cpu = int(resources.get("CPU", 0.0) / self.cpus + _SLACK)
        if not self.gpus:
            return by_cpu
        gpus = resources.get("GPU", 0.0)
        if self.gpus < 1:
            # a run has one GPU or a part of it, never parts of two
            by_gpu = int(gpus) * int(1 / self.gpus + _SLACK)
        else:
            by_gpu = int(gpus / self.gpus + _SLACK)
        return min(by_cpu, by_gpu)

    def __str__(self) -> str:
        return f"CPU {self.cpus}" + (f", GPU {self.gpus:g}" if self.gpus else "")


def most(machines: Iterable[Mapping[str, float]]) -> str:
    """What the machines have that have the most, in words."""
    listed = list(machines)
    if not listed:
        return "there is no machine"
    cpus = max(one.get("CPU", 0.0) for one in listed)
    gpus = max(one.get("GPU", 0.0) for one in listed)
    return f"the most that one has is CPU {cpus:g}, GPU {gpus:g}"
