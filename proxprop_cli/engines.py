"""What trains the runs of a sweep: processes of this machine, or the machines of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError, ProxPropError

if TYPE_CHECKING:
    from engine.cluster.shares import Share
    from engine.config import RunConfig
    from engine.pool import Pool
    from engine.sweeps import Sweep


@dataclass(frozen=True, slots=True)
class Engine:
    """Where to train.

    :ivar address: of a cluster's head; None: one of our own on this machine.
    :ivar gpus: of a run; None: one where its device is a GPU, else none.
    :ivar allow_inexact: let runs go on that began with other versions, threads or devices.
    """

    on_ray: bool = False
    address: str | None = None
    gpus: float | None = None
    allow_inexact: bool = False

    @property
    def options(self) -> list[str]:
        """What says the same on a command line."""
        found = ["--engine", "ray"] if self.on_ray else []
        found += [] if self.address is None else ["--address", self.address]
        found += [] if self.gpus is None else ["--gpus", str(self.gpus)]
        return found + (["--allow-inexact"] if self.allow_inexact else [])

    def check(self, sweep: Sweep, root: Path, jobs: int | None) -> None:
        """See that runs can be trained there before anything is made.

        :param root: folder of the runs.
        :raises ConfigError: they can not.
        """
        if not self.on_ray:
            return
        from engine.cluster.connection import require_ray

        require_ray()
        # one of our own has room; only its GPUs are what Ray counts
        if self.address is not None or self._gpus(sweep):
            with self.pool(sweep, root, None, jobs):
                return

    @contextmanager
    def pool(
        self, sweep: Sweep, root: Path, data_dir: Path | None, jobs: int | None
    ) -> Iterator[tuple[Pool, int]]:
        """The processes, and the CPU threads of a run whose configuration leaves them open.

        :param root: folder of the runs.
        :param data_dir: where data sets are kept; None: the default of each machine.
        :raises ConfigError: the cluster can not be used.
        """
        if not self.on_ray:
            from engine.workers import Workers
            from proxprop_cli.sitting import default_data_dir

            jobs, threads = share_out(sweep, jobs)
            folder = data_dir or default_data_dir()
            yield Workers(jobs, root, folder, allow_inexact=self.allow_inexact), threads
            return
        from engine.cluster.connection import connected
        from engine.cluster.ray_pool import RayPool

        threads = 1
        if self.address is None:
            jobs, threads = share_out(sweep, jobs)
        share = self._share(sweep, root, threads)
        with connected(self.address, cpus=share.cpus * (jobs or 1)):
            pool = RayPool(root, share, jobs, data_dir, allow_inexact=self.allow_inexact)
            yield pool, threads

    def _share(self, sweep: Sweep, root: Path, threads: int) -> Share:
        """What a run takes of a machine: one share for all, so that processes can stay."""
        from engine.cluster.shares import Share

        given = [config.get("threads") or threads for config in sweep.configs.values()]
        asked = max((n for n in given if isinstance(n, int)), default=threads)
        return Share(max(asked, _threads_begun_with(sweep, root)), self._gpus(sweep))

    def _gpus(self, sweep: Sweep) -> float:
        cuda = any(config.get("device") == "cuda" for config in sweep.configs.values())
        return self.gpus if self.gpus is not None else float(cuda)


def chosen(engine: str, address: str | None, gpus: float | None) -> Engine:
    """What the options of a command say.

    :raises ConfigError: they do not go together.
    """
    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine: expected local or ray, found {engine!r}")
    if engine == "local":
        for option, value in (("--address", address), ("--gpus", gpus)):
            if value is not None:
                raise ConfigError(f"{option} is for --engine ray; add that, or leave {option} out")
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus {gpus:g}: expected a part of one, or a whole number")
    return Engine(engine == "ray", address, gpus)


def on_this_machine(config: RunConfig) -> RunConfig:
    """The run as far as it can be looked at where its device may not be."""
    return config.model_copy(update={"device": "cpu", "precision": "float32", "cuda_graph": False})


def _threads_begun_with(sweep: Sweep, root: Path) -> int:
    """The most threads that runs have which were begun and are not done; they keep them."""
    from engine.cells import read_cell
    from engine.run import Run

    most = 0
    for cell in sweep.cells:
        run = Run(root / str(cell.run))
        if run.exists():
            with suppress(ProxPropError):  # what is wrong with it is told when it is its turn
                if not read_cell(root, cell).ended:
                    most = max(most, run.config().threads or 0)
    return most


def share_out(sweep: Sweep, jobs: int | None) -> tuple[int, int]:
    """Runs side by side on this machine, and CPU threads of each.

    A comparison trains one run at a time unless told otherwise, because its times are looked at.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    processors = processors or os.cpu_count() or 1
    if jobs is None:
        wanted = [config.get("threads") or processors for config in sweep.configs.values()]
        most = max((n for n in wanted if isinstance(n, int)), default=processors)
        jobs = 1 if sweep.kind == "comparison" else max(1, processors // most)
    return jobs, max(1, processors // jobs)
