"""The live screen: what it shows of a run, and what its keys do."""

from __future__ import annotations

import csv

import pytest

from engine.control import Desired
from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.keys import NAMES
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.help import HelpScreen, keys_of
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.log_pane import LogPane
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, make_run, trace, until


def show(*runs):
    return Dashboard(Runs(runs[0].path.parent), [run.id for run in runs])


async def ready(pilot):
    await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen) and pilot.app.screen.views)
    screen = pilot.app.screen
    await until(pilot, lambda: all(view.series for view in screen.views))
    return screen


def text_of(widget):
    """What a widget shows, as plain lines."""
    return "\n".join(widget.render_line(y).text for y in range(widget.size.height))


def test_shows_curves_layers_and_residuals(tmp_path):
    run = make_run(tmp_path, "cg3", traces=[trace(40, "1"), trace(40, "3", iterations=2)])

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.pause()
        assert [line.label for line in screen.query_one("#loss", Chart).lines] == [
            "batch",
            "train",
            "validation",
        ]
        header = str(screen.query_one("#header").render())
        assert "digits-mlp · cg3 · tau 1" in header
        assert "✔ finished  epoch 4/4" in header
        table = screen.query_one("#layers", Table)
        assert "500 dual" in table.render().plain
        assert "60.0°" in table.render().plain
        solver = screen.query_one("#solver", Chart)
        assert solver.lines[0].mean.tolist()[:2] == [1.0, 0.3]
        await pilot.press("3", "j")
        assert len(solver.lines[0].x) == 3  # of the second layer, which had two iterations

    in_app(show(run), script)


def test_exact_shows_residuals_over_time_and_backprop_the_gradient(tmp_path):
    exact = make_run(tmp_path, "exact", traces=[trace(20, iterations=0), trace(40, iterations=0)])
    values = {"batch_loss": [1.0] * 40, "direction_norm": [0.5] * 40}
    plain = make_run(tmp_path, "backprop", values=values)

    async def residuals(pilot):
        screen = await ready(pilot)
        await pilot.pause()
        (line,) = screen.query_one("#solver", Chart).lines
        assert line.x.tolist() == [20, 40]

    async def gradient(pilot):
        screen = await ready(pilot)
        await pilot.pause()
        (line,) = screen.query_one("#solver", Chart).lines
        assert len(line.x) == 40
        assert "no solver" in screen.query_one("#layers", Table).render().plain

    in_app(show(exact), residuals)
    in_app(show(plain), gradient)


@pytest.mark.parametrize(
    ("presses", "key", "last"),
    [(0, "step", 40.0), (1, "epoch", 4.0), (2, "wall", 0.8), (3, "train", 0.4), (4, "work", 10.0)],
)
def test_every_quantity_of_the_x_axis(tmp_path, presses, key, last):
    # every step is 2.5 times the work of BackProp's
    run = make_run(tmp_path, "cg3", traces=[trace(40)])

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.press(*["x"] * presses)
        chart = screen.query_one("#loss", Chart)
        await until(pilot, lambda: chart.lines)
        assert chart.lines[0].x[-1] == pytest.approx(last)
        assert chart.lines[0].x[0] > 0

    in_app(show(run), script)


def test_new_steps_appear_and_steps_after_a_rewind_are_gone(tmp_path):
    run = make_run(tmp_path, steps=40, status="running")

    async def script(pilot):
        screen = await ready(pilot)
        with RunLock(run.lock_file), StoreWriter(run.database) as writer:
            writer.append_block([41, 42], {"batch_loss": [0.5, 0.25]})
            writer.commit()
            await until(pilot, lambda: screen.views[0].series["batch_loss"].last[-1] == 42)
            writer.rewind(20)
            started = {"epoch": 2, "resumed": True, "steps_per_epoch": 10, "environment": {}}
            writer.append_event(20, "RunStarted", started)
            writer.append_block([21], {"batch_loss": [9.0]})
            writer.commit()
            await until(pilot, lambda: screen.views[0].series["batch_loss"].last[-1] == 21)
        assert screen.views[0].series["batch_loss"].high[-1] == 9.0
        happened = [line.text for line in screen.views[0].log if "loss" not in line.text]
        assert happened == ["started", "going on"]

    in_app(show(run), script)


