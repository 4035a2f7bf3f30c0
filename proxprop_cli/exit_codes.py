"""Exit codes, and the one place where errors become one line and a code."""

from __future__ import annotations

from enum import IntEnum

from engine.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DataError,
    ProxPropError,
    StorageError,
)


class Exit(IntEnum):
    """What a shell script sees."""

    OK = 0
    ERROR = 1
    """A fault of the program itself."""
    USAGE = 2
    """Bad input or configuration."""
    DATA = 3
    CHECKPOINT = 4
    BUSY = 5
    """Another process has the run."""
    STORAGE = 6
    DIVERGED = 7
    """Only with ``--fail-on-divergence``."""
    INTERRUPTED = 130
    TERMINATED = 143


_CODES: dict[type[ProxPropError], Exit] = {
    ConfigError: Exit.USAGE,
    DataError: Exit.DATA,
    CheckpointError: Exit.CHECKPOINT,
    BusyError: Exit.BUSY,
    StorageError: Exit.STORAGE,
}


def exit_code(error: ProxPropError) -> Exit:
    """The code of an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), Exit.ERROR)
