"""How the live screen looks at its runs: axes, windows, panes."""

from __future__ import annotations

from textual.events import DescendantFocus, Resize
from textual.widget import Widget

from proxprop_cli.dashboard.messages import RunsWanted
from proxprop_cli.dashboard.screens.live_base import LOSSES, PANES
from proxprop_cli.dashboard.screens.live_drawing import Drawing
from proxprop_cli.dashboard.widgets.chart import Chart

_NARROW, _LOW = 76, 20  # below: one column
_WIDE, _HIGH = 100, 32  # from here on: the log too


class ViewKeys(Drawing):
    """What keys change of the view."""

    @property
    def _chart(self) -> Chart:
        return self.focused if isinstance(self.focused, Chart) else self.query_one("#loss", Chart)

    @property
    def _in_step(self) -> tuple[Chart, ...]:
        """Charts that share their x axis move together."""
        chart = self._chart
        if chart.id == "solver":
            return (chart,)
        return tuple(self.query_one(f"#{name}", Chart) for name in ("loss", "accuracy"))

    def _keep_in_step(self) -> None:
        for chart in self._in_step:
            chart.window = self._chart.window

    def action_x_axis(self) -> None:
        """Draw against the next quantity."""
        from proxprop_cli.dashboard.curves import X_AXES

        self.axis = (self.axis + 1) % len(X_AXES)
        for chart in self.query(Chart):
            chart.reset()
        self.ask()
        self.draw()

    def action_log_y(self) -> None:
        """Logarithmic y axis of the chart in use, or not."""
        self._chart.log_y = not self._chart.log_y

    def action_log_x(self) -> None:
        """Logarithmic x axis, or not."""
        wanted = not self._chart.log_x
        for chart in self._in_step:
            chart.log_x = wanted

    def action_smooth(self) -> None:
        """Smooth the loss more, or not at all again."""
        from proxprop_cli.dashboard.curves import SMOOTHING

        self.smoothing = (self.smoothing + 1) % len(SMOOTHING)
        self.draw()

    def action_band(self) -> None:
        """Draw the seeds of a row as one, or each by itself."""
        self.banded = not self.banded
        self.draw()

    def action_metric(self) -> None:
        """Compare runs by the next loss."""
        self.metric = LOSSES[(LOSSES.index(self.metric) + 1) % len(LOSSES)]
        self.ask()
        self.draw()

    def action_zoom(self, factor: float) -> None:
        """Show a part of the x axis."""
        self._chart.zoom(factor)
        self._keep_in_step()

    def action_pan(self, fraction: float) -> None:
        """Move along the x axis."""
        self._chart.pan(fraction)
        self._keep_in_step()

    def action_shift(self, fraction: float) -> None:
        """Move along the y axis."""
        self._chart.shift(fraction)

    def action_reset(self) -> None:
        """Show everything again."""
        for chart in self._in_step:
            chart.reset()

    # Panes

    def on_resize(self, event: Resize) -> None:
        """Choose the panes there is room for."""
        width, height = event.size.width, event.size.height
        narrow = width < _NARROW or height < _LOW
        self.set_class(narrow, "narrow")
        self.set_class(narrow and height < _LOW, "single")
        self.set_class(width >= _WIDE and height >= _HIGH, "wide")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Where there is little room, the pane in use is the one that is seen."""
        self._choose(event.widget)

    def _choose(self, pane: Widget) -> None:
        if pane.id not in PANES:
            return
        if pane.id != "loss":
            for name in PANES:
                self.query_one(f"#{name}").set_class(name == pane.id, "chosen")
        for name in PANES:
            self.query_one(f"#{name}").set_class(name == pane.id, "current")

    def action_pane(self, number: int) -> None:
        """Go to a pane; there already: enlarge it, or not any more."""
        pane = self.query_one(f"#{PANES[number - 1]}")
        if pane.has_focus:
            self.action_enlarge()
            return
        self.remove_class("enlarged")
        self._choose(pane)  # what is hidden can not be focused
        pane.focus()

    def action_next_pane(self, by: int) -> None:
        """Go to the next pane, whether it is seen or not; what is enlarged stays so."""
        focused = self.focused.id if self.focused is not None else None
        at = PANES.index(focused) if focused in PANES else -1 if by > 0 else 0
        pane = self.query_one(f"#{PANES[(at + by) % len(PANES)]}")
        self._choose(pane)  # what is hidden can not be focused
        pane.focus()

    def action_enlarge(self) -> None:
        """Give all the room to the pane in use, or take it back."""
        self.toggle_class("enlarged")

    def action_runs(self) -> None:
        """Back to the list, or from an enlarged pane to all."""
        if self.has_class("enlarged"):
            self.remove_class("enlarged")
        else:
            self.post_message(RunsWanted())

    def action_filter(self) -> None:
        """Look for other runs."""
        self.post_message(RunsWanted(filtering=True))
