"""How many files the program may have open."""

from __future__ import annotations

from contextlib import suppress

_WANTED = 4096
"""Sweeps have pipes to many processes; macOS grants 256 at first, and any number when asked."""


def raise_limit() -> None:
    """Raise the soft limit of this process and its children, as far as the hard limit lets us."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # some systems have yet another limit
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
