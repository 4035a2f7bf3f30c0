"""How a sweep comes along, where no dashboard is open: a table that fills, or lines."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from engine.errors import ProxPropError
from engine.numbers import format_number, short_number
from engine.stability import Stability
from engine.sweep_runner import CellBegan, CellEnded, CellFailed, CellWaits, SweepEvent
from engine.sweep_watch import SweepWatch
from engine.sweeps import Sweep
from proxprop_cli.output import Output, console
from proxprop_cli.sweep_tables import grid_columns, grid_rows

if TYPE_CHECKING:
    from rich.console import RenderableType

_TABLES_A_SECOND = 2


class SweepProgress:
    """Tells what happens to the runs of a sweep; to be used by ``with``.

    :param watch: gives the table in a terminal.
    """

    def __init__(self, sweep: Sweep, watch: SweepWatch, output: Output) -> None:
        self._sweep = sweep
        self._watch = watch
        self._output = output
        self._terminal = output.terminal() and not output.as_json
        self._over = 0
        self._kept = 0
        self._grid: Stability | None = None
        self._looking = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._terminal:
            from rich.live import Live

            self._stack.enter_context(
                Live(
                    get_renderable=self._table,
                    console=console(stderr=True),
                    refresh_per_second=_TABLES_A_SECOND,
                    transient=True,
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, event: SweepEvent) -> None:
        """Tell an event."""
        if isinstance(event, CellFailed | CellWaits):
            self._output.note(f"run {event.cell.run}: {event.text}")
        if isinstance(event, CellEnded):
            self._over += event.state.ended  # one that was stopped is still to come
            self._kept += event.kept
        if self._terminal or isinstance(event, CellFailed | CellWaits):
            return
        cell = event.cell
        name = f"{cell.label} tau {short_number(cell.tau)} seed {cell.seed}"
        if isinstance(event, CellBegan):
            if event.resumed:
                self._output.line(f"going on with {name}")
            return
        state = event.state
        if state.status == "diverged":
            where = "" if state.first_bad_step is None else f" at step {state.first_bad_step:,}"
            what = f"diverged{where}"
        else:
            loss = "-" if state.train_loss is None else format_number(state.train_loss)
            what = f"loss {loss}" if state.status == "finished" else f"{state.status}, loss {loss}"
        kept = " (kept)" if event.kept else ""
        self._output.line(f"{self._over:>4}/{len(self._sweep.cells)}  {name}: {what}{kept}")

    def _table(self) -> RenderableType:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        with self._looking:
            try:
                look = self._watch.look()
            except ProxPropError:
                look = None
            if look is not None:
                self._grid = look.grid
            grid = self._grid
        head = Text(f"{self._sweep.preset}: {self._over}/{len(self._sweep.cells)} runs", "bold")
        if grid is None:
            return head
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(grid_columns(grid)):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in grid_rows(grid):
            table.add_row(*map(Text, row))
        return Group(head, table)
