"""The list of runs: filter, selection, open, export, delete."""

from __future__ import annotations

from engine.locks import RunLock
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.comparison import ComparisonScreen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, make_run, until
from tests.dashboard.sweep_helper import Made, make_comparison, make_sweep


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


def test_sweeps_are_listed_their_runs_folded_away(tmp_path):
    run = make_run(tmp_path, "backprop")
    cells = [
        ("exact", 1.0, 0, Made()),
        ("exact", 0.1, 0, Made("diverged")),
        ("exact", 2.0, 0, Made(None)),
    ]
    make_sweep(tmp_path, cells, created=run.created - 60)

    async def script(pilot):
        table = await listed(pilot, 2)
        _, first, second = table.render().plain.splitlines()
        assert run.id in first
        assert "interrupted  2/3 runs" in second
        screen = pilot.app.screen
        assert "2 of sweeps not shown" in str(screen.query_one("#title").render())
        await pilot.press("t")
        await listed(pilot, 4)
        (line,) = (text for text in table.render().plain.splitlines() if "sweep-1" in text)
        assert line.split()[-1] == "sweep"
        await pilot.press("slash", *"sweep-0", "enter")
        assert table.keys == ("sweep-0",)
        await pilot.press("escape", "t")
        await listed(pilot, 2)

    in_app(Dashboard(Runs(tmp_path)), script, (160, 40))


def test_enter_opens_what_kind_of_sweep_it_is(tmp_path):
    make_comparison(tmp_path, ("exact",), 1)
    make_sweep(tmp_path, [("exact", 1.0, 0, Made())], created=1.8e9)

    async def script(pilot):
        table = await listed(pilot, 2)
        assert table.key == "sweep"
        listing = pilot.app.screen
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await pilot.press("escape", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ComparisonScreen))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is listing)

    in_app(Dashboard(Runs(tmp_path)), script)


def test_a_sweep_is_neither_selected_nor_deleted_nor_exported(tmp_path):
    sweep = make_sweep(tmp_path, [("exact", 1.0, 0, Made())])

    async def script(pilot):
        await listed(pilot, 1)
        screen = pilot.app.screen
        await pilot.press("space", "e", "d", "d")
        assert pilot.app.screen is screen
        assert not screen._selected
        assert (tmp_path / sweep.id / "sweep.json").exists()
        assert pilot.app._notifications

    in_app(Dashboard(Runs(tmp_path)), script)


def test_a_damaged_sweep_does_not_hide_the_rest(tmp_path):
    make_run(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{")

    async def script(pilot):
        await listed(pilot, 1)

    in_app(Dashboard(Runs(tmp_path)), script)
