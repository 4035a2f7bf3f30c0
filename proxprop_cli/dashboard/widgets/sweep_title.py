"""The line above a sweep: what it is, how it is, how far."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from engine.sweep_watch import SweepLook
from proxprop_cli.dashboard.sweep_status import SweepStatus
from proxprop_cli.dashboard.widgets.run_header import STATUS
from proxprop_cli.output import duration, printable

_MOST_LEFT = 48
"""What the left side may take before the right one has all."""


def sweep_title(
    look: SweepLook | None,
    status: SweepStatus | None,
    problem: str,
    pieces: Sequence[str],
    room: int,
    *,
    hint: str = "",
) -> Text:
    """The line.

    :param problem: why it can not be read, in the place of the pieces.
    :param pieces: what else there is to say of it.
    :param room: columns.
    :param hint: what to say instead.
    """
    if look is None or status is None:
        text = Text(printable(problem) if problem else "reading the sweep…")
        text.truncate(room, overflow="ellipsis")
        return text
    left = Text(printable(look.sweep.preset), style="bold")
    if hint and not problem:
        left = Text(hint, style="yellow")
        pieces = []
    said = [problem] if problem else pieces
    left.append("".join(f" · {printable(piece)}" for piece in said), style="not bold")
    right = _status(
        status, room - 2 - min(left.cell_len, _MOST_LEFT), cells=look.sweep.kind == "sweep"
    )
    if room < right.cell_len + 8:
        right.truncate(room, overflow="ellipsis")
        return right
    left.truncate(room - right.cell_len - 2, overflow="ellipsis", pad=True)
    return Text.assemble(left, "  ", right)


def _status(status: SweepStatus, room: int, *, cells: bool) -> Text:
    glyph, color = STATUS.get(status.said, ("?", "red"))
    text = Text(f"{glyph} {status.said}", style=f"bold {color}")
    if status.wanted:
        text.append(f" ({status.wanted} …)", style="yellow")
    # what goes first where it is narrow is the last in here; cells are done in the second half of
    # a sweep of several seeds only, so that its runs tell more
    parts = [(1, "{}/{} runs".format(*status.runs))]
    if status.eta is not None:
        parts.append((4, f"ETA {_clock(status.eta)}"))
    if cells and status.cells[1] != status.runs[1]:
        parts.append((2, f"{status.cells[0]}/{status.cells[1]} cells"))
    if status.elapsed is not None:
        parts.append((3, _clock(status.elapsed)))
    while len(parts) > 1 and text.cell_len + sum(2 + len(part) for _, part in parts) > room:
        parts.pop()
    for place, part in sorted(parts, key=lambda found: found[0]):
        text.append(f"  {part}", style="bold" if place != 3 else "not bold")
    return text


def _clock(seconds: int) -> str:
    """``0:05`` and not ``5.0 s``, which would tremble."""
    return duration(seconds) if seconds >= 60 else f"0:{seconds:02d}"
