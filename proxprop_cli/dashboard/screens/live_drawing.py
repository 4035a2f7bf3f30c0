"""Filling the panes of the live screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from proxprop_cli.dashboard.notices import is_grave, notice
from proxprop_cli.dashboard.panels import (
    LAYER_COLUMNS,
    MEMBER_COLUMNS,
    RUN_COLUMNS,
    layer_rows,
    layers_captions,
    layers_titles,
    run_rows,
)
from proxprop_cli.dashboard.screens.live_base import RunsScreen
from proxprop_cli.dashboard.shorten import distinct
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.log_pane import LogPane
from proxprop_cli.dashboard.widgets.notice import Notice
from proxprop_cli.dashboard.widgets.run_header import RunHeader
from proxprop_cli.dashboard.widgets.table import Table
from proxprop_cli.output import number, percent

if TYPE_CHECKING:
    from engine.events import SolverTrace
    from proxprop_cli.dashboard.lines import Line
    from proxprop_cli.dashboard.tick_labels import Format

_SERIES_OF_AXIS = {"wall": {"time/wall"}, "work": {"work"}}
_ACCURACIES = (
    ("2 Accuracy", (("val_accuracy", "validation"), ("test_accuracy", "test"))),
    ("2 Accuracy", (("val_accuracy", "val"), ("test_accuracy", "test"))),
    ("2 Acc", (("val_accuracy", "val"), ("test_accuracy", "test"))),
)
"""What the title says, in less and less room."""
_HELD_OUT = (
    ("2 Loss", (("val_loss", "validation"), ("test_loss", "test"))),
    ("2 Loss", (("val_loss", "val"), ("test_loss", "test"))),
)
"""Likewise, where there are no classes."""
_SMOOTHED = ("", " · smoothed", " · smoother")


class Drawing(RunsScreen):
    """Shows the views; widgets redraw only where something differs."""

    _has_losses = False
    """Whether the second pane is known to show losses."""

    def draw(self) -> None:
        """Bring every pane up to date."""
        from proxprop_cli.dashboard import curves

        views, axis = self.views, curves.X_AXES[self.axis]
        self.query_one("#header", RunHeader).show(views)
        self.query_one("#notice", Notice).show(notice(views), grave=is_grave(views))
        smoothing = curves.SMOOTHING[self.smoothing]
        if self.several:
            loss = self._overlay(self.metric, smoothing)
        else:
            loss = curves.loss_lines(views, axis, smoothing)
        kind = dict(curves.LOSSES)[self.metric].capitalize()
        title = f"1 {kind} loss" if self.several else "1 Loss"
        title += _SMOOTHED[self.smoothing]
        shorter = []
        if not self.several and views and views[0].diverged is not None:
            step, cause = views[0].diverged
            shorter = [f"{title} · ✖ step {step:,}", title]
            title += f" · ✖ step {step:,}: {cause}"
        self._show("loss", loss, title, shorter)
        self._draw_second()
        self._draw_table()
        self.draw_solver()
        self._draw_log()

    def _draw_second(self) -> None:
        """Accuracies; where there are no classes, the losses of what was not trained on."""
        from proxprop_cli.dashboard import curves

        if not self.has_classes and not self._has_losses:
            self._has_losses = True
            self.query_one("#accuracy", Chart).log_y = True
        if self.several:
            key = curves.accuracy_of(self.metric) if self.has_classes else "test_loss"
            lines = self._overlay(key)
        else:
            lines = curves.accuracy_lines(self.views, curves.X_AXES[self.axis])
        form: Format = "percent" if self.has_classes else "number"
        self._show("accuracy", lines, *self._second_titles(), y_format=form)

    def draw_solver(self) -> None:
        """CG residuals of the layer under the cursor; where there are none, what the layer's
        step came to over time; under BackProp, the gradient's length; of several runs, their
        validation losses."""
        from proxprop_cli.dashboard import curves

        axis = curves.X_AXES[self.axis]
        if self.several:
            # another than the first pane has
            key = "train_loss" if self.metric == "val_loss" else "val_loss"
            kind = dict(curves.LOSSES)[key].capitalize()
            self._show("solver", self._overlay(key), f"4 {kind} loss")
            return
        if not self.views:
            return
        view, trace = self.views[0], self._trace()
        if trace is not None and trace.residuals:
            chart = self.query_one("#solver", Chart)
            is_old = view.status == "diverged" and trace.step < view.step
            title, *shorter = _residual_titles(trace, is_old=is_old)
            lines = curves.residual_lines(trace)
            chart.show(lines, title=title, shorter=shorter, x_label="iteration")
            return
        if trace is not None:
            title, metric = f"4 Residual · layer {trace.layer}", f"solver/{trace.layer}/residual"
        else:
            title, metric = "4 Length of the direction", "direction_norm"
        self._show("solver", curves.history_lines(view, metric, axis), title)

    def _overlay(self, key: str, smoothing: float = 0.0) -> list[Line]:
        from proxprop_cli.dashboard.overlay import overlay_lines

        banded = self.banded and self.has_rows
        return overlay_lines(self.views, key, self.axis, smoothing, banded=banded)

    def ask(self) -> None:
        """Have the series followed that are needed by now."""
        from proxprop_cli.dashboard.curves import X_AXES

        if self.poller is None:
            return
        keys = {self.metric} if self.several else {"batch_loss", "direction_norm"}
        keys |= _SERIES_OF_AXIS.get(X_AXES[self.axis].key, set())
        self.poller.keys = frozenset(keys)
        self.poller.wake()

    def _trace(self) -> SolverTrace | None:
        key = self.query_one("#layers", Table).key
        return next((trace for trace in self.views[0].traces if trace.layer == key), None)

    def _show(
        self,
        pane: str,
        lines: Sequence[Line],
        title: str,
        shorter: Sequence[str] = (),
        *,
        y_format: Format = "number",
    ) -> None:
        from proxprop_cli.dashboard import curves

        axis = curves.X_AXES[self.axis]
        chart = self.query_one(f"#{pane}", Chart)
        chart.empty = self._nothing()
        chart.show(
            lines,
            title=title,
            shorter=shorter,
            x_label=axis.label,
            x_format=axis.form,
            y_format=y_format,
        )

    def _second_titles(self) -> tuple[str, list[str]]:
        """Of the pane with the accuracies, or with the losses in their place."""
        if self.several:
            kind = "Validation" if self.metric == "val_loss" else "Train"
            return f"2 {kind} accuracy" if self.has_classes else "2 Test loss", []
        metrics = self.views[0].metrics if self.views else {}
        written, said = (percent, _ACCURACIES) if self.has_classes else (number, _HELD_OUT)
        texts = []
        for pane, names in said:
            known = [(name, metrics[key]) for key, name in names if key in metrics]
            texts.append(" · ".join([pane, *(f"{name} {written(is_)}" for name, is_ in known)]))
        return texts[0], texts[1:]

    def _nothing(self) -> str:
        problems = [view.problem for view in self.views if view.problem]
        if problems:
            return problems[0]
        if self.live or not self.views or not self.views[0].series:
            return "waiting for the first values"
        return "no such values"

    def _draw_table(self) -> None:
        table = self.query_one("#layers", Table)
        if self.several or not self.views:
            table.frame(["3 Runs"])
            columns = MEMBER_COLUMNS if self.has_rows else RUN_COLUMNS
            table.show(columns, run_rows(self.views, banded=self.banded))
            return
        view = self.views[0]
        plain = view.method == "backprop"
        table.empty = "BackProp: no solver" if plain else "no step was traced yet"
        table.frame(layers_titles(view), layers_captions(view))
        table.show(LAYER_COLUMNS, layer_rows(view))

    def _draw_log(self) -> None:
        log = [line for view in self.views for line in view.log]
        if self.several:
            names = distinct([view.short for view in self.views])
            log = [
                replace(line, text=f"{name}: {line.text}")
                for name, view in zip(names, self.views, strict=True)
                for line in view.log
            ]
            log.sort(key=lambda line: line.time)
        self.query_one("#log", LogPane).show(log)


def _residual_titles(trace: SolverTrace, *, is_old: bool) -> tuple[str, ...]:
    """In less and less room; why the solver ended is said in all of them.

    :param is_old: whether it tells of a step before what matters, which is said as well then.
    """
    reason = trace.stop_reason
    end = {"converged": "tolerance"}.get(reason, reason)
    where, when = f"layer {trace.layer}", f"step {trace.step:,}"
    if is_old:
        brief = end.partition(" ")[0]
        return (
            f"4 CG residual · {where} · at {when} · {end}",
            f"4 CG · {where} · at {when} · {end}",
            f"4 CG · {where} · {when} · {brief}",
            f"4 CG · {trace.layer} · {when} · {brief}",
        )
    return (
        f"4 CG residual · {where} · {when} · {end}",
        f"4 CG residual · {where} · {end}",
        f"4 CG · {where} · {end}",
        f"4 CG · {trace.layer} · {end}",
    )
