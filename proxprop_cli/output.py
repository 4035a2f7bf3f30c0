"""The only writer to standard output and standard error.

Results go to standard output; everything said beside them goes to standard error. With ``--json``
standard output gets exactly one JSON document.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Output:
    """How one command talks.

    :param as_json: one document on standard output, all else on standard error.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def line(self, text: str = "") -> None:
        """A line of the result; with ``--json`` on standard error."""
        _write(sys.stderr if self.as_json else sys.stdout, text)

    def note(self, text: str) -> None:
        """A line beside the result."""
        _write(sys.stderr, text)

    def document(self, content: Mapping[str, Any]) -> None:
        """The JSON document; NaN and infinities become null. Nothing without ``--json``."""
        if self.as_json:
            _write(sys.stdout, json.dumps(finite(content), ensure_ascii=True))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        least: Sequence[str] = (),
    ) -> None:
        """Aligned columns: a light table in a terminal, plain text elsewhere.

        :param least: columns that go where a terminal is too narrow for all, the first one first;
            one in which nothing stands goes before them.
        """
        if self.as_json:
            return
        in_terminal = sys.stdout.isatty()
        target = console(stderr=False, width=None if in_terminal else 200)
        empty = [name for at, name in enumerate(columns) if not any(row[at] for row in rows)]
        left_out: list[str] = []
        for name in (*(name for name in least if name in empty), *least, None):
            shown = [at for at, column in enumerate(columns) if column not in left_out]
            table = _table(
                [columns[at] for at in shown], [[row[at] for at in shown] for row in rows]
            )
            wide = target.options.update(max_width=_WIDEST)
            if not in_terminal or target.measure(table, options=wide).maximum <= target.width:
                break
            if name is not None and name not in left_out:
                left_out.append(name)
        target.print(table)

    def terminal(self) -> bool:
        """Whether a person watches both streams, in a terminal that can move its cursor."""
        watched = sys.stdout.isatty() and sys.stderr.isatty()
        return watched and os.environ.get("TERM") != "dumb"

    @staticmethod
    def has_keyboard() -> bool:
        """Whether standard input is a terminal whose keys are for this process.

        Elsewhere it may be the list that a shell's loop reads from, whose letters would be taken
        for keys; and a job in the background would be stopped for asking.
        """
        if sys.stdin is None or not sys.stdin.isatty():
            return False
        try:
            return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except OSError:
            return True  # a terminal that controls no jobs

    def draws(self) -> bool:
        """Whether the dashboard can be shown there, in UTF-8, and keys reach it and nobody else."""
        return self.terminal() and self.has_keyboard() and not self.as_json and is_utf8()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        numeric = column not in _TEXT_COLUMNS
        table.add_column(
            column,
            justify="right" if numeric else "left",
            overflow="fold",
            max_width=_WIDEST_NAME if column == "name" and sys.stdout.isatty() else None,
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


UTF8_REMEDY = "set LANG to a UTF-8 locale, such as C.UTF-8: the charts are drawn in Braille"
_WIDEST_NAME = 32
"""Of a run, which may have any: it is folded rather than that other columns go."""
_WIDEST = 10_000
"""Columns of a table, however long its texts."""
_TEXT_COLUMNS = (
    "id",
    "name",
    "status",
    "preset",
    "method",
    "model",
    "description",
    "key",
    "value",
    "inputs",
    "grid",
    "sweep",
    "variant",
    "block",
    "layer",
    "pixels",
)


def encoding() -> str:
    """What standard output is written in."""
    return (sys.stdout.encoding or "unknown").lower()


def is_utf8() -> bool:
    """Whether that is UTF-8, by any of its names."""
    return encoding().replace("-", "").replace("_", "") == "utf8"


def console(*, stderr: bool, width: int | None = None) -> Console:
    """A Rich console that adds no markup and no highlighting of its own."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def printable(text: str) -> str:
    """The text with control and format characters (Unicode Cc, Cf and line separators) escaped.

    A run's name may hold anything; nothing of it must reach a terminal as a command.
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else character
        for character in text
    )


def finite(value: Any) -> Any:
    """The value with None in place of every NaN and infinity, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: significant digits, ``-`` where there is none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def score(metrics: Mapping[str, Any], part: str, digits: int = 4) -> str:
    """What a part of the data (``val``, ``test``) was evaluated to: the accuracy, or where there
    are no classes the loss.

    :param digits: of a loss.
    """
    accuracy = metrics.get(f"{part}_accuracy")
    return number(metrics.get(f"{part}_loss"), digits) if accuracy is None else percent(accuracy)


def duration(seconds: float | None) -> str:
    """Seconds as ``35 ms``, ``12.3 s``, ``3:05`` or ``1:02:03``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if 0 < seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def moment(seconds: float | None) -> str:
    """Seconds since 1970 as local time in ISO 8601, with its distance from UTC."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _write(stream: Any, text: str) -> None:
    stream.write(printable(text) + "\n")
    stream.flush()
