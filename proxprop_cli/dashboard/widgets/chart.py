"""Curves in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from proxprop_cli.dashboard.lines import Line
    from proxprop_cli.dashboard.picture import Picture
    from proxprop_cli.dashboard.tick_labels import Format
    from proxprop_cli.dashboard.view import View

_FARTHEST_SHIFT = 0.9
_PLAIN = ("label", "series", "end", "band")
# In the order of the codes in plot.py, which is not imported before there is something to draw:
# NumPy would delay the first frame.
_COMPONENTS = ("text", "border", "title", "axis", "rule", "grid", "empty")


class Chart(Widget, can_focus=True):
    """Lines with axes, a frame and a legend; see ``show``.

    :ivar log_x: whether the x axis is logarithmic.
    :ivar log_y: whether the y axis is.
    :ivar window: range of x that is shown, in units of the axis; None for all data.
    :ivar y_shift: how far the range of y is moved up, in heights of the plot.
    :ivar empty: what is said while there is nothing to draw.
    """

    DEFAULT_CSS = """
    Chart {
        min-height: 1;
        & > .chart--text { color: $foreground; }
        & > .chart--border { color: $foreground 30%; }
        & > .chart--title { color: $foreground; text-style: bold; }
        & > .chart--axis { color: $foreground 65%; }
        & > .chart--rule { color: $foreground 30%; }
        & > .chart--grid { color: $foreground 18%; }
        & > .chart--empty { color: $foreground 50%; }
        &:focus > .chart--border { color: $primary; }
        &:ansi {
            /* The terminal's own colours cannot be mixed. */
            & > .chart--text, & > .chart--title { color: ansi_default; }
            & > .chart--border, & > .chart--axis, & > .chart--rule, & > .chart--grid,
            & > .chart--empty {
                color: ansi_default; text-style: dim;
            }
        }
        &:ansi:focus > .chart--border { color: $primary; text-style: none; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{name}" for name in _COMPONENTS}

    log_x: reactive[bool] = reactive(False)
    log_y: reactive[bool] = reactive(False)
    window: reactive[tuple[float, float] | None] = reactive(None)
    y_shift: reactive[float] = reactive(0.0)
    empty: reactive[str] = reactive("waiting for the first values")

    def __init__(
        self, *, name: str | None = None, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._texts: tuple[str, str, Format, Format] = ("", "", "count", "number")
        self._shorter: tuple[str, ...] = ()
        self._picture: Picture | None = None
        self._drawn: tuple[object, ...] | None = None
        self._strips: list[Strip] | None = None

    def show(
        self,
        lines: Sequence[Line],
        *,
        title: str,
        shorter: Sequence[str] = (),
        x_label: str,
        x_format: Format = "count",
        y_format: Format = "number",
    ) -> None:
        """Show these lines; what is shown already is not drawn again.

        :param lines: later ones lie on top.
        :param title: in the upper border.
        :param shorter: the same in less and less room.
        :param x_label: what x is.
        :param x_format: how the labels of x are written.
        :param y_format: how those of y are.
        """
        texts = (title, x_label, x_format, y_format)
        same = texts == self._texts and tuple(shorter) == self._shorter
        if same and _same_lines(self._lines, lines):
            return
        self._move_window(lines, new_axis=texts[1:3] != self._texts[1:3])
        self._lines, self._texts, self._shorter = tuple(lines), texts, tuple(shorter)
        self._drawn = None
        self.refresh()

    def _move_window(self, lines: Sequence[Line], *, new_axis: bool) -> None:
        """A window at the newest data follows it; one on another axis, or past all data, goes."""
        if self.window is None:
            return
        from proxprop_cli.dashboard.view import extent

        before, after = extent(self._lines, self.log_x), extent(lines, self.log_x)
        if new_axis or after is None or self.window[0] >= after[1]:
            self.reset()
        elif before is not None and self.window[1] >= before[1]:
            by = max(0.0, after[1] - self.window[1])
            self.window = (self.window[0] + by, self.window[1] + by)

    @property
    def lines(self) -> tuple[Line, ...]:
        """What is shown."""
        return self._lines

    @property
    def title(self) -> str:
        """What it shows."""
        return self._texts[0]

    @property
    def x_label(self) -> str:
        """What x is."""
        return self._texts[1]

    def zoom(self, factor: float) -> None:
        """Show ``1 / factor`` of the range of x.

        The right edge stays if it is at the newest data, else the centre.
        """
        if self._lines:
            from proxprop_cli.dashboard.view import zoomed

            self.window = zoomed(self._lines, self._view(), factor)

    def pan(self, fraction: float) -> None:
        """Move the window by a fraction of its width, to the right where positive."""
        if self._lines:
            from proxprop_cli.dashboard.view import panned

            self.window = panned(self._lines, self._view(), fraction)

    def shift(self, fraction: float) -> None:
        """Move the range of y by a fraction of its height, up where positive."""
        self.y_shift = min(max(self.y_shift + fraction, -_FARTHEST_SHIFT), _FARTHEST_SHIFT)

    def reset(self) -> None:
        """Show all data again."""
        self.window = None
        self.y_shift = 0.0

    def render_line(self, y: int) -> Strip:
        """One row of the chart."""
        size = self.size
        if not self._lines:
            return self._waiting(y, size)
        drawn = (size, self._view())
        if drawn != self._drawn or self._picture is None:
            from proxprop_cli.dashboard.plot import compose

            corner = self._picture.corner if self._picture is not None else None
            self._picture = compose(self._lines, self._view(), size.width, size.height, corner)
            self._drawn, self._strips = drawn, None
        if self._strips is None:
            self._strips = self._inked(self._picture, size)
        return self._strips[y] if 0 <= y < len(self._strips) else Strip.blank(size.width)

    def notify_style_update(self) -> None:
        """Take over the colours of another theme or of the focus."""
        self._strips = None
        super().notify_style_update()

    def _view(self) -> View:
        from proxprop_cli.dashboard.view import View

        # where there is no colour, marks along the lines tell them apart
        bare = self.app.no_color or self.app.native_ansi_color
        view = (*self._texts, self.log_x, self.log_y, self.window, self.y_shift, self.empty)
        return View(*view, marked=bare and len(self._lines) > 1, shorter=self._shorter)

    def _waiting(self, y: int, size: Size) -> Strip:
        """A row of the frame around ``empty``, as plot.py draws it, but without NumPy."""
        from proxprop_cli.dashboard.shorten import first_fitting
        from proxprop_cli.output import printable

        base = self.rich_style
        framed = size.width >= 12 and size.height >= 4
        edge = Segment("│", base + self._style("border"))
        width = size.width - 2 * framed
        if framed and y in (0, size.height - 1):
            left, right = "╭╮" if y == 0 else "╰╯"
            titles = [printable(title) for title in (self._texts[0], *self._shorter)]
            title = f" {first_fitting(titles, width - 4)} " if y == 0 and titles[0] else ""
            head = Strip([Segment(title, base + self._style("title"))]).crop(0, width - 2)
            rest = "─" * (width - 1 - head.cell_length) + right
            return Strip([Segment(left + "─", edge.style), *head, Segment(rest, edge.style)])
        middle = 1 + (size.height - 3) // 2 if framed else (size.height - 1) // 2
        text = Strip([Segment(printable(self.empty) * (y == middle), base + self._style("empty"))])
        text = text.crop(0, width)
        blank = Segment(" " * ((width - text.cell_length) // 2), base)
        inside = Strip([blank, *text]).adjust_cell_length(width, base)
        return Strip([edge, *inside, edge]) if framed else inside

    def _inked(self, picture: Picture, size: Size) -> list[Strip]:
        base = self.rich_style
        inks = [base + self._style(name) for name in _COMPONENTS]
        for line in self._lines:
            color = Style(color=line.color)
            inks += [base + color, base + color + Style(dim=True), base + color + Style(bold=True)]
        return [
            Strip([Segment(text, inks[code]) for text, code in picture.row(row)], size.width)
            for row in range(size.height)
        ]

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"chart--{name}")


def _same_lines(ours: Sequence[Line], theirs: Sequence[Line]) -> bool:
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _same_line(ours: Line, theirs: Line) -> bool:
    if ours is theirs:
        return True
    if any(getattr(ours, name) != getattr(theirs, name) for name in _PLAIN):
        return False
    pairs = [
        (getattr(ours, name), getattr(theirs, name))
        for name in ("x", "low", "high", "mean", "broken", "smooth")
    ]
    return all(_same_values(one, other) for one, other in pairs)


def _same_values(
    ours: npt.NDArray[np.generic] | None, theirs: npt.NDArray[np.generic] | None
) -> bool:
    if ours is theirs:
        return True
    if ours is None or theirs is None:
        return False
    import numpy

    return numpy.array_equal(ours, theirs, equal_nan=True)
