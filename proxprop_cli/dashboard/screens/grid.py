"""The stability grid of a sweep, as it fills."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.color import Color
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from engine.errors import StorageError
from engine.export import writing
from engine.numbers import format_number
from engine.stability import Stability
from engine.sweep_export import export_sweep
from engine.sweep_watch import SweepLook
from proxprop_cli.dashboard.exports import fresh
from proxprop_cli.dashboard.messages import RunsChosen, RunsWanted
from proxprop_cli.dashboard.places import cell_places
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.sweep_base import SweepScreen
from proxprop_cli.dashboard.widgets import stability_cells as cells
from proxprop_cli.dashboard.widgets.key_line import KeyLine
from proxprop_cli.dashboard.widgets.stability_grid import StabilityGrid
from proxprop_cli.dashboard.widgets.sweep_title import sweep_title
from proxprop_cli.output import printable

_SHOWN: dict[cells.Shown, str] = {
    "loss": "training loss",
    "accuracy": "validation accuracy",
    "val_loss": "validation loss",
}
_EXPORTS = (
    ("v", "the grid, as CSV"),
    ("a", "every run and what it came to, as CSV"),
    ("s", "this screen, as SVG"),
)
_LEGEND_HEIGHTS = (20, 24)
"""Lines of the screen from which on the legend may have one more."""


class GridScreen(SweepScreen):
    """One sweep: title, grid, legend.

    :param root: folder of the runs.
    :param sweep_id: which sweep.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Back, or to the list of runs"),
        Binding("m", "switch", "Metric", tooltip="Training loss, or what validation came to"),
        Binding("e", "export", "Export", tooltip="Export: the grid, its runs or the screen"),
    ]
    DEFAULT_CSS = """
    GridScreen {
        #grid-title { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; }
        StabilityGrid { margin: 1 1 0 1; }
        #grid-hint, #grid-legend { height: 1; padding: 0 1; text-wrap: nowrap; }
        #grid-legend { height: auto; min-height: 1; max-height: 3; }
        #grid-hint { display: none; color: $text-warning; }
        #grid-hint.shown { display: block; }
        &:ansi #grid-title { background: ansi_default; }
        &:ansi #grid-hint { color: ansi_yellow; }
    }
    """

    def __init__(self, root: Path, sweep_id: str) -> None:
        super().__init__()
        self.follow_sweep(root, sweep_id)

    def compose(self) -> ComposeResult:
        """Title, grid, legend and keys."""
        yield Static(id="grid-title", markup=False)
        yield StabilityGrid()
        yield Static(id="grid-hint", markup=False)
        yield Static(id="grid-legend", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin with what is known: nothing."""
        self.query_one(StabilityGrid).focus()
        self._write_lines()

    def on_resize(self) -> None:
        """The lines are cut to the width."""
        self._write_lines()

    def show_sweep(self, look: SweepLook | None) -> None:
        """Draw the cells anew where they have changed."""
        if look is not None:
            self.query_one(StabilityGrid).table = look.grid
        self._write_lines()

    def on_stability_grid_cell_chosen(self, message: StabilityGrid.CellChosen) -> None:
        """Hand the wish on to the app."""
        message.stop()
        if not message.runs:
            self.notify("no run of this cell was made yet", markup=False)
            return
        sweep = self.look.sweep if self.look is not None else None
        self.post_message(RunsChosen(message.runs, cell_places(sweep, message.runs)))

    def action_switch(self) -> None:
        """Show the other number."""
        grid = self.query_one(StabilityGrid)
        grid.shown = cells.other_than(grid.shown, grid.table.cells.values())
        self._write_lines()

    def action_back(self) -> None:
        """Back to where it was opened from, or to the list of runs."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()
        else:
            self.post_message(RunsWanted())

    def action_export(self) -> None:
        """Ask what to write into the working folder."""
        if self.look is None:
            self.notify("nothing to export yet", severity="warning", markup=False)
            return

        def answered(key: str | None) -> None:
            if key is not None:
                self._export(key)

        self.app.push_screen(Choice("Export", _EXPORTS), answered)

    def _export(self, key: str) -> None:
        assert self.look is not None
        look = self.look
        try:
            if key == "s":
                path = fresh(Path(f"{self.sweep_id}.svg"))
                self.app.clear_notifications()
                with writing(path) as stream:
                    stream.write(self.app.export_screenshot())
                what = "a picture"
            else:
                as_grid = key == "v"
                path = fresh(Path(f"{self.sweep_id}{'-grid' if as_grid else ''}.csv"))
                rows = export_sweep(look.sweep, look.states, path, grid=as_grid)
                what = f"{rows:,} rows"
        except StorageError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
        else:
            self.notify(printable(f"wrote {what} to {path}"), markup=False)

    def _write_lines(self) -> None:
        grid = self.query_one(StabilityGrid)
        room = max(self.size.width - 2, 1)
        pieces = [_SHOWN[grid.shown]]
        if self.look is not None:
            pieces.insert(0, self.look.grid.length)
        title = sweep_title(self.look, self.status, self.problem, pieces, room)
        self.query_one("#grid-title", Static).update(title)
        hint = self.query_one("#grid-hint", Static)
        hint.set_class(bool(self.hint()), "shown")
        hint.update(self.hint())
        lines = 1 + sum(self.size.height >= height for height in _LEGEND_HEIGHTS)
        legend = _legend(grid, room, lines, colorful=grid.colorful)
        self.query_one("#grid-legend", Static).update(legend)


def _legend(grid: StabilityGrid, room: int, lines: int, *, colorful: bool) -> Text:
    """The colours, the signs that occur, and what the numbers are: as much as there is room for."""
    text = Text()
    scale = grid.scale
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
    used, written = text.cell_len, 1
    for piece in _explained(grid.table):
        gap = 3 if used else 0
        if used + gap + len(piece) > room and written < lines and used:
            text.append("\n")
            used, gap, written = 0, 0, written + 1
        if used + gap + len(piece) > room:
            break
        text.append(" " * gap + piece, style="dim")
        used += gap + len(piece)
    return text


def _explained(table: Stability) -> list[str]:
    """What the legend says, the most important first."""
    there = {word for cell in table.cells.values() for word in cell.words}
    said = [f"{cells.DIVERGED} k/n diverged"] if "diverged" in there else []
    ranked = any(row.best_tau is not None for row in table.rows)
    said += [f"{cells.BEST} best{'' if table.complete else ' so far'}"] if ranked else []
    said += [f"{glyph} {status}" for status, glyph in cells.GLYPHS.items() if status in there]
    seeds = max((cell.seeds for cell in table.cells.values()), default=1)
    said += [f"median of {seeds} seeds"] if seeds > 1 else []
    if ranked:
        stable = " of tau" if table.level is None else f" at loss ≤ {format_number(table.level)}"
        said.append(f"width: decades{stable}{'' if table.complete else ' so far'}")
    return said


def _on(ground: tuple[int, int, int]) -> Style:
    color = cells.halfway(ground, cells.reads_on(ground))
    return Style(color=Color.from_rgb(*color), bgcolor=Color.from_rgb(*ground))