def test_divergence_is_marked_where_and_why(tmp_path):
    values = {"batch_loss": [2.0, 50.0, 1e30, float("nan")]}
    cause = "loss is NaN"
    run = make_run(tmp_path, steps=4, values=values, status="diverged", diverged=(4, cause))

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.pause()
        assert "✖ diverged" in str(screen.query_one("#header").render())
        batch = screen.query_one("#loss", Chart).lines[0]
        assert batch.end == "✖ diverged @4"
        assert batch.broken.tolist() == [False, False, False, True]
        assert f"✖ {cause}: diverged" in screen.query_one("#log").render().plain

    in_app(show(run), script)


def test_pause_and_resume_leave_word(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await ready(pilot)
        with RunLock(run.lock_file):
            await until(pilot, lambda: screen.views[0].status == "running")
            await pilot.press("p")
            assert run.desired() is Desired.PAUSED
            await until(pilot, lambda: screen.views[0].wanted == "pausing")
            with StoreWriter(run.database) as writer:
                writer.set_state({"status": "paused"})
                writer.commit()
            await until(pilot, lambda: screen.views[0].status == "paused")
            await pilot.press("p")
            assert run.desired() is Desired.RUNNING

    in_app(show(run), script)


def test_stop_asks_first(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await ready(pilot)
        with RunLock(run.lock_file):
            await until(pilot, lambda: screen.views[0].status == "running")
            await pilot.press("s")
            assert isinstance(pilot.app.screen, Choice)
            await pilot.press("escape")
            assert run.desired() is Desired.RUNNING
            await pilot.press("s", "s")
            assert run.desired() is Desired.STOPPED

    in_app(show(run), script)


@pytest.mark.parametrize(
    ("answer", "leaves", "desired"),
    [("d", True, "running"), ("s", True, "stopped"), ("c", False, "running")],
)
def test_quit_asks_what_becomes_of_a_live_run(tmp_path, answer, leaves, desired):
    run = make_run(tmp_path, status="running")
    app = show(run)

    async def script(pilot):
        screen = await ready(pilot)
        with RunLock(run.lock_file):
            await until(pilot, lambda: screen.views[0].status == "running")
            await pilot.press("q")
            assert isinstance(pilot.app.screen, Choice)
            await pilot.press(answer)
            await pilot.pause()
            assert pilot.app._exit is leaves
            assert run.desired().value == desired

    in_app(app, script)


def test_quit_of_a_finished_run_just_leaves(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        await ready(pilot)
        await pilot.press("q")
        assert pilot.app._exit

    in_app(show(run), script)


def test_zoom_pan_and_reset_move_both_charts(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await ready(pilot)
        charts = [screen.query_one(f"#{name}", Chart) for name in ("loss", "accuracy")]
        await pilot.press("plus", "plus")
        windows = [chart.window for chart in charts]
        assert all(window is not None for window in windows)
        assert windows[0][1] - windows[0][0] == pytest.approx(10, abs=0.5)
        await pilot.press("h")
        assert charts[0].window[0] < windows[0][0]
        await pilot.press("r")
        assert [chart.window for chart in charts] == [None, None]

    in_app(show(run), script)


def test_panes_by_number_and_enlarged(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await ready(pilot)
        for number, name in enumerate(("loss", "accuracy", "layers", "solver", "log"), 1):
            await pilot.press(str(number))
            assert screen.focused.id == name
        await pilot.press("5")
        assert screen.has_class("enlarged")
        assert screen.query_one("#header").region.area
        await pilot.press("escape")
        assert not screen.has_class("enlarged")
        assert isinstance(pilot.app.screen, LiveScreen)

    in_app(show(run), script)


@pytest.mark.parametrize(
    ("size", "seen"), [((60, 20), 2), ((60, 12), 1), ((80, 24), 4), ((120, 40), 5), ((200, 60), 5)]
)
def test_as_many_panes_as_there_is_room_for(tmp_path, size, seen):
    run = make_run(tmp_path, "cg3", traces=[trace(40)])

    async def script(pilot):
        screen = await ready(pilot)
        for number in (5, 4, 3, 2, 1):
            await pilot.press(str(number))
            await pilot.pause()
            pane = screen.focused
            assert pane.region.width > 10
            assert pane.region.height >= 3
            assert screen.region.contains_region(pane.region)
            shown = [w for w in screen.query("#panes > *") if w.region.area]
            assert len(shown) == seen + (number == 5 and seen == 4)
        await pilot.press("1")
        await pilot.pause()
        assert [w.id for w in screen.query("#panes > *") if w.region.area] == ["loss"]

    in_app(show(run), script, size)


def test_overlay_of_several_runs(tmp_path):
    first, second = (
        make_run(tmp_path, "exact"),
        make_run(tmp_path, "backprop", name="plain\x1b[31m"),
    )

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.pause()
        loss = screen.query_one("#loss", Chart)
        assert len(loss.lines) == 2
        assert loss.lines[0].glyph != loss.lines[1].glyph
        assert loss.lines[0].color != loss.lines[1].color
        assert "\x1b" not in text_of(loss)
        assert "plain\\x1b[31m" in screen.query_one("#layers", Table).render().plain
        before = loss.lines[0].mean[-1]
        await pilot.press("v")
        assert loss.lines[0].mean[-1] != before
        await pilot.press("m")  # smooths four points
        assert loss.lines[0].smooth is not None
        log = screen.query_one("#log").render().plain
        assert first.id in log
        assert second.id in log

    in_app(show(first, second), script)


def test_export_of_view_metrics_and_screen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs")

    async def script(pilot):
        await ready(pilot)
        for key, name in (("v", "-view.csv"), ("a", ".csv"), ("s", ".svg")):
            await pilot.press(*(["plus", "e", key] if key == "v" else ["e", key]))
            path = tmp_path / f"{run.id}{name}"
            await until(pilot, path.exists)
            await pilot.app.workers.wait_for_complete()

    in_app(show(run), script)
    with (tmp_path / f"{run.id}-view.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["series"] for row in rows} >= {"batch", "train", "validation"}
    batch = [row for row in rows if row["series"] == "batch"]
    assert [float(row["x"]) for row in batch] == list(range(20, 41))  # zoomed in: the right half
    assert [float(row["mean"]) for row in batch] == pytest.approx(
        [2.3 * 0.98**step for step in range(20, 41)]
    )
    assert (tmp_path / f"{run.id}.csv").read_text().startswith("run,step,key,value")
    assert "<svg" in (tmp_path / f"{run.id}.svg").read_text()


def test_an_export_takes_the_place_of_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs")
    (tmp_path / f"{run.id}-view.csv").write_text("mine")
    (tmp_path / f"{run.id}.csv").symlink_to(tmp_path / "nothing")
    (tmp_path / f"{run.id}.svg").mkdir()

    async def script(pilot):
        await ready(pilot)
        for key, name in (("v", "-view-2.csv"), ("a", "-2.csv"), ("s", "-2.svg")):
            await pilot.press("e", key)
            await until(pilot, (tmp_path / f"{run.id}{name}").is_file)
            await pilot.app.workers.wait_for_complete()

    in_app(show(run), script)
    assert (tmp_path / f"{run.id}-view.csv").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()
    assert list((tmp_path / f"{run.id}.svg").iterdir()) == []


def test_help_lists_every_binding(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        listed = " ".join(keys for keys, _ in keys_of(screen)).split()
        # one run of a classifier has no seeds, no losses to choose from, and no pictures
        nothing_for = {"b", "v", "i"}
        for source in (LiveScreen, Table, LogPane):
            for binding in vars(source)["BINDINGS"]:
                for key in binding.key.split(","):
                    name = NAMES.get(key, key)
                    assert (name in listed) != (name in nothing_for) or name.isdigit(), name
        shown = "\n".join(str(widget.render()) for widget in pilot.app.screen.query("Static"))
        assert "Pause: hold between two steps" in shown
        await pilot.press("escape")
        assert pilot.app.screen is screen

    in_app(show(run), script)


def test_escape_leads_to_the_list(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        await ready(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))

    in_app(show(run), script)


def test_a_damaged_store_is_told_of(tmp_path):
    run = make_run(tmp_path)
    run.database.write_bytes(b"not a database, not at all" * 100)

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
        screen = pilot.app.screen
        await until(pilot, lambda: screen.views[0].status == "unreadable")
        await pilot.pause()
        assert "unreadable" in str(screen.query_one("#header").render())

    in_app(show(run), script)


def test_rate_and_time_left(tmp_path):
    """0.01 s a step and as much for evaluation; 60 of 100 steps are left."""
    run = make_run(tmp_path, status="running", epochs=10, batch_size=50)

    async def script(pilot):
        screen = await ready(pilot)
        view = screen.views[0]
        assert view.rate == pytest.approx(50 / 0.01)
        assert view.eta == pytest.approx(60 * 0.02)

    with RunLock(run.lock_file):
        in_app(show(run), script)
    limited = make_run(tmp_path, status="running", epochs=10, max_seconds=0.5)

    async def limit(pilot):
        screen = await ready(pilot)
        assert screen.views[0].eta == pytest.approx((0.5 - 0.4) * 2)

    with RunLock(limited.lock_file):
        in_app(show(limited), limit)


def test_a_trainer_that_died(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await ready(pilot)
        assert screen.views[0].status == "interrupted"
        assert not screen.views[0].is_live
        assert f"proxprop resume {run.id}" in screen.query_one("#log").render().plain
        await pilot.press("p", "s")
        assert run.desired() is Desired.RUNNING

    in_app(show(run), script)


def test_a_paused_run_without_a_trainer_is_not_live(tmp_path):
    run = make_run(tmp_path, status="paused")

    async def script(pilot):
        await ready(pilot)
        await pilot.press("q")
        assert pilot.app._exit

    in_app(show(run), script)


def test_a_run_that_was_deleted(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await ready(pilot)
        Runs(tmp_path).delete(run)
        await until(pilot, lambda: "deleted" in screen.views[0].problem, 30)

    in_app(show(run), script)


def test_a_damaged_event_does_not_end_the_following(tmp_path):
    run = make_run(tmp_path)
    with StoreWriter(run.database) as writer:
        writer.append_event(40, "RunEnded", {})
        writer.commit()

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
        screen = pilot.app.screen
        await until(pilot, lambda: "damaged" in screen.views[0].problem)

    in_app(show(run), script)


def test_logarithmic_x(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.press("X")
        assert screen.query_one("#loss", Chart).log_x
        assert screen.query_one("#accuracy", Chart).log_x

    in_app(show(run), script)


def test_fallbacks_are_counted_and_shown(tmp_path):
    run = make_run(tmp_path, "cg3", traces=[trace(40)])
    with StoreWriter(run.database) as writer:
        writer.append_event(40, "LadderClimbed", {"layer": "1", "counts": {"float64": 7}})
        writer.commit()

    async def script(pilot):
        screen = await ready(pilot)
        assert screen.views[0].fallbacks == {"1": 7}
        table = screen.query_one("#layers", Table)
        assert "7 fallbacks" in str(table.border_subtitle)
        await pilot.press("3", "3")  # enlarged, all columns fit
        await pilot.pause()
        assert table.render().plain.splitlines()[1].split()[-1] == "7"

    in_app(show(run), script)


def test_a_window_at_the_newest_data_follows_it(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.press("plus")
        chart = screen.query_one("#loss", Chart)
        low, high = chart.window
        with StoreWriter(run.database) as writer:
            writer.append_block([60], {"batch_loss": [0.5]})
            writer.commit()
        await until(pilot, lambda: chart.window[1] == 60)
        assert chart.window[0] == pytest.approx(low + 60 - high)

    with RunLock(run.lock_file):
        in_app(show(run), script)


def test_the_palette_offers_what_the_keys_do(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await ready(pilot)
        await pilot.pause()
        helps = {command.title: command.help for command in pilot.app.get_system_commands(screen)}
        assert helps["Export"] == "Export: curves, metrics or the screen"
        assert helps["Quit"] == "Leave: detach, stop or cancel"
        assert "Pause" not in helps  # it is finished

    in_app(show(run), script)
