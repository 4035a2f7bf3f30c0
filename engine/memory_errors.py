"""What the libraries say, each in its own way, where there is no memory left."""

from __future__ import annotations

import errno
import re

_IN_WORDS = re.compile(r"out of memory|(can't|cannot|unable to) allocate|not enough memory", re.I)
_AMOUNT = re.compile(r"allocate (\d[\d.]* ?\w*)")


def out_of_memory(error: BaseException) -> str | None:
    """One line on an error that means there is no memory left; None where it means another thing.

    Python and NumPy raise a ``MemoryError``, torch a ``RuntimeError`` with a word of its allocator
    in it, the operating system an ``OSError``.
    """
    text = str(error)
    if not (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and _IN_WORDS.search(text))
    ):
        return None
    amount = _AMOUNT.search(text)
    wanted = f" for {amount[1]}" if amount else ""
    return (
        f"out of memory: there is no room{wanted}; choose a smaller batch_size, network or data set"
    )


def describe_failure(error: BaseException) -> str:
    """One line on what ended a training that no error of ours explains."""
    return out_of_memory(error) or f"{type(error).__name__}: {error}"
