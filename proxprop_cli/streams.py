"""Standard output and standard error whose writes end nothing.

A terminal is closed, whoever reads a pipe leaves, the disk under a log is full, a stream is missing
from the start: what can not be written then is dropped, and what trains goes on. Whether something
was dropped can be asked for.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LAST = 2
"""Number of standard error, above which files of the program may be."""


class _Descriptor(io.FileIO):
    """A file descriptor that takes everything.

    :ivar failure: why something was dropped first.
    :ivar is_told: whether :func:`take_notes` has told of it.
    """

    failure: OSError | None = None
    is_told: bool = False

    def write(self, content: ReadableBuffer) -> int:
        """Write, or drop what can not be written."""
        try:
            while True:
                written = cast("int | None", super().write(content))
                if written is not None:
                    return written
                select.select((), (self.fileno(),), ())  # somebody made it a file that never waits
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(content).nbytes


def open_stream(descriptor: int, encoding: str = "utf-8", *, by_line: bool = True) -> TextIO:
    """A text stream that takes everything.

    :param by_line: write a line when it is complete.
    """
    raw = _Descriptor(descriptor, "w", closefd=False)
    # a terminal that has no letter for a part of a name still shows the rest
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line
    )


def install() -> None:
    """Put such streams in the place of this process's own."""
    # a missing one would be a file that is opened later, and libraries would print into that; to
    # what is open for reading nothing can be written either
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _LAST:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if before is None or type(before) is io.TextIOWrapper:  # else it is another program's
            encoding = "utf-8" if before is None else before.encoding
            by_line = name == "stderr" or os.isatty(number)
            setattr(sys, name, open_stream(number, encoding, by_line=by_line))


def output_failure() -> OSError | None:
    """Why something of standard output was dropped; None: nothing was of what was flushed."""
    found = _descriptor_of(sys.stdout)
    return None if found is None else found.failure


def take_notes() -> list[str]:
    """A line on each stream that has begun to drop something since the last call."""
    notes = []
    for name, stream in (("standard output", sys.stdout), ("standard error", sys.stderr)):
        found = _descriptor_of(stream)
        if found is not None and found.failure is not None and not found.is_told:
            found.is_told = True
            notes.append(f"{name}: {found.failure.strerror}; what can not be printed is dropped")
    return notes


def _descriptor_of(stream: TextIO) -> _Descriptor | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Descriptor) else None
