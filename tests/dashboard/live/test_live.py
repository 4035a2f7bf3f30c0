"""What the live screen shows of runs."""

from __future__ import annotations

from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, live_screen, make_run, screen_text, trace, until


def show(*runs):
    return Dashboard(Runs(runs[0].path.parent), [run.id for run in runs])


def text_of(widget):
    """What a widget shows, as plain lines."""
    return "\n".join(widget.render_line(y).text for y in range(widget.size.height))


def test_curves_layers_residuals_and_fallbacks(tmp_path):
    run = make_run(tmp_path, "cg3", traces=[trace(40, "1"), trace(40, "3", iterations=2)])
    with StoreWriter(run.database) as writer:
        writer.append_event(40, "LadderClimbed", {"layer": "1", "counts": {"float64": 7}})
        writer.commit()

    async def script(pilot):
        screen = await live_screen(pilot)
        loss, solver = (screen.query_one(name, Chart) for name in ("#loss", "#solver"))
        await until(pilot, lambda: loss.lines and solver.lines)
        assert [line.label for line in loss.lines] == ["batch", "train", "validation"]
        header = str(screen.query_one("#header").render())
        assert "digits-mlp · cg3 · tau 1" in header
        assert "✔ finished  epoch 4/4" in header
        table = screen.query_one("#layers", Table)
        assert "500 dual" in table.render().plain
        assert "60.0°" in table.render().plain
        assert "7 fallbacks" in str(table.border_subtitle)
        assert solver.lines[0].mean.tolist()[:2] == [1.0, 0.3]
        await pilot.press("3", "j")
        assert len(solver.lines[0].x) == 3  # of the second layer, which had two iterations
        await pilot.press("3")  # enlarged, all columns fit
        await until(pilot, lambda: table.render().plain.splitlines()[1].split()[-1] == "7")

    in_app(show(run), script)


def test_exact_shows_residuals_over_time_and_backprop_the_gradient(tmp_path):
    exact = make_run(tmp_path, "exact", traces=[trace(20, iterations=0), trace(40, iterations=0)])
    values = {"batch_loss": [1.0] * 40, "direction_norm": [0.5] * 40}
    plain = make_run(tmp_path, "backprop", values=values)

    async def residuals(pilot):
        solver = (await live_screen(pilot)).query_one("#solver", Chart)
        await until(pilot, lambda: solver.lines)
        assert [line.x.tolist() for line in solver.lines] == [[20, 40]]

    async def gradient(pilot):
        screen = await live_screen(pilot)
        solver = screen.query_one("#solver", Chart)
        await until(pilot, lambda: solver.lines)
        assert [len(line.x) for line in solver.lines] == [40]
        assert "no solver" in screen.query_one("#layers", Table).render().plain

    in_app(show(exact), residuals)
    in_app(show(plain), gradient)


def test_new_steps_appear_and_steps_after_a_rewind_are_gone(tmp_path):
    run = make_run(tmp_path, steps=40, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
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


def test_a_window_at_the_newest_data_follows_it(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
        chart = screen.query_one("#loss", Chart)
        await until(pilot, lambda: chart.lines)
        await pilot.press("plus")
        low, high = chart.window
        with StoreWriter(run.database) as writer:
            writer.append_block([60], {"batch_loss": [0.5]})
            writer.commit()
        await until(pilot, lambda: chart.window[1] == 60)
        assert chart.window[0] - low == 60 - high

    with RunLock(run.lock_file):
        in_app(show(run), script)


def test_divergence_is_marked_where_and_why(tmp_path):
    values = {"batch_loss": [2.0, 50.0, 1e30, float("nan")]}
    cause = "loss is NaN"
    run = make_run(tmp_path, steps=4, values=values, status="diverged", diverged=(4, cause))

    async def script(pilot):
        screen = await live_screen(pilot)
        loss = screen.query_one("#loss", Chart)
        await until(pilot, lambda: loss.lines)
        assert "✖ diverged" in str(screen.query_one("#header").render())
        batch = loss.lines[0]
        assert batch.end == "✖ diverged @4"
        assert batch.broken.tolist() == [False, False, False, True]
        assert f"✖ {cause}: diverged" in screen.query_one("#log").render().plain

    in_app(show(run), script)


def test_overlay_of_several_runs(tmp_path):
    first = make_run(tmp_path, "exact")
    second = make_run(tmp_path, "backprop", name="plain\x1b[31m")

    async def script(pilot):
        screen = await live_screen(pilot)
        loss = screen.query_one("#loss", Chart)
        await until(pilot, lambda: len(loss.lines) == 2)
        assert loss.lines[0].glyph != loss.lines[1].glyph
        assert loss.lines[0].color != loss.lines[1].color
        assert "\x1b" not in text_of(loss)
        assert "plain\\x1b[31m" in screen.query_one("#layers", Table).render().plain
        before = loss.lines[0].mean[-1]
        await pilot.press("v")
        await until(pilot, lambda: loss.lines[0].mean[-1] != before)
        await pilot.press("m")  # smooths four points
        assert loss.lines[0].smooth is not None
        log = screen.query_one("#log").render().plain
        assert first.id in log
        assert second.id in log

    in_app(show(first, second), script)


def test_a_damaged_store_is_told_of(tmp_path):
    run = make_run(tmp_path)
    run.database.write_bytes(b"not a database, not at all" * 100)

    async def script(pilot):
        await until(pilot, lambda: "unreadable" in screen_text(pilot.app).splitlines()[0])
        assert pilot.app.screen.views[0].status == "unreadable"

    in_app(show(run), script)


def test_a_deleted_run_is_explained(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
        Runs(tmp_path).delete(run)
        await until(pilot, lambda: screen.views[0].status == "deleted")
        told = f"run {run.id} was deleted"
        await until(pilot, lambda: told in str(screen.query_one("#notice").render()))
        assert screen.query_one("#notice").region.area
        assert told in screen.views[0].problem
        assert told in screen.views[0].log[-1].text
        assert "deleted" in str(screen.query_one("#header").render())
        assert screen.views[0].series  # what is known stays

    in_app(show(run), script, (60, 20))


def test_a_trainer_that_died(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
        assert screen.views[0].status == "interrupted"
        assert not screen.views[0].is_live
        told = f"proxprop resume {run.id}"
        await until(pilot, lambda: told in screen.query_one("#log").render().plain)
        request = run.request()
        await pilot.press("p", "s")
        assert pilot.app.screen is screen
        assert run.request() == request  # nothing to pause or to stop

    in_app(show(run), script)
