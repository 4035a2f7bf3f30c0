"""The export of the live screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from engine.errors import ProxPropError
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.live_base import RunsScreen
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.output import printable

if TYPE_CHECKING:
    from engine.run import Run
    from proxprop_cli.dashboard.exports import Shown

_ANSWERS = (
    ("v", "the curves in view, as CSV"),
    ("a", "all metrics, as CSV"),
    ("s", "this screen, as SVG"),
)


_NAMED = 3
Writer = Callable[[Path], str]
"""Writes a file; says what is in it."""


class LiveExports(RunsScreen):
    """Asks what to export and writes it into the working folder."""

    def action_export(self) -> None:
        """Ask what to write."""

        def answered(key: str | None) -> None:
            if key is not None:
                self._export(key)

        self.app.push_screen(Choice("Export", _ANSWERS), answered)

    def _export(self, key: str) -> None:
        name = file_name(self.runs)
        if key == "s":
            self._report(lambda path: self._picture(path), Path(f"{name}.svg"))
        elif key == "v":
            from proxprop_cli.dashboard.exports import Shown

            charts = [
                Shown(chart.title, chart.x_label, chart.window, chart.lines)
                for chart in self.query(Chart)
                if chart.region.area
            ]
            self._write_view(Path(f"{name}-view.csv"), charts)
        else:
            self._write_metrics(Path(f"{name}.csv"))

    def _picture(self, path: Path) -> str:
        from engine.export import writing

        self.app.clear_notifications()
        with writing(path) as stream:
            stream.write(self.app.export_screenshot())
        return "a picture"

    @work(thread=True)
    def _write_view(self, path: Path, charts: Sequence[Shown]) -> None:
        from proxprop_cli.dashboard.exports import write_curves

        self._report(lambda to: f"{write_curves(to, charts):,} points", path)

    @work(thread=True)
    def _write_metrics(self, path: Path) -> None:
        from proxprop_cli.dashboard.exports import write_metrics

        def write(to: Path) -> str:
            rows, problems = write_metrics(to, self.runs)
            for problem in problems[:_NAMED]:
                self.notify(printable(problem), severity="warning", markup=False)
            return f"{rows:,} rows"

        self._report(write, path)

    def _report(self, write: Writer, wished: Path) -> None:
        from proxprop_cli.dashboard.exports import fresh

        path = fresh(wished)
        try:
            text = f"wrote {write(path)} to {path}"
        except ProxPropError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
        else:
            self.notify(printable(text), markup=False)


def file_name(runs: Sequence[Run]) -> str:
    """Ids of the runs, or of the first ones and how many more there are."""
    name = "-".join(run.id for run in runs[:_NAMED])
    return name if len(runs) <= _NAMED else f"{name}-and-{len(runs) - _NAMED}-more"
