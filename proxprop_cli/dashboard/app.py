"""The Textual app: screens over a folder of runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from engine.errors import ProxPropError
from engine.runs import Runs
from proxprop_cli.dashboard.messages import DiagnosisWanted, RunsChosen, RunsWanted, SweepChosen
from proxprop_cli.dashboard.palette import (
    FEW_COLORS,
    LIGHT_TERMINAL,
    OF_TERMINAL,
    ON_LIGHT,
    SeriesColors,
)
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.views import Member, Place
from proxprop_cli.output import printable

_ON_LIGHT = SeriesColors(ON_LIGHT)
_OF_TERMINAL = SeriesColors(OF_TERMINAL)


class Dashboard(App[None]):
    """Shows runs.

    :param runs: the folder.
    :param shown: ids of the runs to begin with; none: the list.
    :param sweep: id of a sweep to begin with instead.
    :param data_dir: folder of data sets, for what is measured from here; None: the default one.
    """

    # Textual's own would leave without a question, whatever a screen has this key for
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", "Quit", show=False)]
    TITLE = "proxprop"

    def __init__(
        self,
        runs: Runs,
        shown: Sequence[str] = (),
        *,
        sweep: str | None = None,
        data_dir: Path | None = None,
    ) -> None:
        # without this Textual shows NO_COLOR as shades of grey
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.ansi_theme_light = LIGHT_TERMINAL
        self._runs = runs
        self._shown = tuple(shown)
        self._sweep = sweep
        self._data_dir = data_dir

    def on_mount(self) -> None:
        """Open the first screen; restore the terminal when told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self._end, 128 + number)
            except (NotImplementedError, RuntimeError, ValueError):
                break  # not the main thread, as in tests
        if self._sweep is not None:
            self._open_sweep(self._sweep)
        elif self._shown:
            self._open(self._shown)
        else:
            self.action_show_runs()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the keys of the screen do, by name, and the theme."""
        listed = set()
        for binding in screen.active_bindings.values():
            action, name = binding.binding.action, binding.binding.description
            if binding.node is screen and binding.enabled and name and action not in listed:
                listed.add(action)
                help = binding.tooltip if binding.tooltip != name else ""
                yield SystemCommand(name, help, partial(screen.run_action, action))
        yield SystemCommand("Theme", "Other colours", self.action_change_theme)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Those of Textual, and one for the colours of series on this ground."""
        filters = super().get_line_filters()
        if self.native_ansi_color or self.console.color_system in FEW_COLORS:
            # last: what the terminal has is not to be turned into anything else
            return [*filters, _OF_TERMINAL]
        # first: a colour that was dimmed is not known any more
        return filters if self.current_theme.dark else [_ON_LIGHT, *filters]

    def _end(self, code: int) -> None:
        self.exit(return_code=code)

    def on_runs_chosen(self, message: RunsChosen) -> None:
        """Open what was chosen."""
        self._open(message.runs, message.places)

    def on_sweep_chosen(self, message: SweepChosen) -> None:
        """Open what was chosen."""
        self._open_sweep(message.sweep)

    def _open_sweep(self, id: str) -> None:
        from engine.sweeps import load_sweep
        from proxprop_cli.dashboard.screens.grid import GridScreen

        try:
            compares = load_sweep(self._runs.root, id).kind == "comparison"
        except ProxPropError:
            compares = False  # the grid tells what is wrong, and whether it stays so
        if compares:
            from proxprop_cli.dashboard.screens.comparison import ComparisonScreen

            self.push_screen(ComparisonScreen(self._runs.root, id))
        else:
            self.push_screen(GridScreen(self._runs.root, id))

    def _open(self, ids: Sequence[str], places: Mapping[str, Place] | None = None) -> None:
        known = places or {}
        try:
            members = [Member(self._runs.find(id), known.get(id)) for id in ids]
        except ProxPropError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
            return
        self.push_screen(LiveScreen(members))

    def on_diagnosis_wanted(self, message: DiagnosisWanted) -> None:
        """Show what was measured, or measure it."""
        from proxprop_cli.dashboard.screens.diagnosis import DiagnosisScreen

        self.push_screen(DiagnosisScreen(message.run, self._data_dir))

    def on_runs_wanted(self, message: RunsWanted) -> None:
        """Open the list."""
        self.action_show_runs(message.filtering)

    def action_show_runs(self, filtering: bool = False) -> None:
        """The list of runs, which is below the runs that were opened from it."""
        from proxprop_cli.dashboard.screens.run_list import RunListScreen

        if isinstance(self.screen, RunListScreen):
            return
        below = self.screen_stack[-2] if len(self.screen_stack) > 1 else None
        if isinstance(below, RunListScreen):
            self.pop_screen()
            if filtering:
                below.action_filter()
            return
        if len(self.screen_stack) > 2 and not filtering:
            self.pop_screen()  # to the grid that the runs were opened from
            return
        screen = RunListScreen(self._runs, filtering=filtering)
        if len(self.screen_stack) > 1:
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def action_show_help(self) -> None:
        """What the keys do."""
        from proxprop_cli.dashboard.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))
