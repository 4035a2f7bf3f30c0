"""The list of runs: filter, selection, open, export, delete."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from engine.control import Desired
from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.catalog import Catalog
from proxprop_cli.dashboard.exports import fresh, write_curves, write_metrics
from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.list_rows import list_row
from proxprop_cli.dashboard.screens.comparison import ComparisonScreen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, live_screen, make_run, notices, until
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
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))

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
            told = len(notices(pilot.app))
            await pilot.press("d", "d")
            await until(pilot, lambda: len(notices(pilot.app)) > told)
            assert run.id in notices(pilot.app)[-1]
            await listed(pilot, 1)
        assert run.exists()

    in_app(Dashboard(Runs(tmp_path)), script)


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
        await until(pilot, lambda: notices(pilot.app))
        text = (tmp_path / f"{second.id}-{first.id}.csv").read_text()
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
        assert "selected" not in str(screen.query_one("#title").render())
        assert (tmp_path / sweep.id / "sweep.json").exists()
        assert len(notices(pilot.app)) == 4

    in_app(Dashboard(Runs(tmp_path)), script)


def test_a_damaged_sweep_does_not_hide_the_rest(tmp_path):
    make_run(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{")

    async def script(pilot):
        await listed(pilot, 1)

    in_app(Dashboard(Runs(tmp_path)), script)


def test_what_stands_in_the_log_of_the_store_only_is_seen(tmp_path):
    run = make_run(tmp_path, status="paused")
    catalog = Catalog(Runs(tmp_path))
    (entry,) = catalog.entries()
    assert entry.epoch == 4
    with StoreWriter(run.database) as writer:
        before = run.database.stat()
        writer.set_state({"epoch": 17})
        writer.commit()
        after = run.database.stat()
        assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        (entry,) = catalog.entries()
        assert entry.epoch == 17


def test_nothing_is_looked_at_while_the_list_is_hidden(tmp_path, monkeypatch):
    make_run(tmp_path)
    monkeypatch.setattr("proxprop_cli.dashboard.screens.run_list._POLL_SECONDS", 0.02)
    looks, polls = [], []
    entries, poll = Catalog.entries, Feed.poll
    monkeypatch.setattr(Catalog, "entries", lambda it: looks.append(1) or entries(it))
    monkeypatch.setattr(Feed, "poll", lambda it, keys: polls.append(1) or poll(it, keys))

    async def script(pilot):
        await listed(pilot, 1)
        await until(pilot, lambda: len(looks) > 3)
        await pilot.press("enter")
        await live_screen(pilot)
        seen = await beside_five_polls(pilot)
        assert await beside_five_polls(pilot) == seen
        await pilot.press("escape")
        await until(pilot, lambda: len(looks) > seen)

    async def beside_five_polls(pilot):
        """Wait for looks of the run that is shown, and return how many there were at the list."""
        before = len(polls)
        await until(pilot, lambda: len(polls) >= before + 5)
        return len(looks)

    in_app(Dashboard(Runs(tmp_path)), script)


def test_a_run_that_gets_its_data_ready_is_starting(tmp_path):
    now = time.time()
    make_run(tmp_path, id="new", status="created", steps=0)
    late = make_run(tmp_path, id="late", status="created", steps=0, clock=lambda: now - 60)
    os.utime(late.request_file, (now - 60, now - 60))
    catalog = Catalog(Runs(tmp_path))
    assert {e.id: e.status for e in catalog.entries()} == {"new": "starting", "late": "interrupted"}
    with RunLock(late.lock_file):
        found = {entry.id: entry for entry in Catalog(Runs(tmp_path)).entries()}
        assert found["late"].status == "starting"
    assert "○ starting" in list_row(found["late"], selected=False).cells


def test_a_sweep_whose_process_has_not_taken_it_yet_is_starting(tmp_path):
    sweep = make_sweep(tmp_path, [("exact", 1.0, 0, Made(None))])
    folder = Run(tmp_path / sweep.id)
    catalog = Catalog(Runs(tmp_path))
    folder.set_desired(Desired.RUNNING)
    assert [entry.status for entry in catalog.entries()] == ["starting"]
    with RunLock(folder.lock_file):
        assert [entry.status for entry in catalog.entries()] == ["running"]
    # it was there, and is gone
    assert [entry.status for entry in catalog.entries()] == ["interrupted"]
    os.utime(folder.request_file, (time.time() - 60,) * 2)
    assert [entry.status for entry in Catalog(Runs(tmp_path)).entries()] == ["interrupted"]


def test_an_export_takes_the_place_of_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs")
    mine = tmp_path / f"{run.id}.csv"
    mine.write_text("mine")

    async def script(pilot):
        await listed(pilot, 1)
        await pilot.press("e")
        second = tmp_path / f"{run.id}-2.csv"
        await until(pilot, lambda: notices(pilot.app))
        (told,) = notices(pilot.app)
        assert told.endswith(f"rows to {second}")
        assert second.exists()
        assert mine.read_text() == "mine"

    in_app(Dashboard(Runs(tmp_path / "runs")), script)


def test_fresh_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fresh(Path("a.csv")) == tmp_path / "a.csv"
    (tmp_path / "a.csv").touch()
    (tmp_path / "a-2.csv").symlink_to(tmp_path / "nothing")
    assert fresh(Path("a.csv")) == tmp_path / "a-3.csv"


def test_exports_can_be_read_as_the_umask_has_it(tmp_path):
    umask = os.umask(0o002)
    try:
        write_curves(tmp_path / "view.csv", [])
        write_metrics(tmp_path / "all.csv", [make_run(tmp_path / "runs")])
    finally:
        os.umask(umask)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("view.csv", "all.csv")}
    assert modes == {0o664}
