"""Where a run trains, and what its bits may depend on."""

from __future__ import annotations

import platform
import time

import numpy as np
import torch

from engine.config import RunConfig
from engine.errors import ConfigError
from engine.parallel.launch import SINGLE, Launch


def choose_device(name: str, launch: Launch = SINGLE) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    :param launch: this process among those of its job: each has a GPU of its own.
    :raises ConfigError: when that device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        there = ", ".join(kind for kind, found in available.items() if found)
        raise ConfigError(f"device: '{name}' is not available here; available: {there}")
    if launch.size == 1 or name == "cpu":
        return torch.device(name)
    if name == "mps":
        raise ConfigError("device: 'mps' is not for several processes; choose 'cpu'")
    if launch.local_size > torch.cuda.device_count():
        raise ConfigError(
            f"device: {launch.local_size} processes on this machine need as many GPUs, and there "
            f"are {torch.cuda.device_count()}; start fewer, or choose 'cpu'"
        )
    return torch.device("cuda", launch.local_rank)


def check_settings(config: RunConfig, device: torch.device) -> None:
    """See that the device can do what the configuration wants of it.

    :raises ConfigError: ``precision`` or ``cuda_graph`` needs CUDA and this is another device.
    """
    if device.type == "cuda":
        return
    if config.precision == "tf32":
        raise ConfigError(f"precision: 'tf32' needs a CUDA device, and this is '{device.type}'")
    if config.cuda_graph:
        raise ConfigError(f"cuda_graph: needs a CUDA device, and this is '{device.type}'")


def describe(config: RunConfig, device: torch.device) -> dict[str, str | int | float]:
    """Versions, device, threads and seed: a resumed run with other ones gets other bits."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "seed": config.seed,
    }


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Seconds of training: runs only between :meth:`start` and :meth:`stop`."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device = device
        self._before = seconds
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds so far. On an accelerator: of what was dispatched, exact after a stop."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._before + running

    def start(self) -> None:
        """Go on counting."""
        if self._started is None:
            self._started = time.perf_counter()

    def stop(self) -> float:
        """Wait for the device and stop counting; gives the seconds so far."""
        if self._started is not None:
            synchronize(self._device)
            self._before, self._started = self.seconds, None
        return self._before
