"""The keys at the lower edge: whole, the most important first."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.keys import NAMES
from proxprop_cli.dashboard.screens.help import HelpScreen, keys_of
from tests.dashboard.runs_helper import in_app, make_run, resize, screen_lines, until
from tests.dashboard.sweep_helper import Made, make_comparison, make_sweep


def last_line(app):
    return screen_lines(app)[-1]


NEEDED = {
    "live": ("enter Full", "/ Filter", "+/- Zoom", "1-5 Pane", "e Export", "m Smooth"),
    "list": ("enter Open", "/ Filter", "space Select", "e Export", "d Delete", "t Cells"),
    "grid": ("enter Open", "m Metric", "e Export"),
    "comparison": ("enter Full", "/ Filter", "b Band", "+/- Zoom", "1-5 Pane", "v Metric"),
}


@pytest.mark.parametrize("screen", ["live", "list", "grid", "comparison"])
def test_no_key_is_cut_and_more_room_shows_more(tmp_path, screen):
    run = make_run(tmp_path, status="running")
    comparison = make_comparison(tmp_path, ("exact",), 2, made=1)
    sweep = make_sweep(tmp_path, [("exact", 1.0, 0, Made("running"))])
    shown = {"live": [run.id]}.get(screen, [])
    which = {"grid": sweep.id, "comparison": comparison.id}.get(screen)

    async def script(pilot):
        ready = ("enter", "Filter") if screen == "list" else ("p Pause", "s Stop", "q Quit")
        await until(pilot, lambda: all(text in last_line(pilot.app) for text in ready))
        assert "esc" in last_line(pilot.app)
        seen = []
        for width in (12, 40, 80, 200):
            await resize(pilot, width, 24)
            words = last_line(pilot.app).split()
            assert len(words) % 2 == 0
            bound = {
                NAMES.get(key, key)
                for active in pilot.app.screen.active_bindings.values()
                for key in active.binding.key.split(",")
            }
            # +/-, 1-5 and h/l stand for several
            assert all({key, key[0]} & bound for key in words[::2])
            seen.append(words)
            # the least that a person is to find without any other help
            least = {80: 2, 200: len(NEEDED[screen])}.get(width, 0)
            assert all(text in last_line(pilot.app) for text in NEEDED[screen][:least])
        assert all(wide[: len(narrow)] == narrow for narrow, wide in pairwise(seen))
        assert len(seen[-1]) > len(seen[1])

    folder = Run(tmp_path / (which or run.id))
    if screen == "list":
        in_app(Dashboard(Runs(tmp_path)), script, (80, 24))
        return
    with RunLock(folder.lock_file):
        in_app(Dashboard(Runs(tmp_path), shown, sweep=which), script, (80, 24))


def test_the_help_of_a_comparison_has_the_keys_of_the_live_screen(tmp_path):
    sweep = make_comparison(tmp_path, ("exact",), 2)

    async def script(pilot):
        # the band is offered once the runs are read, which is after the panes stand
        await until(pilot, lambda: {"b", "x"} <= dict(keys_of(pilot.app.screen)).keys())

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def test_a_click_is_the_key(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        await until(pilot, lambda: "? Help" in last_line(pilot.app))
        await pilot.click(offset=(last_line(pilot.app).index("? Help") + 2, 23))
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, (80, 24))
