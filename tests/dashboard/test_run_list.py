"""The list of runs: filter, selection, open, export, delete."""

from __future__ import annotations

from engine.locks import RunLock
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, make_run, until


async def listed(pilot, count):
    await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))
    screen = pilot.app.screen
    table = screen.query_one("#runs", Table)
    await until(pilot, lambda: len(table.render().plain.splitlines()) == count + 1)
    return table


def test_newest_first_with_figures(tmp_path):
    first = make_run(tmp_path, "exact")
    second = make_run(tmp_path, "backprop", name="evil\x1b]0;x\x07")

    async def script(pilot):
        table = await listed(pilot, 2)
        _, top, bottom = table.render().plain.splitlines()
        assert second.id in top
        assert first.id in bottom
        assert "✔ finished" in top
        assert "4/4" in top
        assert "\x1b" not in top
        assert "evil\\x1b" in top

    in_app(Dashboard(Runs(tmp_path)), script)


def test_filter(tmp_path):
    make_run(tmp_path, "exact")
    plain = make_run(tmp_path, "backprop")

    async def script(pilot):
        table = await listed(pilot, 2)
        await pilot.press("slash", *"backprop fin", "enter")
        assert len(table.render().plain.splitlines()) == 2
        assert table.key == plain.id
        await pilot.press("escape")
        assert len(table.render().plain.splitlines()) == 3

    in_app(Dashboard(Runs(tmp_path)), script)


def test_select_several_and_open_them_together(tmp_path):
    runs = [make_run(tmp_path) for _ in range(3)]

    async def script(pilot):
        await listed(pilot, 3)
        await pilot.press("space", "space", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        assert [run.id for run in pilot.app.screen.runs] == [runs[2].id, runs[1].id]
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, RunListScreen)

    in_app(Dashboard(Runs(tmp_path)), script)


def test_delete_asks_and_spares_what_is_being_trained(tmp_path):
    run, other = make_run(tmp_path), make_run(tmp_path)

    async def script(pilot):
        await listed(pilot, 2)
        await pilot.press("d", "escape")
        assert other.exists()
        await pilot.press("d", "d")
        await until(pilot, lambda: not other.exists())
        await listed(pilot, 1)
        with RunLock(run.lock_file):
            await pilot.press("d", "d")
            await pilot.pause(1.5)
            await listed(pilot, 1)
        assert run.exists()

    in_app(Dashboard(Runs(tmp_path)), script)


def test_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs")

    async def script(pilot):
        await listed(pilot, 1)
        await pilot.press("e")
        await until(pilot, (tmp_path / f"{run.id}.csv").exists)
        await pilot.pause(0.3)

    in_app(Dashboard(Runs(tmp_path / "runs")), script)


def test_what_the_filter_hides_is_not_deleted(tmp_path):
    hidden, seen = make_run(tmp_path, "backprop"), make_run(tmp_path, "exact")

    async def script(pilot):
        table = await listed(pilot, 2)
        await pilot.press("down", "space", "slash", *"exact", "enter")
        assert table.key == seen.id
        await pilot.press("d", "d")
        await until(pilot, lambda: not seen.exists())
        assert hidden.exists()

    in_app(Dashboard(Runs(tmp_path)), script)


def test_export_of_several(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (make_run(tmp_path / "runs", name=name) for name in ("=1+1", "evil\x1b[31m"))

    async def script(pilot):
        await listed(pilot, 2)
        await pilot.press("space", "space", "e")
        path = tmp_path / f"{second.id}-{first.id}.csv"
        await until(pilot, path.exists)
        text = path.read_text()
        assert first.id in text
        assert second.id in text
        assert "\x1b" not in text

    in_app(Dashboard(Runs(tmp_path / "runs")), script)


def test_runs_that_come_and_go(tmp_path):
    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))
        table = pilot.app.screen.query_one("#runs", Table)
        await until(pilot, lambda: "no runs yet" in table.render().plain)
        run = make_run(tmp_path)
        await listed(pilot, 1)
        Runs(tmp_path).delete(run)
        await until(pilot, lambda: "no runs yet" in table.render().plain)

    in_app(Dashboard(Runs(tmp_path)), script)
