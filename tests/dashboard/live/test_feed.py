"""What is said of a run's pace and cost, and what happens to its store."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from engine.buckets import Buckets
from engine.control import Desired
from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.pace import samples_per_second
from tests.dashboard.runs_helper import in_app, live_screen, make_run, trace, until


def view_of(run):
    return Feed(run).poll()


def test_work_is_of_an_average_step_not_of_the_latest_traced_one(tmp_path):
    """The latest traced step may be an epoch's last one, with a smaller batch."""
    run = make_run(tmp_path, "cg3", traces=[trace(40, products=250_000.0)])
    assert view_of(run).work_per_step == pytest.approx(2.5)
    assert view_of(make_run(tmp_path, "backprop")).work_per_step == 1.0
    bare = make_run(tmp_path, "cg3", steps=0)
    assert view_of(bare).work_per_step is None


def test_rate_and_time_left(tmp_path):
    """0.01 s a step and as much for evaluation; 60 of 100 steps are left."""
    run = make_run(tmp_path, status="running", epochs=10, batch_size=50)
    limited = make_run(tmp_path, status="running", epochs=10, max_seconds=0.5)
    with RunLock(run.lock_file), RunLock(limited.lock_file):
        view = view_of(run)
        assert view.rate == pytest.approx(50 / 0.01)
        assert view.eta == pytest.approx(60 * 0.02)
        assert view_of(limited).eta == pytest.approx((0.5 - 0.4) * 2)


def test_a_damaged_event_does_not_end_the_following(tmp_path):
    run = make_run(tmp_path)
    with StoreWriter(run.database) as writer:
        writer.append_event(40, "RunEnded", {})
        writer.commit()
    feed = Feed(run)
    assert "damaged" in feed.poll().problem
    assert "damaged" in feed.poll().problem


def times(steps, seconds_of):
    numbers = np.arange(1, steps + 1)
    spent = np.cumsum([seconds_of(step) for step in numbers])
    return Buckets.of(numbers, spent)


@pytest.mark.parametrize("steps", [400, 407])
@pytest.mark.parametrize("live", [True, False])
def test_rate_is_of_full_batches(live, steps):
    """100 samples a second; of 15 batches of 100 the last has 37."""
    spent = times(steps, lambda step: 1.0 if step % 15 else 0.37)
    rate = samples_per_second(spent, 100, 15, live=live)
    assert rate == pytest.approx(100)
    assert samples_per_second(spent, 100, None, live=live) > 103


def test_rate_of_wide_buckets_and_of_epochs_of_one_step():
    spent = times(4000, lambda step: 1.0).coarser(64)
    assert samples_per_second(spent, 100, 15, live=False) == pytest.approx(100)
    assert samples_per_second(times(9, lambda step: 2.0), 100, 1, live=True) == pytest.approx(50)
    assert samples_per_second(None, 100, 15, live=True) is None
    assert samples_per_second(times(1, lambda step: 2.0), 100, 15, live=True) is None


def test_what_was_asked_for_is_shown_until_it_is_done(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
        await until(pilot, lambda: screen.views[0].is_live)
        run.set_desired(Desired.STOPPED)
        header = screen.query_one("#header")
        await until(pilot, lambda: "● running (stopping …)" in str(header.render()))
        assert screen.views[0].wanted == "stopping"
        with StoreWriter(run.database) as writer:
            writer.set_state({"status": "paused"})
            writer.commit()
        await until(pilot, lambda: screen.views[0].status == "paused")
        assert screen.views[0].wanted == "stopping"

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("status", ["finished", "stopped", "paused", "running"])
def test_a_run_that_is_told_to_go_on_starts(tmp_path, status, monkeypatch):
    run = make_run(tmp_path, status=status)
    log = run.path / "train.log"
    log.write_text("stopped; 'proxprop resume' goes on from here\n")
    os.utime(log, (1e9, 1e9))
    before = view_of(run).status
    assert before == ("interrupted" if status == "running" else status)
    run.set_desired(Desired.RUNNING)
    view = view_of(run)
    assert (view.status, view.has_trainer, view.is_live) == ("starting", True, True)
    with RunLock(run.lock_file):
        assert view_of(run).status == (status if status in ("paused", "running") else "starting")
        with StoreWriter(run.database) as writer:
            writer.set_state({"status": status})
            writer.commit()
        assert view_of(run).status == status, "it was heard"
    run.set_desired(Desired.RUNNING)
    moment = time.time()
    monkeypatch.setattr("proxprop_cli.dashboard.feed.time.time", lambda: moment + 5)
    assert view_of(run).status == "starting", "what the log has is of the trainer before"
    log.write_text("proxprop: there is no such data\n")
    assert view_of(run).status == before, "it could not begin"
    log.unlink()
    later = time.time() + 90
    monkeypatch.setattr("proxprop_cli.dashboard.feed.time.time", lambda: later)
    assert view_of(run).status == before, "nobody came"


@pytest.mark.parametrize("desired", [Desired.STOPPED, Desired.PAUSED])
def test_another_word_starts_nothing(tmp_path, desired):
    run = make_run(tmp_path, status="stopped")
    run.set_desired(desired)
    assert view_of(run).status == "stopped"


def test_what_diverged_does_not_go_on(tmp_path):
    run = make_run(tmp_path, status="diverged", diverged=(3, "the loss is not finite"))
    run.set_desired(Desired.RUNNING)
    assert view_of(run).status == "diverged"
