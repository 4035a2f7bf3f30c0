"""The screen of reconstructions, and the other screens on autoencoders."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import resolve
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.help import keys_of
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.reconstructions import ReconstructionsScreen
from proxprop_cli.dashboard.widgets.picture_wall import PictureWall
from tests.dashboard.autoencoder_helper import SIDE, add_epoch, make_autoencoder, reconstructed
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


async def opened(pilot):
    app = pilot.app
    await live_screen(pilot)
    await pilot.press("i")
    await until(pilot, lambda: isinstance(app.screen, ReconstructionsScreen))
    await until(pilot, lambda: app.screen.query_one(PictureWall).seen != (0, 0))
    await pilot.pause()


class TestScreen:
    def test_inputs_above_outputs(self, tmp_path, monkeypatch):
        monkeypatch.setattr("textual.constants.COLOR_SYSTEM", "truecolor")
        run = make_autoencoder(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await opened(pilot)
            shown = screen_lines(app)
            assert "4 of 8 samples · epoch 5" in shown[0]
            assert shown[1].startswith("input ")
            assert shown[10].startswith("output ")
            assert shown[11].startswith("epoch 5")
            assert shown[12].startswith("loss 3.63")
            wall = app.screen.query_one(PictureWall)
            made = np.frombuffer(reconstructed(50, 5).outputs, np.uint8).reshape(8, SIDE, SIDE)
            parts = [part for part in wall.render_line(9) if "▀" in part.text]
            assert [part.style.color.triplet.red for part in parts[:4]] == made[0, 0, :4].tolist()
            assert [part.style.bgcolor.triplet.red for part in parts[:4]] == made[0, 1, :4].tolist()
            await pilot.press("l")
            parts = [part for part in wall.render_line(9) if "▀" in part.text]
            assert parts[0].style.color.triplet.red == made[1, 0, 0]
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, LiveScreen))

        in_app(app, script, (80, 24))

    def test_epochs_back_and_forth_and_new_ones_as_they_come(self, tmp_path):
        run = make_autoencoder(tmp_path, status="running")
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await opened(pilot)
            await pilot.press("b")
            await until(pilot, lambda: "epoch 4 of 5" in screen_lines(app)[0])
            await pilot.press(*"bbbbbb")
            await until(pilot, lambda: "epoch 0 of 5" in screen_lines(app)[0])
            with StoreWriter(run.database) as writer:
                add_epoch(writer, 6)
            # who looks back stays
            await until(pilot, lambda: "epoch 0 of 6" in screen_lines(app)[0])
            await pilot.press("r")
            await until(pilot, lambda: screen_lines(app)[0].endswith("epoch 6"))
            with StoreWriter(run.database) as writer:
                add_epoch(writer, 7)
            await until(pilot, lambda: screen_lines(app)[0].endswith("epoch 7"))
            await pilot.press("b", "f", "f")
            await until(pilot, lambda: screen_lines(app)[0].endswith("epoch 7"))

        in_app(app, script, (80, 24))

    def test_any_size(self, tmp_path):
        runs = [make_autoencoder(tmp_path, id=id, seed=n) for n, id in enumerate("abc")]
        app = Dashboard(Runs(tmp_path), [run.id for run in runs])

        async def script(pilot):
            await opened(pilot)
            await until(pilot, lambda: "3 runs · 8 samples" in screen_lines(app)[0])
            assert app.screen.query_one(PictureWall).seen == (8, 8)
            await resize(pilot, 80, 24)
            await until(pilot, lambda: "1 of 3 runs · 4 of 8 samples" in screen_lines(app)[0])
            for size in ((1, 1), (3, 2), (20, 5), (300, 4), (200, 60)):
                await resize(pilot, *size)
                await pilot.press("plus", "plus", "minus", "j", "l", "k", "h")
                wall = app.screen.query_one(PictureWall)
                assert all(
                    wall.render_line(y).cell_length == wall.size.width
                    for y in range(wall.size.height)
                )
            await pilot.press("r")
            await until(pilot, lambda: app.screen.query_one(PictureWall).seen == (8, 8))

        in_app(app, script, (200, 60))

    def test_only_keys_that_bring_more_into_view(self, tmp_path):
        runs = [make_autoencoder(tmp_path, id=id, seed=n) for n, id in enumerate("abcd")]
        app = Dashboard(Runs(tmp_path), [run.id for run in runs])

        def keys():
            return {text for text in ("h/l Samples", "j/k Runs") if text in screen_lines(app)[-1]}

        async def script(pilot):
            await opened(pilot)
            await until(pilot, lambda: "4 runs · 8 samples" in screen_lines(app)[0])
            assert keys() == set()
            await resize(pilot, 80, 24)
            await until(pilot, lambda: "1 of 4 runs · 4 of 8 samples" in screen_lines(app)[0])
            await until(pilot, lambda: keys() == {"h/l Samples", "j/k Runs"})
            await resize(pilot, 40, 10)
            await until(pilot, lambda: screen_lines(app)[0].startswith(" 1 of 4 runs"))
            await pilot.press("b")
            title = " 1/4 runs · 4/8 samples · epoch 4 of 5"
            await until(pilot, lambda: screen_lines(app)[0] == title)
            await resize(pilot, 200, 24)
            await until(pilot, lambda: keys() == {"j/k Runs"})
            await pilot.press("minus", "minus")
            await until(pilot, lambda: "of 4 runs" not in screen_lines(app)[0])
            await until(pilot, lambda: keys() == set())

        in_app(app, script, (200, 60))

    @pytest.mark.parametrize("no_color", ["", "1"])
    def test_without_colours_or_with_16_of_which_few_are_grey(
        self, tmp_path, monkeypatch, no_color
    ):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr("textual.constants.COLOR_SYSTEM", "standard")
        run = make_autoencoder(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await opened(pilot)
            shown = "".join(screen_lines(app)[1:])
            assert "▀" not in shown
            assert all(shade in shown for shade in "░▒▓")

        in_app(app, script, (80, 24))

    def test_only_for_autoencoders(self, tmp_path):
        run = make_run(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await live_screen(pilot)
            await until(pilot, lambda: "Quit" in screen_lines(app)[-1])
            assert "Images" not in screen_lines(app)[-1]
            assert "i" not in dict(keys_of(app.screen))
            await pilot.press("i")
            await until(pilot, lambda: notices(app) == ["no autoencoder here"])
            await until(pilot, lambda: isinstance(app.screen, LiveScreen))

        in_app(app, script)

    def test_before_the_first_evaluation(self, tmp_path):
        document = {"model": {"kind": "autoencoder"}, "loss": "reconstruction"}
        run = Runs(tmp_path).create(resolve(document, method="backprop"))
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.views)
            await until(pilot, lambda: app.screen.autoencoders)
            await pilot.press("i")
            await until(pilot, lambda: "no reconstructions yet" in screen_text(app))
            await pilot.press("b", "f", "plus", "j", "r")

        in_app(app, script, (80, 24))


class TestLosses:
    """The other screens on runs without accuracies."""

    def test_a_run(self, tmp_path):
        run = make_autoencoder(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await live_screen(pilot)
            title = "2 Loss · validation 3.533 · test 3.633"
            await until(pilot, lambda: title in screen_text(app))
            shown = screen_text(app)
            assert "test 3.633" in shown.partition("5 Log")[2]
            assert "%" not in shown
            assert "ccuracy" not in shown
            chart = app.screen.query_one("#accuracy")
            assert [line.label for line in chart.lines] == ["validation", "test"]
            assert chart.log_y
            await pilot.press("2", "y")
            assert not chart.log_y

        in_app(app, script, (160, 40))

    def test_several_runs_and_the_list(self, tmp_path):
        runs = [make_autoencoder(tmp_path, id=f"run{n}", seed=n) for n in range(2)]
        app = Dashboard(Runs(tmp_path), [run.id for run in runs])

        async def script(pilot):
            screen = await live_screen(pilot)
            await until(pilot, lambda: "2 Test loss" in screen_text(app))
            assert "3.53" in screen_text(app)  # validation, in the table
            assert "%" not in screen_text(app)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is not screen and "3.53" in screen_text(app))
            assert "%" not in screen_text(app)

        in_app(app, script, (160, 40))
