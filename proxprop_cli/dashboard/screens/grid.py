"""The stability grid of a sweep, as it fills."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.color import Color
from rich.style import Style
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static

from engine.atomic_files import replacing, storage_errors
from engine.errors import ConfigError, StorageError
from engine.stability import Stability
from engine.sweep_watch import SweepLook, SweepWatch
from proxprop_cli.dashboard.exports import plain
from proxprop_cli.dashboard.messages import RunsChosen, RunsWanted
from proxprop_cli.dashboard.widgets import stability_cells as cells
from proxprop_cli.dashboard.widgets.stability_grid import StabilityGrid
from proxprop_cli.output import printable

POLL_SECONDS = 0.5
"""Time between two looks at the disk."""

_USER_FILE = 0o666
_SHOWN: dict[cells.Shown, str] = {"loss": "training loss", "accuracy": "validation accuracy"}
_COLUMNS = (
    "row",
    "method",
    "tau",
    "tau_theta",
    "status",
    "seeds",
    "diverged",
    "first_bad_step",
    "cause",
    "epochs",
    "train_loss",
    "val_accuracy",
    "best",
    "stable_width_decades",
)


class GridScreen(Screen[None]):
    """One sweep: title, grid, legend.

    :param root: folder of the runs.
    :param sweep_id: which sweep.
    """

    @dataclass
    class Looked(Message):
        """The sweep was looked at and has changed, or can not be read."""

        look: SweepLook | None
        problem: str = ""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "switch", "Loss/accuracy"),
        Binding("e", "export", "Export CSV"),
        Binding("escape", "back", "Back"),
        Binding("question_mark", "app.show_help", "Help"),
        Binding("f1", "app.show_help", "Help", show=False),
        Binding("q", "app.quit", "Quit"),
        Binding("ctrl+c", "app.quit", "Quit", show=False),
    ]
    DEFAULT_CSS = """
    GridScreen {
        #grid-title { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; }
        StabilityGrid { margin: 1 1 0 1; }
        #grid-legend { height: 1; padding: 0 1; text-wrap: nowrap; }
        &:ansi #grid-title { background: ansi_default; }
    }
    """

    def __init__(self, root: Path, sweep_id: str) -> None:
        super().__init__()
        self._root = root
        self._sweep_id = sweep_id
        self._watch = SweepWatch(root, sweep_id)
        self._look: SweepLook | None = None
        self._problem = ""
        self._looking = False
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Title, grid, legend and keys."""
        yield Static(id="grid-title", markup=False)
        yield StabilityGrid()
        yield Static(id="grid-legend", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, then at intervals."""
        self.query_one(StabilityGrid).focus()
        self._timer = self.set_interval(POLL_SECONDS, self._poll)
        self._poll()
        self._write_lines()

    def on_screen_suspend(self) -> None:
        """What is not seen is not looked at."""
        if self._timer is not None:
            self._timer.pause()

    def on_screen_resume(self) -> None:
        """Go on."""
        if self._timer is not None:
            self._timer.resume()

    def on_resize(self) -> None:
        """The lines are cut to the width."""
        self._write_lines()

    def _poll(self) -> None:
        # a thread can not be stopped: where the disk is slow, the next look waits for the last
        if not self._looking:
            self._looking = True
            self._look_at_disk()

    @work(thread=True, exclusive=True, group="sweep")
    def _look_at_disk(self) -> None:
        try:
            look, problem = self._watch.look(), ""
        except (ConfigError, StorageError) as error:
            # the folder of all runs says nothing here and takes the room of what does
            look, problem = None, str(error).replace(f"{self._root}{os.sep}", "")
        finally:
            self._looking = False
        if look is not None or problem != self._problem:
            self._problem = problem
            self.post_message(self.Looked(look, problem))

    def on_grid_screen_looked(self, message: Looked) -> None:
        """Show what was found; an old grid stays where nothing new can be read."""
        if message.look is not None:
            self._look = message.look
            self.query_one(StabilityGrid).table = message.look.grid
        self._write_lines()

    def on_stability_grid_cell_chosen(self, message: StabilityGrid.CellChosen) -> None:
        """Hand the wish on to the app."""
        message.stop()
        self.post_message(RunsChosen(message.runs))

    def action_switch(self) -> None:
        """Show the other number."""
        grid = self.query_one(StabilityGrid)
        grid.shown = "accuracy" if grid.shown == "loss" else "loss"
        self._write_lines()

    def action_back(self) -> None:
        """Back to where it was opened from, or to the list of runs."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()
        else:
            self.post_message(RunsWanted())

    def action_export(self) -> None:
        """Write the grid to a file in the current folder."""
        if self._look is None:
            self.notify("nothing to export yet", severity="warning", markup=False)
            return
        path = Path(f"{self._sweep_id}-grid.csv")
        try:
            write_csv(path, self._look.grid)
        except StorageError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
        else:
            self.notify(f"wrote {path}", markup=False)

    def _write_lines(self) -> None:
        grid = self.query_one(StabilityGrid)
        room = max(self.size.width - 2, 1)
        colorful = not (self.app.no_color or self.app.native_ansi_color)
        self.query_one("#grid-title", Static).update(
            _title(self._look, self._problem, grid.shown, room)
        )
        self.query_one("#grid-legend", Static).update(_legend(grid, room, colorful=colorful))


def write_csv(path: Path, grid: Stability) -> None:
    """Write one row a cell, methods in order, largest tau first.

    :raises StorageError: the file can not be written; an old one is what it was before.
    """
    with storage_errors(path), replacing(path, mode=_USER_FILE) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in grid.rows:
            for tau in grid.taus:
                cell = grid.cells.get((row.label, tau))
                if cell is None:
                    continue
                writer.writerow(
                    (
                        plain(cell.row),
                        cell.method,
                        repr(float(tau)),
                        cell.tau_theta,
                        " ".join(sorted(set(cell.statuses))),
                        cell.seeds,
                        cell.diverged,
                        cell.first_bad_step,
                        plain(cell.cause),
                        cell.epochs,
                        cell.loss,
                        cell.accuracy,
                        int(tau == row.best_tau),
                        row.width,
                    )
                )


def _title(look: SweepLook | None, problem: str, shown: cells.Shown, room: int) -> Text:
    if look is None:
        text = Text(printable(problem) if problem else "reading the sweep…")
        text.truncate(room, overflow="ellipsis")
        return text
    done = f"{look.grid.done}/{len(look.grid.cells)} cells"
    epochs = look.sweep.epochs
    pieces = [f"{epochs} epoch{'' if epochs == 1 else 's'}", _SHOWN[shown]]
    if problem:
        pieces = [printable(problem)]
    left = Text(printable(look.sweep.preset), style="bold")
    left.append("".join(f" · {piece}" for piece in pieces), style="not bold")
    if room < len(done) + 8:
        left.truncate(room, overflow="ellipsis")
        return left
    left.truncate(room - len(done) - 2, overflow="ellipsis", pad=True)
    return left.append(f"  {done}", style="bold")


def _legend(grid: StabilityGrid, room: int, *, colorful: bool) -> Text:
    """The signs that occur, as many as there is room for."""
    scale = grid.scale
    there = {status for cell in grid.table.cells.values() for status in cell.statuses}
    signs = [f"{cells.DIVERGED} k/n seeds diverged"] if "diverged" in there else []
    ranked = any(row.best_tau is not None for row in grid.table.rows)
    signs += [f"{cells.BEST} best"] if ranked else []
    signs += [f"{glyph} {status}" for status, glyph in cells.GLYPHS.items() if status in there]
    signs += ["width in decades of tau"] if ranked else []
    text = Text()
    if scale is not None:
        low = cells.format_value(scale.low, grid.shown)
        high = cells.format_value(scale.high, grid.shown)
        if len(low) + len(high) + len(cells.LEVELS) + 2 <= room:
            text.append(f"{low} ")
            for i, glyph in enumerate(cells.LEVELS):
                level = i / (len(cells.LEVELS) - 1)
                good = level if grid.shown == "accuracy" else 1 - level
                text.append(glyph, _on(cells.viridis(good)) if colorful else "")
            text.append(f" {high}")
    for sign in signs:
        piece = f"   {sign}" if text else sign
        if text.cell_len + len(piece) > room:
            break
        text.append(piece, style="dim")
    return text


def _on(ground: tuple[int, int, int]) -> Style:
    color = cells.halfway(ground, cells.reads_on(ground))
    return Style(color=Color.from_rgb(*color), bgcolor=Color.from_rgb(*ground))
