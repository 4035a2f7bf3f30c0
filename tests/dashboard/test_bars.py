"""What the dashboard may cost, on a quiet machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.views import Place
from tests.cli.terminal import SMALL
from tests.dashboard.conftest import Window
from tests.dashboard.runs_helper import make_run, trace

pytestmark = [pytest.mark.timing, pytest.mark.slow, pytest.mark.timeout(900)]
READS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
STEPS = 100_000


@pytest.fixture
def short_periods():
    """Leave the periods of the looks at the disk as they are."""


def test_first_frame_against_an_empty_app(tmp_path):
    run = make_run(tmp_path, "cg3", traces=[trace(40)])
    script = Path(__file__).with_name("first_frame.py")
    ways = {"empty": ["empty"], "dashboard": [str(tmp_path), run.id]}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(9):
        for name, arguments in ways.items():
            command = [sys.executable, str(script), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times[name].append(float(done.stdout))
    ratio = statistics.median(times["dashboard"]) / statistics.median(times["empty"])
    assert ratio <= 1.3, times


def test_fifty_long_runs_open_and_redraw(tmp_path, monkeypatch):
    # from the start by the loss that every step has
    monkeypatch.setattr("proxprop_cli.dashboard.screens.live_base.LOSSES", ("batch_loss",))
    random = np.random.default_rng(0)
    runs = []
    for number in range(10):
        noise = np.exp(random.normal(-number / 10, 0.3, STEPS)) * np.linspace(3, 0.1, STEPS)
        values = {"batch_loss": noise.tolist()}
        run = make_run(tmp_path, steps=STEPS, values=values, per_epoch=500)
        copies = [tmp_path / f"{run.id}-{copy}" for copy in range(4)]
        runs += [run, *(Run(shutil.copytree(run.path, copy)) for copy in copies)]

    async def go():
        start = time.perf_counter()
        app = Dashboard(Runs(tmp_path), [run.id for run in runs])
        async with app.run_test(size=(200, 60)) as pilot:
            screen = None
            while not (screen and len(screen.query_one("#loss").lines) == 50):
                await asyncio.sleep(0.01)
                screen = app.screen if isinstance(app.screen, LiveScreen) else None
            await pilot.pause()
            opened = time.perf_counter() - start
            redraws = []
            for _ in range(9):
                screen.action_x_axis()  # other places for all points of all lines
                chart = screen.query_one("#loss")
                start = time.perf_counter()
                screen.draw()
                for y in range(chart.size.height):
                    chart.render_line(y)
                redraws.append(time.perf_counter() - start)
            # the same as ten rows of five seeds, banded
            screen.members = tuple(
                replace(member, place=Place(f"row {n // 5}", n % 5, n // 5, n))
                for n, member in enumerate(screen.members)
            )
            screen.views = tuple(
                replace(view, place=member.place)
                for view, member in zip(screen.views, screen.members, strict=True)
            )
            banded = []
            for _ in range(9):
                screen.action_x_axis()
                start = time.perf_counter()
                screen.draw()
                for y in range(chart.size.height):
                    chart.render_line(y)
                banded.append(time.perf_counter() - start)
            assert len(chart.lines) == 10
            return opened, statistics.median(redraws), statistics.median(banded)

    tries = [asyncio.run(go()) for _ in range(3)]
    opened, redraw, banded = map(min, zip(*tries, strict=True))
    assert opened < 2.0, tries
    assert redraw < 0.05
    assert banded < 0.05


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@READS_PROC
def test_watching_a_live_run_takes_little_of_a_core(terminal, window):
    run = make_run(terminal.runs, "cg3", steps=2000, status="running", traces=[trace(2000)])
    with RunLock(run.lock_file), StoreWriter(run.database) as writer:
        shown = window("watch")
        shown.until_shown("running")
        step, spent = 2000, []
        start = time.monotonic()
        while time.monotonic() - start < 15:
            steps = list(range(step + 1, step + 51))
            step += 50
            clock = [0.01 * step for step in steps]
            block = {"batch_loss": [1 / step for step in steps], "direction_norm": clock}
            writer.append_block(steps, block | {"time/train": clock, "time/wall": clock})
            writer.set_state({"step": step})
            writer.commit()
            for _ in range(5):
                shown.read(0.1)
            spent.append((time.monotonic(), cpu_seconds(shown.process.pid)))
        (begin, before), (end, after) = spent[8], spent[-1]
    assert (after - before) / (end - begin) < 0.04


def test_training_beside_the_dashboard(terminal, window):
    """Windows of training with and without a dashboard take turns."""
    assert terminal("train", *SMALL, "--epochs", "1000000", "--detach").code == 0
    run = Runs(terminal.runs).all()[0]
    rates: dict[bool, list[float]] = {True: [], False: []}
    try:
        terminal.wait_for_steps(1)
        for turn in range(12):
            watched = turn % 2 == 0
            shown = window("watch") if watched else None
            if shown is not None:
                shown.until_shown("running")
            _drain(shown, 4)
            begin, first = time.monotonic(), _step(run)
            _drain(shown, 6)
            rates[watched].append((_step(run) - first) / (time.monotonic() - begin))
            if shown is not None:
                shown.press("q")
                shown.until_shown("detach")
                shown.press("d")
                assert shown.leave() == 0
    finally:
        terminal("stop", run.id)
    ratios = [with_ / without for with_, without in zip(rates[True], rates[False], strict=True)]
    assert statistics.median(ratios) >= 0.98, rates


def _drain(shown: Window | None, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if shown is None:
            time.sleep(0.1)
        else:
            shown.read()


def _step(run: Run) -> int:
    from engine.store_reader import StoreReader

    with StoreReader(run.database) as reader:
        return int(reader.state()["step"])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@READS_PROC
def test_memory_stays_flat_over_an_hour_of_steps(tmp_path):
    """Of a stream of 100 steps a second: the feed keeps as much at the end as early on."""
    run = make_run(tmp_path, "cg3", steps=10, status="running")
    feed = Feed(run)
    sizes = []
    with RunLock(run.lock_file), StoreWriter(run.database) as writer:
        for block in range(360):
            first = 11 + 1000 * block
            steps = list(range(first, first + 1000))
            clock = [0.01 * step for step in steps]
            values = dict.fromkeys(("batch_loss", "direction_norm", "time/train"), clock)
            writer.append_block(steps, values | {"time/wall": clock})
            writer.append_traces([trace(steps[-1], layer) for layer in "135"])
            writer.append_event(steps[-1], "Warned", {"text": f"at {steps[-1]}"})
            writer.commit()
            view = feed.poll(frozenset(("batch_loss", "direction_norm", "time/wall")))
            kept = sum(len(buckets) for buckets in view.series.values()) + len(view.log)
            sizes.append((kept, resident_bytes()))
    assert view.series["batch_loss"].last[-1] == steps[-1]
    assert max(kept for kept, _ in sizes) < 10 * 4096 + 500
    early, late = sizes[60][1], sizes[-1][1]
    assert late - early < 8 * 2**20
