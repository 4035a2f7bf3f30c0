"""The resident set of this process, now and at its peak."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def reset_peak_resident() -> int:
    """Let the peak start anew where the system can (Linux); gives the resident bytes to compare
    :func:`peak_resident_bytes` with."""
    try:
        _RESET.write_text("5")
    except OSError:
        return peak_resident_bytes()
    return _field("VmRSS")


def peak_resident_bytes() -> int:
    """Largest resident set so far, in bytes."""
    if _STATUS.exists():
        return _field("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _field(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in {_STATUS}")
