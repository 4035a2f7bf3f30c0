"""The screen that measures a run on demand: what it starts, and what it shows."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from engine.diagnosis.kept import keep
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.live import LiveScreen
from tests.dashboard.diagnosis_helper import DIAGNOSIS, is_measured, measurable, opened, said
from tests.dashboard.runs_helper import (
    in_app,
    live_screen,
    make_run,
    notices,
    resize,
    screen_lines,
    screen_text,
    until,
)

DOCUMENT = json.dumps(DIAGNOSIS.document())


class Measurement:
    """In the place of a process: ends when it is told to, by the test or by a signal."""

    def __init__(self, *command, **options):
        self.command = command
        self.returncode = None
        self._ended = asyncio.Event()

    @property
    def checkpoint(self):
        return self.command[self.command.index("--checkpoint") + 1]

    def end(self, out="", error="", code=0):
        self._output = out.encode(), error.encode()
        self.returncode = code
        self._ended.set()

    async def communicate(self):
        await self._ended.wait()
        return self._output

    async def wait(self):
        await self._ended.wait()
        return self.returncode

    def terminate(self):
        self.end(code=-15)


@pytest.fixture
def begun(monkeypatch):
    """The measurements that were begun."""
    begun = []

    async def start(*command, **options):
        begun.append(Measurement(*command, **options))
        return begun[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    return begun


def test_measures_where_nothing_was_kept(tmp_path, begun):
    run = measurable(tmp_path)

    async def script(pilot, screen):
        await until(pilot, lambda: len(begun) == 1)
        assert said(screen).startswith("measuring …")
        await pilot.press("r", "i")  # do not begin another
        assert not is_measured(screen)
        begun[0].end(DOCUMENT)
        await until(pilot, lambda: is_measured(screen))
        assert said(screen) == ""
        assert len(begun) == 1

    opened(run, script)
    assert begun[0].command == (
        *(sys.executable, "-m", "proxprop_cli", "diagnose", run.id),
        *("--checkpoint", "latest", "--json", "--dir", str(tmp_path.resolve())),
    )


def test_the_folder_of_data_sets_is_handed_on(tmp_path, begun, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def script(pilot, screen):
        await until(pilot, lambda: begun)

    opened(measurable(tmp_path / "runs"), script, data_dir=Path("sets"))
    assert begun[0].command[-2:] == ("--data-dir", str(tmp_path / "sets"))
    assert begun[0].returncode == -15  # ending the dashboard ended it


def test_leaving_ends_the_measurement(tmp_path, begun):
    async def script(pilot, screen):
        await until(pilot, lambda: begun)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await until(pilot, lambda: begun[0].returncode == -15)

    opened(measurable(tmp_path), script)


def test_without_a_checkpoint_the_start_can_be_measured(tmp_path, begun):
    run = make_run(tmp_path, status="diverged", diverged=(30, "the loss is not finite"))

    async def script(pilot, screen):
        await until(pilot, lambda: said(screen) == "no checkpoint: i measures the initial weights")
        assert not begun
        await until(pilot, lambda: "i At start" in screen_lines(pilot.app)[-1])
        await pilot.press("i")
        await until(pilot, lambda: begun)
        assert begun[0].checkpoint == "initial"
        begun[0].end(DOCUMENT)
        await until(pilot, lambda: is_measured(screen))
        assert said(screen) == ""

    opened(run, script, (60, 20))


def test_what_was_kept_is_shown_as_it_is_and_measured_again_on_demand(tmp_path, begun):
    run = measurable(tmp_path)
    keep(run, DIAGNOSIS)

    async def script(pilot, screen):
        await until(pilot, lambda: is_measured(screen))
        assert not begun
        for number, (key, checkpoint) in enumerate({"r": "latest", "i": "initial"}.items(), 1):
            await pilot.press(key)
            await until(pilot, lambda number=number: len(begun) == number)
            assert begun[-1].checkpoint == checkpoint
            begun[-1].end(DOCUMENT)
            await until(pilot, lambda: said(screen) == "")

    opened(run, script)


def test_what_goes_wrong_is_said(tmp_path, begun, monkeypatch):
    run = measurable(tmp_path)
    words = [f"word{n}" for n in range(20)]
    ends = {
        "no data": ("", "x\nproxprop: no data \x1b[31m\n\n", 3),
        "ended with code 9": ("", "", 9),
        "Expecting value": ("nonsense", "", 0),
        "not a diagnosis": ("{}", "", 0),
        "word19": ("", " ".join(words), 3),
    }

    async def script(pilot, screen):
        for number, (told, end) in enumerate(ends.items(), 1):
            await until(pilot, lambda number=number: len(begun) == number)
            begun[-1].end(*end)
            await until(pilot, lambda told=told: told in said(screen))
            assert "\x1b" not in said(screen)
            if told != "word19":
                await pilot.press("r")
        for size in ((60, 20), (30, 12)):  # a long error is not cut
            await resize(pilot, *size)
            await until(pilot, lambda: all(word in screen_text(pilot.app) for word in words))
            assert "Help" in screen_lines(pilot.app)[-1]

        tried = []

        async def can_not_start(*command, **options):
            tried.append(command)
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr(asyncio, "create_subprocess_exec", can_not_start)
        await pilot.press("r")
        await until(pilot, lambda: "can not be measured: No such file" in said(screen))
        await pilot.press("r")
        # it can be tried again
        await until(pilot, lambda: len(tried) == 2 and "No such file" in said(screen))
        run.database.write_bytes(b"nonsense" * 2000)
        await pilot.press("r")
        await until(pilot, lambda: "No such" not in said(screen))
        await until(pilot, lambda: "can not be measured" in said(screen))
        assert len(tried) == 2

    opened(run, script, (100, 30))


def test_a_damaged_file_is_said_and_measured_anew(tmp_path, begun):
    run = measurable(tmp_path)
    (run.path / "diagnosis.json").write_text("{")

    async def script(pilot, screen):
        await until(pilot, lambda: begun)
        begun[0].end(DOCUMENT)
        await until(pilot, lambda: is_measured(screen))

    opened(run, script)


def test_several_runs_are_not_measured(tmp_path, begun):
    runs = [make_run(tmp_path) for _ in range(2)]

    async def script(pilot):
        screen = await live_screen(pilot)
        await pilot.press("c")
        await until(pilot, lambda: notices(pilot.app) == ["conditioning: one run at a time"])
        assert pilot.app.screen is screen

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script)
    assert not begun
