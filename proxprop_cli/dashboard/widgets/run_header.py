"""One line: which run, how it is, how far."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.text import Text
from textual.widget import Widget

from engine.run import WAITING_FOR_ROOM
from proxprop_cli.dashboard.views import RunView
from proxprop_cli.output import duration, printable

STATUS = {
    "starting": ("○", "yellow"),
    "running": ("●", "green"),
    WAITING_FOR_ROOM: ("◐", "yellow"),
    "paused": ("‖", "yellow"),
    "finished": ("✔", "green"),
    "stopped": ("■", "yellow"),
    "failed": ("!", "red"),
    "interrupted": ("!", "red"),
    "diverged": ("✖", "red"),
    "unreadable": ("?", "red"),
    "deleted": ("?", "red"),
}
"""Glyph and colour of every word for how a run or a sweep is; it always stands beside them."""
_BARS = (10, 5, 0)
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class RunHeader(Widget):
    """The header of the live screen."""

    DEFAULT_CSS = "RunHeader { height: 1; width: 1fr; background: $panel; padding: 0 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._views: tuple[RunView, ...] = ()
        self.caption: Callable[[int], Text] | None = None
        """Makes the line for a width, in the place of what the runs say."""

    def show(self, views: tuple[RunView, ...]) -> None:
        """Show other runs."""
        if views != self._views:
            self._views = views
            self.refresh()

    def render(self) -> Text:
        """Title at the left; status and progress at the right, where they always stay whole."""
        width = self.size.width
        if self.caption is not None:
            return self.caption(width)
        left, right = self._parts(width)
        room = width - right.cell_len - 1
        if room < 8:
            right.truncate(width)
            return right
        left.truncate(room, overflow="ellipsis", pad=True)
        return Text.assemble(left, " ", right, no_wrap=True)

    def _parts(self, width: int) -> tuple[Text, Text]:
        if not self._views:
            return Text("proxprop", style="bold"), Text("no run")
        if len(self._views) > 1:
            words = [view.word for view in self._views]
            live, waiting = words.count("running"), words.count(WAITING_FOR_ROOM)
            title = Text(f"{len(self._views)} runs", style="bold")
            said = Text(f"{live} running", style="green" if live else "dim")
            if waiting:
                said.append(f", {waiting} {WAITING_FOR_ROOM}", style="yellow")
            return title, said
        left, right = Text(), Text()
        for left, right in _one(self._views[0]):
            if left.cell_len + 1 + right.cell_len <= width:
                break
        return left, right


def _one(view: RunView) -> Iterator[tuple[Text, Text]]:
    """Both sides in less and less room: what matters least goes first."""
    titles = [Text(printable(title), style="bold") for title in view.titles]
    for title in titles:
        yield title, _progress(view, _BARS[0])
    for bar in _BARS[1:]:
        yield titles[-1], _progress(view, bar)
    yield titles[-1], _progress(view, 0, brief=True)
    yield titles[-1], _progress(view, 0, brief=True, left=False)


def _progress(view: RunView, bar: int, *, brief: bool = False, left: bool = True) -> Text:
    """Status and progress.

    :param bar: columns of the bar; 0: none.
    :param brief: without the word ``epoch``.
    :param left: whether to say how long it still takes.
    """
    text = status_text(view)
    epochs = view.config.get("epochs") or 0
    done = f"{view.epoch:.1f}" if view.epoch % 1 else f"{view.epoch:.0f}"
    if view.problem:
        return text
    text.append(f"  {done}/{epochs}" if brief else f"  epoch {done}/{epochs}")
    fraction = min(view.epoch / epochs, 1.0) if epochs else 0.0
    if view.is_live:
        if bar:
            text.append(f"  ▕{_bar(fraction, bar)}▏ {100 * fraction:.0f} %")
        else:
            text.append(f"  {100 * fraction:.0f} %")
        if view.eta is not None and left:
            text.append(f"  ETA {duration(view.eta)}", style="bold")
    return text


def status_text(view: RunView) -> Text:
    """Glyph and word in their colour; what was asked for and is not done yet after them."""
    glyph, color = STATUS.get(view.word, ("?", "red"))
    text = Text(f"{glyph} {view.word}", style=f"bold {color}")
    if view.wanted:
        text.append(f" ({view.wanted} …)", style="yellow")
    return text


def _bar(fraction: float, width: int) -> str:
    eighths = round(8 * width * fraction)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
