"""What autoencoders make of the same few samples, as training goes on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from proxprop_cli.dashboard.album import Album, Shelf, epochs_of, rows_of
from proxprop_cli.dashboard.shorten import first_fitting
from proxprop_cli.dashboard.widgets.key_line import KeyLine
from proxprop_cli.dashboard.widgets.picture_wall import PictureWall
from proxprop_cli.output import printable

if TYPE_CHECKING:
    from engine.run import Run

_POLL_SECONDS = 0.5
_EARLIER = "An earlier epoch of those kept: 0, 1, 2, 4, 8, … and the last one"
_NOTHING = "no reconstructions yet: they are made at every evaluation"


class ReconstructionsScreen(Screen[None]):
    """Inputs above outputs, a row a run.

    :param runs: by what to call them.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Back to the curves"),
        Binding("i,q,ctrl+c,ctrl+q", "back", "Back", show=False),
        Binding("question_mark", "app.show_help", "Help", tooltip="These keys"),
        Binding("f1", "app.show_help", "Help", show=False),
        Binding("b", "epoch(-1)", "Earlier", tooltip=_EARLIER),
        Binding("f", "epoch(1)", "Later", tooltip="A later one"),
        Binding("k,up", "rows(-1)", "Runs above", show=False),
        Binding("j,down", "rows(1)", "Runs below", show=False),
        Binding("h,left", "samples(-1)", "Samples before", show=False),
        Binding("l,right", "samples(1)", "Samples after these", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Larger", show=False),
        Binding("minus", "zoom(-1)", "Smaller", show=False),
        Binding("r", "reset", "Show the newest, as large as fits", show=False),
    ]
    DEFAULT_CSS = """
    ReconstructionsScreen {
        #pictures-title { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; }
        &:ansi #pictures-title { background: ansi_default; }
    }
    """

    class Looked(Message):
        """The stores were looked at and something has changed."""

        def __init__(self, shelves: tuple[Shelf, ...]) -> None:
            super().__init__()
            self.shelves = shelves

        def can_replace(self, message: Message) -> bool:
            """An older one that has not been handled is dropped."""
            return isinstance(message, ReconstructionsScreen.Looked)

    def __init__(self, runs: Mapping[str, Run]) -> None:
        super().__init__()
        self._runs = dict(runs)
        self._shelves: tuple[Shelf, ...] = ()
        self._epoch: float | None = None
        """The one that is looked at; None: always the newest."""
        self._left = threading.Event()

    def compose(self) -> ComposeResult:
        """Title, pictures and keys."""
        yield Static(id="pictures-title", markup=False)
        yield PictureWall(id="pictures")
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#pictures").focus()
        self._watch()

    def on_unmount(self) -> None:
        """Look no more."""
        self._left.set()

    def on_resize(self) -> None:
        """There is other room for title and pictures."""
        self.call_after_refresh(self._tell)

    @work(thread=True, exclusive=True)
    def _watch(self) -> None:
        album = Album(self._runs)
        known: tuple[Shelf, ...] | None = None
        while not self._left.wait(_POLL_SECONDS if known is not None else 0):
            found = album.look()
            if known is None or [*map(id, found)] != [*map(id, known)]:
                self.post_message(self.Looked(found))
            known = found

    def on_reconstructions_screen_looked(self, message: Looked) -> None:
        """Show what there is by now."""
        self._shelves = message.shelves
        self._show()

    def action_back(self) -> None:
        """Back to the curves."""
        self.app.pop_screen()

    def action_epoch(self, by: int) -> None:
        """Look at an earlier or a later epoch; after the last, at the newest again."""
        epochs = epochs_of(self._shelves)
        if not epochs:
            return
        at = len(epochs) - 1 if self._epoch is None else sum(e <= self._epoch for e in epochs) - 1
        to = max(at + by, 0)
        self._epoch = None if to >= len(epochs) - 1 else epochs[to]
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is all in view is not moved."""
        if action not in ("rows", "samples"):
            return True
        wall = self.query_one(PictureWall)
        seen, count = wall.seen_below if action == "rows" else wall.seen
        return seen < count

    def action_rows(self, by: int) -> None:
        """Bring other runs into view."""
        self.query_one(PictureWall).move(by, 0)

    def action_samples(self, by: int) -> None:
        """Bring other samples into view."""
        self.query_one(PictureWall).move(0, by)

    def action_zoom(self, by: int) -> None:
        """Larger or smaller pictures."""
        self.query_one(PictureWall).zoom(by)
        self._tell()

    def action_reset(self) -> None:
        """The newest again, as large as fits."""
        self._epoch = None
        self.query_one(PictureWall).zoom(0)
        self._show()

    def _show(self) -> None:
        problems = [shelf.problem for shelf in self._shelves if shelf.problem]
        rows = rows_of(self._shelves, self._epoch)
        self.query_one(PictureWall).show(rows, problems[0] if problems else _NOTHING)
        self._tell()

    def _tell(self) -> None:
        """Bring title and keys up to date with what is in view."""
        self.refresh_bindings()
        title = self.query_one("#pictures-title", Static)
        text = first_fitting([*map(printable, self._titles())], max(self.size.width - 2, 1))
        title.update(Text(text, style="bold"))

    def _titles(self) -> tuple[str, ...]:
        """What is seen, in less and less room."""
        epochs = epochs_of(self._shelves)
        what = "Reconstructions"
        if not epochs:
            return (what,)
        at = epochs[-1] if self._epoch is None else self._epoch
        wall = self.query_one(PictureWall)
        newest = "" if self._epoch is None else f" of {epochs[-1]:g}"
        epoch = f"epoch {at:g}{newest}"
        samples = _share(*wall.seen, "samples")
        if len(self._runs) == 1:
            run = next(iter(self._runs.values())).id
            parts = [(what, run, samples, epoch), (what, samples, epoch), (samples, epoch)]
        else:
            runs = _share(*wall.seen_below, "runs")
            brief = [text.replace(" of ", "/") for text in (runs, samples)]
            parts = [(what, runs, samples, epoch), (runs, samples, epoch)]
            parts += [(*brief, epoch), (brief[0], epoch)]
        return (*(" · ".join(part) for part in parts), epoch)


def _share(seen: int, count: int, what: str) -> str:
    return f"{seen} of {count} {what}" if seen < count else f"{count} {what}"
