"""The texts of the layer table, the header and the notice."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len
from textual.app import App

from proxprop_cli.dashboard.notices import notice
from proxprop_cli.dashboard.panels import (
    LAYER_COLUMNS,
    RUN_COLUMNS,
    layer_rows,
    layers_captions,
    layers_titles,
    run_rows,
)
from proxprop_cli.dashboard.shorten import distinct, first_fitting
from proxprop_cli.dashboard.views import RunView
from proxprop_cli.dashboard.widgets.run_header import RunHeader
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, trace

CONFIG = {
    "preset": "digits-mlp",
    "method": "cg5",
    "tau": 1.0,
    "tau_theta": 0.05,
    "epochs": 50,
    "batch_size": 100,
}


def a_view(**changes):
    given = {"config": CONFIG, "status": "running", "has_trainer": True, "step": 16}
    return RunView("v73brm5w", **(given | changes))


def titled(view):
    """The styled columns of the only row, by title."""
    (row,) = layer_rows(view)
    return {LAYER_COLUMNS[column].title for column, _ in row.styles}


@pytest.mark.parametrize(
    ("cosine", "fallbacks", "red"),
    [
        (0.5, 0, set()),
        (0.5, 3, {"fallbacks"}),
        (1e-9, 0, set()),
        (0.0, 0, {"angle"}),
        (-0.1, 0, {"angle"}),
        (-0.1, 1, {"angle", "fallbacks"}),
        (math.nan, 0, {"angle"}),
    ],
)
def test_angle_and_fallbacks_are_red_each_for_its_own_reason(cosine, fallbacks, red):
    traces = (trace(16, descent_cosine=cosine),)
    view = a_view(traces=traces, fallbacks={"1": fallbacks} if fallbacks else {})
    assert titled(view) == red


def test_an_angle_that_is_not_known_is_not_zero():
    (row,) = layer_rows(a_view(traces=(trace(16, descent_cosine=math.nan),)))
    assert "NaN" in row.cells
    assert not any("°" in cell for cell in row.cells)


def test_why_a_solver_ended():
    reasons = ("converged", "max iterations", "direct", "float64")
    traces = tuple(trace(16, str(n), stop_reason=reason) for n, reason in enumerate(reasons))
    assert [row.cells[6] for row in layer_rows(a_view(traces=traces))] == [
        "tol",
        "max",
        "direct",
        "float64",
    ]


def test_old_solver_table_says_so():
    late = a_view(traces=(trace(1),), status="diverged", diverged=(16, "loss is NaN"))
    assert layers_titles(late)[0] == "3 Layers · at step 1, 15 before the end"
    assert first_fitting(layers_titles(late), 34) == "3 Layers · step 1 of 16"
    assert layers_titles(a_view(traces=(trace(10),))) == ("3 Layers · step 10",)
    assert layers_titles(a_view()) == ("3 Layers",)


def test_captions_say_throughput_and_cost_in_any_room():
    view = a_view(rate=12_410.4, work_per_step=1.3)
    assert first_fitting(layers_captions(view), 34) == "12,400 samples/s · 1.30x work"
    assert "no fallbacks" in first_fitting(layers_captions(view), 54)
    several = a_view(rate=1_912_410.4, work_per_step=11.3, fallbacks={"1": 12})
    assert first_fitting(layers_captions(several), 54).startswith("12 fallbacks · 1,910,000")
    plain = a_view(config=CONFIG | {"method": "backprop"}, rate=10.0, work_per_step=1.0)
    assert set(layers_captions(plain)) == {"10 samples/s", "10/s"}


@pytest.mark.parametrize(
    ("width", "has", "lacks"),
    [
        (60, ["14 %", "ETA 18:20", "7/50"], ["epoch", "digits-mlp", "▕"]),
        (80, ["14 %", "ETA 18:20", "epoch 7/50", "▕"], ["digits-mlp", "tau_theta"]),
        (100, ["14 %", "ETA 18:20", "digits-mlp"], ["tau_theta"]),
        (120, ["14 %", "ETA 18:20", "digits-mlp", "tau_theta 0.05"], []),
    ],
)
@pytest.mark.parametrize("wanted", ["", "stopping"])
def test_header_drops_what_matters_least(width, has, lacks, wanted):
    view = a_view(epoch=7.0, eta=18 * 60 + 20.0, wanted=wanted)

    class HeaderApp(App):
        def compose(self):
            yield RunHeader()

    async def script(pilot):
        header = pilot.app.query_one(RunHeader)
        header.show((view,))
        await pilot.pause()
        line = str(header.render())
        assert cell_len(line) <= width - 2
        for text in ("v73brm5w · ", "cg5 · tau 1", "● running", "14 %", *([] if wanted else has)):
            assert text in line
        assert not any(text in line for text in lacks)

    in_app(HeaderApp(), script, (width, 5))


def test_notices():
    def said(**changes):
        return first_fitting(notice([a_view(**changes)]), 58)

    assert said() == ""
    assert said(status="finished", has_trainer=False) == ""
    assert said(status="paused") == ""
    onward = "'proxprop resume v73brm5w' goes on"
    assert said(status="paused", has_trainer=False) == onward
    assert said(status="stopped", has_trainer=False) == onward
    gone = {"status": "interrupted", "has_trainer": False}
    assert said(**gone) == f"the trainer is gone; {onward}"
    assert said(**gone, steps_per_epoch=10, last_words="epoch 3").endswith(onward)
    assert said(**gone, last_words="no such device") == "did not start: no such device"
    cause = "weights are not finite after the update"
    told = said(status="diverged", diverged=(1234, cause), has_trainer=False)
    assert told == f"✖ step 1,234: {cause}"
    assert said(status="unreadable", problem="run x was deleted") == "run x was deleted"
    several = [a_view(), a_view(status="unreadable", problem="run x was deleted")]
    assert notice(several) == ("run x was deleted",)
    assert notice([a_view(), a_view(status="diverged", diverged=(3, cause))]) == ()


def test_labels_are_shortened_by_what_is_common():
    assert distinct(["cg5 tau 1 · abc", "cg5 tau 1 · def"]) == ["abc", "def"]
    assert distinct(["cg5 tau 1 · abc", "cg5 tau 0.5 · def"]) == ["tau 1 abc", "tau 0.5 def"]
    assert distinct(["cg5 seed 0", "exact seed 0"]) == ["cg5", "exact"]
    assert distinct(["one", "one two"]) == ["one", "two"]
    assert distinct(["alone tau 1"]) == ["alone tau 1"]
    assert distinct([]) == []


@pytest.mark.parametrize("width", [36, 30, 54, 90])
def test_status_and_loss_of_every_run_are_seen_at_every_width(width):
    views = [
        a_view(metrics={"train_loss": 7.95e-05}, config=CONFIG | {"method": "backprop"}),
        RunView("irlq5m2x", config=CONFIG, status="diverged", diverged=(16, "loss is NaN")),
    ]

    class TableApp(App):
        def compose(self):
            yield Table()

    async def script(pilot):
        table = pilot.app.query_one(Table)
        table.show(RUN_COLUMNS, run_rows(views))
        await pilot.pause()
        _, first, second = table.render().plain.splitlines()
        assert first.startswith("●  ● ")
        assert second.startswith("◆  ✖ ")
        if width >= 36:
            assert "7.95e-05" in first
            assert "tau" in table.render().plain.splitlines()[0]
        assert dict(run_rows(views)[1].styles)[1] == "red"

    in_app(TableApp(), script, (width, 5))
