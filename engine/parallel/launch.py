"""What torchrun has told this process about its job. Torch is not needed to ask."""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.errors import ConfigError

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, slots=True)
class Launch:
    """This process among those of its job.

    :ivar rank: its number, from 0.
    :ivar size: processes of the job.
    :ivar local_rank: its number on its machine, from 0.
    :ivar local_size: processes on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


SINGLE = Launch()


def launched() -> Launch:
    """As torchrun has left it in the environment; one process alone where it has not.

    :raises ConfigError: it left something that is no number.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return SINGLE  # other launchers set the same names for ends of their own
    try:
        return Launch(*(int(os.environ[name]) for name in _NAMES))
    except (LookupError, ValueError):
        names = ", ".join(f"{name}={os.environ.get(name)!r}" for name in _NAMES)
        raise ConfigError(
            f"expected torchrun's numbers in the environment, found {names}"
        ) from None
