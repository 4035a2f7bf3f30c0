"""The log: what is in it, in which order, and how it is moved."""

from __future__ import annotations

from textual.app import App

from engine.config import resolve
from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.run_log import last_words, with_evaluations
from proxprop_cli.dashboard.views import LogLine
from proxprop_cli.dashboard.widgets.log_pane import LogPane
from tests.dashboard.runs_helper import in_app, make_run, resize, until


def lines(*steps, text="line {}"):
    return [LogLine(1e9 + step, step, text.format(step)) for step in steps]


def pane_app():
    class PaneApp(App):
        def compose(self):
            yield LogPane()

    return PaneApp()


def rows(pane):
    return [pane.render_line(y).text for y in range(pane.size.height)]


def test_a_long_line_takes_one_row():
    async def script(pilot):
        pane = pilot.app.query_one(LogPane)
        pane.show([*lines(*range(20), text="a line of many words " * 9), *lines(20, text="last")])
        for width in (60, 30, 12, 1):
            await resize(pilot, width, 10)
            assert "step" in rows(pane)[-1] or width < 12
            if width >= 30:
                assert rows(pane)[-1].split() == ["step", "20", "last"]
                assert all(row.rstrip().endswith("…") for row in rows(pane)[:-1])

    in_app(pane_app(), script, (80, 10))


def test_looking_back_holds_still_while_lines_come():
    async def script(pilot):
        pane = pilot.app.query_one(LogPane)
        pane.focus()
        pane.show(lines(*range(30)))
        await pilot.press("k", "k", "k")
        before = [f"line {n}" for n in range(17, 27)]
        assert [row.split("  ")[-1].strip() for row in rows(pane)] == before
        pane.show(lines(*range(35)))
        await pilot.pause()
        assert [row.split("  ")[-1].strip() for row in rows(pane)] == before
        pane.show(lines(*range(5, 40)))  # the first ones were dropped
        await pilot.pause()
        assert [row.split("  ")[-1].strip() for row in rows(pane)] == before
        pane.show(lines(*range(100, 140)))  # all that were seen were
        await pilot.pause()
        assert rows(pane)[0].split("  ")[-1].strip() == "line 100"
        await pilot.press("end")
        assert rows(pane)[-1].split("  ")[-1].strip() == "line 139"
        pane.show(lines(*range(100, 141)))
        await pilot.pause()
        assert rows(pane)[-1].split("  ")[-1].strip() == "line 140"

    in_app(pane_app(), script, (60, 10))


def test_moving_back_ends_at_the_first_line_and_returns_at_once():
    async def script(pilot):
        pane = pilot.app.query_one(LogPane)
        pane.focus()
        pane.show(lines(*range(30)))
        await pilot.press("home", "pageup", "up")
        assert rows(pane)[0].split("  ")[-1].strip() == "line 0"
        assert len([row for row in rows(pane) if row.strip()]) == 10
        await pilot.press("down")
        assert rows(pane)[0].split("  ")[-1].strip() == "line 1"
        await pilot.press("end", "down", "down", "up")
        assert rows(pane)[-1].split("  ")[-1].strip() == "line 28"

    in_app(pane_app(), script, (60, 10))


def test_order_is_by_step_not_by_clock():
    """Evaluations are timed by the run's own clock, which may be ahead of that of the events."""
    events = [
        LogLine(100.0, 0, "started"),
        LogLine(101.0, 20, "paused"),
        LogLine(102.0, 20, "going on"),
        LogLine(103.0, 40, "finished"),
    ]
    found = {"train_loss": 1.0}
    evaluations = [(step, found | {"time/wall": step / 10}) for step in (0, 10, 20, 40)]
    told = with_evaluations(events, evaluations, begin=100.5)
    assert [(line.step, line.text.split()[0]) for line in told] == [
        (0, "started"),
        (0, "train"),
        (10, "train"),
        (20, "train"),
        (20, "paused"),
        (20, "going"),
        (40, "train"),
        (40, "finished"),
    ]
    assert [line.time for line in told] == sorted(line.time for line in told)


def test_finished_comes_after_the_last_evaluation(tmp_path):
    run = make_run(tmp_path, clock=lambda: 1e9)
    with StoreWriter(run.database, clock=lambda: 1e9) as writer:
        writer.append_event(40, "RunEnded", {"epoch": 4, "status": "finished", "reason": ""})
        writer.commit()
    feed = Feed(run)
    log = feed.poll().log
    assert log[-1].text == "finished"
    assert log[-2].text.startswith("train loss")
    assert log[-2].step == 40


def test_a_long_log_keeps_its_end(tmp_path):
    run = make_run(tmp_path)
    with StoreWriter(run.database) as writer:
        for number in range(1000):
            writer.append_event(40, "Warned", {"text": f"warning {number}"})
        writer.commit()
        feed = Feed(run)
        view = feed.poll()
        assert len(view.log) == 400
        assert view.log[-1].text == "warning 999"
        writer.append_event(40, "Warned", {"text": "one more"})
        writer.commit()
    view = feed.poll()
    assert len(view.log) == 400
    assert view.log[-1].text == "one more"


def test_a_trainer_that_died_at_the_start_leaves_its_last_words(tmp_path, monkeypatch):
    run = Runs(tmp_path).create(resolve({"preset": "digits-mlp"}, method="cg3"))
    feed = Feed(run)
    assert feed.poll().status == "starting"
    (run.path / "train.log").write_text("something\nproxprop: cuda is not there\x1b[0m\n\n")
    monkeypatch.setattr("proxprop_cli.dashboard.feed._PROBE_SECONDS", 0.0)
    monkeypatch.setattr("proxprop_cli.dashboard.run_status._WORDS_SECONDS", 0.0)
    view = feed.poll()
    assert view.status == "interrupted"
    assert not view.is_live
    assert "cuda is not there" in view.last_words
    assert any("cuda is not there" in line.text for line in view.log)
    # it holds the lock: it only had something to say
    with RunLock(run.lock_file):
        assert feed.poll().status == "starting"

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
        notice = pilot.app.screen.query_one("#notice")
        told = "did not start: proxprop: cuda is not there"
        await until(pilot, lambda: told in str(notice.render()))
        assert pilot.app.screen.views[0].status == "interrupted"
        assert "\x1b" not in str(notice.render())

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, (60, 20))


def test_last_words_of_a_log_that_is_none(tmp_path):
    assert last_words(tmp_path) == ""
    (tmp_path / "train.log").mkdir()
    assert last_words(tmp_path) == ""
    (tmp_path / "train.log").rmdir()
    (tmp_path / "train.log").write_bytes(b"x" * 100_000 + b"\n\xff the end \n")
    assert last_words(tmp_path) == "\N{REPLACEMENT CHARACTER} the end"


def test_who_could_not_move_back_still_follows():
    async def script(pilot):
        pane = pilot.app.query_one(LogPane)
        pane.focus()
        pane.show(lines(*range(5)))
        await pilot.press("up", "up")
        pane.show(lines(*range(30)))
        await pilot.pause()
        assert rows(pane)[-1].split("  ")[-1].strip() == "line 29"

    in_app(pane_app(), script, (60, 10))
