"""All runs and sweeps: look for them, select several, open, export, delete."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Static

from engine.errors import ProxPropError
from engine.runs import Runs
from proxprop_cli.dashboard.catalog import Catalog, CatalogEntry
from proxprop_cli.dashboard.list_rows import COLUMNS, SWEEP_COLUMN, list_row
from proxprop_cli.dashboard.messages import RunsChosen, SweepChosen
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.live_exports import file_name
from proxprop_cli.dashboard.widgets.key_line import KeyLine
from proxprop_cli.dashboard.widgets.table import Table
from proxprop_cli.output import printable

_POLL_SECONDS = 1.0
_AGE_SECONDS = 30.0
_NAMED = 4


class RunListScreen(Screen[None]):
    """The list of runs.

    :param runs: the folder.
    :param filtering: begin in the filter.
    """

    DEFAULT_CSS = """
    RunListScreen #title { height: 1; background: $panel; padding: 0 1; text-style: bold; }
    RunListScreen #filter { border: none; height: 1; padding: 0 1; display: none; }
    RunListScreen #filter.shown { display: block; }
    RunListScreen #runs { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "open",
            "Open",
            key_display="enter",
            tooltip="Open the selected runs over one another, or what is under the cursor",
        ),
        Binding("q", "app.quit", "Quit", tooltip="Leave; what is being trained goes on"),
        Binding("ctrl+c", "app.quit", "Quit", show=False),
        Binding("question_mark", "app.show_help", "Help", tooltip="These keys"),
        Binding("f1", "app.show_help", "Help", show=False),
        Binding("slash", "filter", "Filter", tooltip="Look for words: id, name, method, status"),
        Binding("space", "select", "Select", tooltip="Select a run, to do something with several"),
        Binding("t", "unfold", "Cells", tooltip="Show the runs of sweeps too, or not any more"),
        Binding("e", "export", "Export", tooltip="Export all metrics of the chosen runs, as CSV"),
        Binding("d", "delete", "Delete", tooltip="Delete; asks first"),
        Binding("delete", "delete", "Delete", show=False),
        Binding("escape", "back", "Back", tooltip="Leave filter, selection, list, one by one"),
    ]

    class Listed(Message):
        """The folder was looked at."""

        def __init__(self, entries: tuple[CatalogEntry, ...], problem: str = "") -> None:
            super().__init__()
            self.entries = entries
            self.problem = problem

    def __init__(self, runs: Runs, *, filtering: bool = False) -> None:
        super().__init__()
        self._runs = runs
        self._filtering = filtering
        self._entries: tuple[CatalogEntry, ...] = ()
        self._selected: list[str] = []
        self._unfolded = False
        self._left = threading.Event()
        self._seen = True

    def compose(self) -> ComposeResult:
        """Title, filter, list, footer."""
        yield Static(id="title", markup=False)
        yield Input(placeholder="words in id, name, preset, method or status", id="filter")
        yield Table("looking …", id="runs")
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#runs").focus()
        if self._filtering:
            self.action_filter()
        self.set_interval(_AGE_SECONDS, self._draw)
        self.call_after_refresh(self._watch)

    def on_unmount(self) -> None:
        """Look no more."""
        self._left.set()

    def on_screen_suspend(self) -> None:
        """What is not seen is not looked at."""
        self._seen = False

    def on_screen_resume(self) -> None:
        """Seen again."""
        self._seen = True

    @work(thread=True, exclusive=True)
    def _watch(self) -> None:
        catalog = Catalog(self._runs)
        known: tuple[tuple[CatalogEntry, ...], str] | None = None
        while not self._left.wait(_POLL_SECONDS if known is not None else 0):
            if not self._seen and known is not None:
                continue
            try:
                found = (catalog.entries(), "")
            except ProxPropError as error:
                found = ((), str(error))
            if found != known:
                self.post_message(self.Listed(*found))
                known = found

    def on_run_list_screen_listed(self, message: Listed) -> None:
        """Show the runs as they are now."""
        self._entries = message.entries
        ids = {entry.id for entry in self._entries}
        self._selected = [id for id in self._selected if id in ids]
        table = self.query_one("#runs", Table)
        table.empty = message.problem or "no runs yet: 'proxprop train' makes one"
        self._draw()

    def _draw(self) -> None:
        words = self.query_one("#filter", Input).value.lower().split()
        listed = [e for e in self._entries if self._unfolded or not e.sweep]
        shown = [e for e in listed if all(word in e.text for word in words)]
        table = self.query_one("#runs", Table)
        if self._entries and not shown:
            table.empty = "no run matches the filter"
        columns = (*COLUMNS, SWEEP_COLUMN) if self._unfolded else COLUMNS
        rows = [list_row(entry, entry.id in self._selected) for entry in shown]
        table.show(columns, [replace(row, cells=row.cells[: len(columns)]) for row in rows])
        title = f"Runs  {len(shown)}"
        if len(shown) != len(listed):
            title += f" of {len(listed)}"
        folded = len(self._entries) - len(listed)
        if folded:
            title += f"  ·  {folded} of sweeps not shown"
        if self._selected:
            title += f"  ·  {len(self._selected)} selected"
            title += ": enter shows them together" if len(self._selected) > 1 else ""
        self.query_one("#title", Static).update(title)

    def on_input_changed(self) -> None:
        """Filter while typing."""
        self._draw()

    def on_input_submitted(self) -> None:
        """Back to the list with what was found."""
        self.query_one("#runs").focus()

    def _chosen(self) -> tuple[str, ...]:
        """The selected runs that are seen, else the one under the cursor."""
        table = self.query_one("#runs", Table)
        seen = [id for id in self._selected if id in table.keys]
        if seen:
            return tuple(seen)
        return (table.key,) if table.key else ()

    def action_open(self) -> None:
        """Open the selected runs over one another, or what is under the cursor."""
        chosen = self._chosen()
        if chosen and self._is_sweep(chosen[0]):
            self.post_message(SweepChosen(chosen[0]))
        elif chosen:
            self.post_message(RunsChosen(chosen))

    def _is_sweep(self, id: str) -> bool:
        return any(entry.id == id and entry.runs is not None for entry in self._entries)

    def _chosen_runs(self) -> tuple[str, ...]:
        """The same, of runs only: what is done to a sweep is not done from here."""
        chosen = self._chosen()
        if not chosen or not self._is_sweep(chosen[0]):
            return chosen
        text = "a sweep can be opened; 't' shows its runs, which can be selected too"
        self.notify(text, severity="warning", markup=False)
        return ()

    def action_unfold(self) -> None:
        """Show the runs of sweeps too, or not any more."""
        self._unfolded = not self._unfolded
        self._draw()

    def action_select(self) -> None:
        """Select the run under the cursor, or not any more, and go on to the next."""
        table = self.query_one("#runs", Table)
        key = table.key
        if key is None:
            return
        if self._is_sweep(key):
            self._chosen_runs()
            return
        if key in self._selected:
            self._selected.remove(key)
        else:
            self._selected.append(key)
        self._draw()
        table.action_move(1)

    def action_filter(self) -> None:
        """Type words to look for."""
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def action_back(self) -> None:
        """Leave the filter, then the selection, then the screen."""
        field = self.query_one("#filter", Input)
        if field.has_class("shown"):
            field.value = ""
            field.remove_class("shown")
            self.query_one("#runs").focus()
        elif self._selected:
            self._selected.clear()
            self._draw()
        elif len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def action_export(self) -> None:
        """Write all metrics of the chosen runs."""
        if chosen := self._chosen_runs():
            self._export(chosen)

    @work(thread=True)
    def _export(self, chosen: Sequence[str]) -> None:
        from proxprop_cli.dashboard.exports import fresh, write_metrics

        try:
            runs = [self._runs.find(id) for id in chosen]
            path = fresh(Path(f"{file_name(runs)}.csv"))
            rows, problems = write_metrics(path, runs)
        except ProxPropError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
        else:
            self.notify(printable(f"wrote {rows:,} rows to {path}"), markup=False)
            for problem in problems[:_NAMED]:
                self.notify(printable(problem), severity="warning", markup=False)

    def action_delete(self) -> None:
        """Ask, then delete the chosen runs."""
        chosen = self._chosen_runs()
        if not chosen:
            return
        shown = ", ".join(chosen[:_NAMED])
        more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
        which = f"run{'s' if len(chosen) > 1 else ''} {shown}{more}"

        def answered(key: str | None) -> None:
            if key == "d":
                self._delete(chosen)

        question = f"Delete {which} for good, with checkpoints and metrics?"
        self.app.push_screen(Choice(question, [("d", "delete")]), answered)

    @work(thread=True)
    def _delete(self, chosen: Sequence[str]) -> None:
        gone = set()
        for id in chosen:
            try:
                self._runs.delete(self._runs.find(id))
            except ProxPropError as error:
                self.notify(printable(str(error)), severity="error", markup=False)
            else:
                gone.add(id)
                self.notify(f"deleted run {id}", markup=False)
        entries = tuple(entry for entry in self._entries if entry.id not in gone)
        self.post_message(self.Listed(entries))
