"""One run, or several over one another: curves, layers, solver, log; and control over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus, Resize
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from engine.control import Desired
from engine.run import Run
from proxprop_cli.dashboard.messages import RunsWanted
from proxprop_cli.dashboard.panels import (
    LAYER_COLUMNS,
    RUN_COLUMNS,
    layer_rows,
    layers_caption,
    run_rows,
)
from proxprop_cli.dashboard.poller import Poller
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.live_exports import LiveExports
from proxprop_cli.dashboard.views import RunView
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.log_pane import LogPane
from proxprop_cli.dashboard.widgets.run_header import RunHeader
from proxprop_cli.dashboard.widgets.table import Table

if TYPE_CHECKING:
    from proxprop_cli.dashboard.lines import Line
    from proxprop_cli.dashboard.tick_labels import Format

_PANES = ("loss", "accuracy", "layers", "solver", "log")
_LOSSES = ("train_loss", "val_loss", "batch_loss")
_NARROW, _LOW = 76, 20  # below: one column
_WIDE, _HIGH = 100, 32  # from here on: the log too


class LiveScreen(LiveExports, Screen[None]):
    """Shows runs, wherever they are trained."""

    CSS_PATH = "live.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause"),
        Binding("s", "stop", "Stop"),
        Binding("x", "x_axis", "Axis"),
        Binding("y", "log_y", "Log"),
        Binding("X", "log_x", "Log x", key_display="X", show=False),
        Binding("m", "smooth", "Smooth"),
        Binding("v", "metric", "Which loss", show=False),
        Binding("plus,equals_sign", "zoom(2.0)", "Zoom in", show=False),
        Binding("minus", "zoom(0.5)", "Zoom out", show=False),
        Binding("h,left", "pan(-0.2)", "Pan left", show=False),
        Binding("l,right", "pan(0.2)", "Pan right", show=False),
        Binding("j,down", "shift(-0.1)", "Pan down", show=False),
        Binding("k,up", "shift(0.1)", "Pan up", show=False),
        Binding("r", "reset", "Reset view", show=False),
        *(Binding(str(n), f"pane({n})", f"Pane {n}", show=False) for n in range(1, 6)),
        Binding("enter", "enlarge", "Enlarge pane", show=False),
        Binding("e", "export", "Export"),
        Binding("slash", "filter", "Filter runs", show=False),
        Binding("escape", "runs", "Runs"),
        Binding("question_mark", "app.show_help", "Help"),
        Binding("f1", "app.show_help", "Help", show=False),
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c", "leave", "Quit", show=False),
    ]

    class ViewsChanged(Message):
        """At least one of the runs has changed; only the newest of these matters."""

        def __init__(self, views: tuple[RunView, ...]) -> None:
            super().__init__()
            self.views = views

        def can_replace(self, message: Message) -> bool:
            """An older one that has not been handled is dropped."""
            return isinstance(message, LiveScreen.ViewsChanged)

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self.runs = tuple(runs)
        self.views: tuple[RunView, ...] = ()
        self.axis = 0
        self.metric = _LOSSES[0]
        self.smoothing = 0
        self._chosen = "accuracy"
        self._poller: Poller | None = None

    def compose(self) -> ComposeResult:
        """Header, five panes, footer."""
        yield RunHeader(id="header")
        with Container(id="panes"):
            yield Chart(id="loss")
            yield Chart(id="accuracy")
            yield Table(id="layers")
            yield Chart(id="solver")
            yield LogPane(id="log")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to follow the runs, once the first frame is there."""
        for number, name in enumerate(_PANES, 1):
            self.query_one(f"#{name}").border_title = f"{number} {name.capitalize()}"
        self.query_one("#loss", Chart).log_y = True
        self.query_one("#solver", Chart).log_y = True
        self.query_one("#loss").focus()
        self.call_after_refresh(self._follow)

    def on_unmount(self) -> None:
        """Let go of the stores."""
        if self._poller is not None:
            self._poller.stop()

    def _follow(self) -> None:
        self._poller = Poller(self.runs, lambda views: self._tell(views))
        self._poller.start()

    def _tell(self, views: tuple[RunView, ...]) -> None:
        if self.is_running:
            self.post_message(self.ViewsChanged(views))

    def on_live_screen_views_changed(self, message: ViewsChanged) -> None:
        """Show the runs as they are now."""
        self.views = message.views
        self.draw()

    # Drawing

    def draw(self) -> None:
        """Bring every pane up to date; widgets redraw only where something differs."""
        from proxprop_cli.dashboard import curves

        views = self.views
        self.query_one("#header", RunHeader).show(views)
        axis = curves.X_AXES[self.axis]
        smoothing = curves.SMOOTHING[self.smoothing]
        loss = curves.loss_lines(views, axis, self.metric, smoothing)
        which = "Loss" if len(views) == 1 else dict(curves.LOSSES)[self.metric] + " loss"
        self._show("loss", loss, f"1 {which}")
        accuracy = curves.accuracy_lines(views, axis, self.metric)
        self._show("accuracy", accuracy, "2 Accuracy", y_format="percent")
        self._draw_table()
        self._draw_solver()
        log = [line for view in views for line in view.log]
        if len(views) > 1:
            log.sort(key=lambda line: line.time)
        self.query_one("#log", LogPane).show(log)

    def _show(
        self, pane: str, lines: Sequence[Line], title: str, *, y_format: Format = "number"
    ) -> None:
        from proxprop_cli.dashboard import curves

        axis = curves.X_AXES[self.axis]
        chart = self.query_one(f"#{pane}", Chart)
        chart.empty = self._nothing()
        chart.show(lines, title=title, x_label=axis.label, x_format=axis.form, y_format=y_format)

    def _nothing(self) -> str:
        problems = [view.problem for view in self.views if view.problem]
        if problems:
            return problems[0]
        if any(view.is_live for view in self.views) or not self.views:
            return "waiting for the first values"
        return "no values for this axis"

    def _draw_table(self) -> None:
        table = self.query_one("#layers", Table)
        if len(self.views) == 1:
            view = self.views[0]
            if view.method == "backprop":
                table.empty = "BackProp: the gradient as it is, no solver"
            else:
                table.empty = "no step was traced yet"
            table.border_title, table.border_subtitle = "3 Layers", layers_caption(view)
            table.show(LAYER_COLUMNS, layer_rows(view))
        else:
            table.border_title, table.border_subtitle = "3 Runs", ""
            table.show(RUN_COLUMNS, run_rows(self.views))

    def _draw_solver(self) -> None:
        """CG residuals of the layer under the cursor; where there are none, what the layer's
        step came to over time; under BackProp, the gradient's length."""
        from proxprop_cli.dashboard import curves

        key = self.query_one("#layers", Table).key
        several = len(self.views) > 1
        view = next((v for v in self.views if v.id == key), None) if several else None
        view = view or (self.views[0] if self.views else None)
        chart = self.query_one("#solver", Chart)
        if view is None:
            return
        trace = next((t for t in view.traces if several or t.layer == key), None)
        axis = curves.X_AXES[self.axis]
        if trace is not None and trace.residuals:
            title = f"4 CG residual · layer {trace.layer} · step {trace.step:,}"
            lines = curves.residual_lines(trace)
            chart.show(lines, title=title, x_label=f"iteration · {trace.stop_reason}")
            return
        if trace is not None:
            title = f"4 Residual · layer {trace.layer}"
            metric = f"solver/{trace.layer}/residual"
            lines = curves.history_lines(view, metric, "relative residual of the step", axis)
        else:
            title = "4 Length of the direction"
            lines = curves.history_lines(view, "direction_norm", "direction", axis)
        chart.show(lines, title=title, x_label=axis.label, x_format=axis.form)

    def on_table_moved(self) -> None:
        """Another layer or run was chosen."""
        self._draw_solver()

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
        if pane.id in _PANES:
            if pane.id != "loss":
                self._chosen = pane.id
            for name in _PANES:
                self.query_one(f"#{name}").set_class(name == self._chosen, "chosen")
                self.query_one(f"#{name}").set_class(name == pane.id, "current")

    def _keep_in_step(self) -> None:
        for chart in self._in_step:
            chart.window = self._chart.window

    # What keys do

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

    def action_x_axis(self) -> None:
        """Draw against the next quantity."""
        from proxprop_cli.dashboard.curves import X_AXES

        self.axis = (self.axis + 1) % len(X_AXES)
        for chart in self.query(Chart):
            chart.reset()
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

    def action_metric(self) -> None:
        """Compare runs by the next loss."""
        self.metric = _LOSSES[(_LOSSES.index(self.metric) + 1) % len(_LOSSES)]
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

    def action_pane(self, number: int) -> None:
        """Go to a pane; there already: enlarge it, or not any more."""
        pane = self.query_one(f"#{_PANES[number - 1]}")
        if pane.has_focus:
            self.action_enlarge()
            return
        self._choose(pane)  # what is hidden can not be focused
        if self.maximized is not None:
            self.minimize()
        pane.display = True
        pane.focus()

    def action_enlarge(self) -> None:
        """Give the whole screen to the pane in use, or take it back."""
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused, container=False)

    def action_runs(self) -> None:
        """Back to the list, or from an enlarged pane to all."""
        if self.maximized is not None:
            self.minimize()
        else:
            self.post_message(RunsWanted())

    def action_filter(self) -> None:
        """Look for other runs."""
        self.post_message(RunsWanted(filtering=True))

    # Control

    def action_pause(self) -> None:
        """Pause what runs; let go on what is paused."""
        live = [view for view in self.views if view.is_live]
        if not live:
            self.notify("No run here is live.", timeout=3)
            return
        pausing = any(view.status == "running" and view.wanted != "pausing" for view in live)
        self._want(live, Desired.PAUSED if pausing else Desired.RUNNING)

    def action_stop(self) -> None:
        """Ask, then end all live runs, their state kept."""
        live = [view for view in self.views if view.is_live]
        if not live:
            self.notify("No run here is live.", timeout=3)
            return
        which = f"run {live[0].id}" if len(live) == 1 else f"{len(live)} runs"
        question = f"Stop {which}? The state is kept; 'proxprop resume' goes on from it."

        def answered(key: str | None) -> None:
            if key == "s":
                self._want(live, Desired.STOPPED)

        self.app.push_screen(Choice(question, [("s", "stop")]), answered)

    def action_leave(self) -> None:
        """Leave; where a run is live, ask what is to become of it."""
        live = [view for view in self.views if view.is_live]
        if not live:
            self.app.exit()
            return
        which = f"Run {live[0].id} is" if len(live) == 1 else f"{len(live)} runs are"

        def answered(key: str | None) -> None:
            if key == "s":
                self._want(live, Desired.STOPPED)
            if key is not None:
                self.app.exit()

        answers = [("d", "detach: training goes on"), ("s", "stop, the state is kept")]
        self.app.push_screen(Choice(f"{which} live.", answers), answered)

    def _want(self, views: Sequence[RunView], desired: Desired) -> None:
        from engine.errors import StorageError

        runs = {run.id: run for run in self.runs}
        reason = "asked to stop" if desired is Desired.STOPPED else ""
        try:
            for view in views:
                runs[view.id].set_desired(desired, reason)
        except StorageError as error:
            self.notify(str(error), severity="error", markup=False)
        if self._poller is not None:
            self._poller.wake()
