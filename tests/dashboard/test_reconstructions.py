"""Reconstructions as half blocks: the right shades in the right places, at any size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from rich.color import ColorSystem

from engine.config import resolve
from engine.events import Reconstructed
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.album import Album, PictureRow, epochs_of, rows_of, to_show
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.half_blocks import SCALES, cells_of, line_of, scaled
from proxprop_cli.dashboard.screens.help import keys_of
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.reconstructions import ReconstructionsScreen
from proxprop_cli.dashboard.views import Place, RunView
from proxprop_cli.dashboard.widgets.picture_wall import PictureWall, hang
from tests.dashboard.runs_helper import in_app, make_run, notices, until

SIDE = 16


def reconstructed(step, epoch, *, seed=0, count=8, side=SIDE):
    inputs = np.random.default_rng(7).integers(0, 256, (count, 1, side, side), np.uint8)
    outputs = np.random.default_rng(100 * seed + step).integers(0, 256, inputs.shape, np.uint8)
    samples = tuple(range(count))
    shape = (1, side, side)
    return Reconstructed(step, epoch, "test", samples, shape, inputs.tobytes(), outputs.tobytes())


def make_autoencoder(root, *, id=None, method="backprop", epochs=5, seed=0, status="finished"):
    document = {"preset": "usps-autoencoder", "epochs": epochs, "loss": "reconstruction"}
    document["model"] = {"kind": "autoencoder"}
    run = Runs(root).create(resolve(document, method=method, overrides={"seed": seed}), id=id)
    with StoreWriter(run.database) as writer:
        started = {"resumed": False, "steps_per_epoch": 10, "environment": {}}
        writer.append_event(0, "RunStarted", started)
        writer.append_block(range(1, 10 * epochs + 1), {"batch_loss": [3.0] * (10 * epochs)})
        for epoch in range(epochs + 1):
            add_epoch(writer, epoch, seed=seed)
        writer.set_state({"status": status})
    return run


def add_epoch(writer, epoch, *, seed=0):
    losses = {f"{part}_loss": 20 / (epoch + 1) + place for place, part in PARTS}
    metrics = {"epoch": epoch, "time/train": 0.1 * epoch, "time/wall": 0.2 * epoch, **losses}
    writer.append_metrics(10 * epoch, metrics)
    writer.add_reconstructions(reconstructed(10 * epoch, epoch, seed=seed))
    writer.set_state({"step": 10 * epoch, "epoch": epoch, "metrics": metrics})


PARTS = ((0.1, "train"), (0.2, "val"), (0.3, "test"))


class TestHalfBlocks:
    def test_a_cell_is_two_pixels_one_above_the_other(self):
        picture = np.array([[0, 10, 10], [255, 20, 20], [7, 8, 9]], np.uint8)
        first, second = (line_of(picture, line, colorful=True) for line in (0, 1))
        assert [part.text for part in first] == ["▀", "▀▀"]
        assert [part.style.color.triplet.red for part in first] == [0, 10]
        assert [part.style.bgcolor.triplet.hex for part in first] == ["#ffffff", "#141414"]
        assert [part.style.color.triplet.hex for part in second] == [
            "#070707",
            "#080808",
            "#090909",
        ]
        assert all(part.style.bgcolor is None for part in second)  # there is no pixel below

    def test_without_colours_in_the_terminal_s_own_ink(self):
        picture = np.array([[0, 60, 130, 200, 255], [0, 60, 130, 200, 255]], np.uint8)
        (part,) = line_of(picture, 0, colorful=False)
        assert (part.text, part.style) == (" ░▒▓█", None)
        (part,) = line_of(picture[:1], 0, colorful=False)
        assert part.text == " ░▒▓█"

    def test_larger_repeats_and_smaller_is_the_mean(self):
        picture = np.array([[0, 100, 50], [200, 100, 50], [8, 8, 9]], np.uint8)
        larger = scaled(picture, Fraction(2))
        assert larger.tolist()[:2] == [[0, 0, 100, 100, 50, 50]] * 2
        assert larger.shape == (6, 6)
        assert scaled(picture, Fraction(1, 2)).tolist() == [[100, 50], [8, 9]]

    @pytest.mark.parametrize("scale", SCALES)
    @pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (16, 16), (13, 29), (32, 32)])
    def test_as_many_cells_as_was_said(self, scale, height, width):
        picture = np.zeros((height, width), np.uint8)
        lines, columns = cells_of(height, width, scale)
        found = scaled(picture, scale)
        assert found.shape[1] == columns
        assert (found.shape[0] + 1) // 2 == lines
        parts = line_of(found, lines - 1, colorful=True)
        assert sum(len(part.text) for part in parts) == columns


def rows(count, side=SIDE, samples=8):
    pictures = np.zeros((samples, side, side), np.uint8)
    return [PictureRow(("output", "epoch 50", "loss 3.62"), pictures) for _ in range(count)]


class TestHanging:
    @pytest.mark.parametrize(
        ("size", "runs", "side", "expected"),
        [
            ((80, 22), 1, 16, (1, 2, 4)),
            ((60, 18), 1, 16, (1, 2, 3)),
            ((200, 58), 1, 16, (1, 2, 8)),
            ((200, 58), 5, 16, (1, 6, 8)),
            ((80, 22), 5, 16, (1, 2, 4)),
            ((80, 22), 1, 8, (2, 2, 4)),
            ((80, 22), 1, 32, (Fraction(1, 2), 2, 4)),
        ],
    )
    def test_pictures_in_which_something_can_be_made_out(self, size, runs, side, expected):
        found = hang(rows(runs + 1, side), *size)
        assert (found.scale, found.rows, found.count) == expected

    def test_never_more_than_there_is_room_for(self):
        for width in range(0, 90, 7):
            for height in range(0, 40, 3):
                for zoom in (-3, 0, 2):
                    one = hang(rows(3), width, height, zoom)
                    if one.rows and one.count:
                        assert one.rows * (one.lines + 1) - 1 <= height
                        assert one.words + one.count * (one.columns + 1) - 1 <= width

    def test_zoom_goes_through_the_scales(self):
        found = [hang(rows(2), 200, 58, zoom).scale for zoom in (-1, 0, 1, 2, 50)]
        assert found[:4] == [Fraction(1, 2), 1, 2, 3]
        assert found[4] < 16  # one picture is seen at least


class TestAlbum:
    def test_only_what_has_changed_is_new(self, tmp_path):
        one, other = make_autoencoder(tmp_path, id="a"), make_autoencoder(tmp_path, id="b", seed=1)
        album = Album({"one": one, "other": other})
        first = album.look()
        assert [leaf.made.epoch for leaf in first[0].leaves] == [0, 1, 2, 4, 5]
        assert first[0].leaves[-1].loss == pytest.approx(20 / 6 + 0.3)
        with StoreWriter(other.database) as writer:
            add_epoch(writer, 6, seed=1)
        second = album.look()
        assert second[0] is first[0]
        assert [leaf.made.epoch for leaf in second[1].leaves] == [0, 1, 2, 4, 6]
        other.database.write_bytes(b"nonsense" * 2000)
        album.close()
        third = album.look()
        assert third[0].leaves == first[0].leaves
        assert third[1].problem
        assert third[1].leaves == second[1].leaves
        album.close()

    def test_rows_of_an_epoch(self, tmp_path):
        album = Album({"one": make_autoencoder(tmp_path, id="a", epochs=2)})
        (shelf,) = album.look()
        album.close()
        assert epochs_of([shelf]) == [0, 1, 2]
        inputs, outputs = rows_of([shelf])
        assert (inputs.words, outputs.words) == (("input", "test"), ("one", "epoch 2", "loss 6.97"))
        made = np.frombuffer(reconstructed(20, 2).outputs, np.uint8).reshape(8, SIDE, SIDE)
        assert np.array_equal(outputs.pictures, made)
        assert rows_of([shelf], 1.0)[1].words[1] == "epoch 1"
        assert rows_of([shelf], 1.7)[1].words[1] == "epoch 1"
        assert rows_of([shelf], -1.0) == []

    def test_of_a_row_of_a_sweep_the_first_seed(self, tmp_path):
        runs = [make_autoencoder(tmp_path, id=id) for id in ("a0", "a1", "b0", "b1")]
        places = [Place(run.id[0], int(run.id[1]), "ab".index(run.id[0]), 0) for run in runs]
        views = [RunView(run.id, place) for run, place in zip(runs, places, strict=True)]
        assert to_show(views, runs) == {"a": runs[0], "b": runs[2]}
        assert to_show(views[:2], runs) == {"seed 0": runs[0], "seed 1": runs[1]}
        assert to_show(views[3:], runs) == {"output": runs[3]}


async def opened(pilot, runs=1):
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.views)
    await until(pilot, lambda: app.screen.views[0].series)
    # runs that were not read yet are none of the screen's
    await until(pilot, lambda: len(app.screen.autoencoders) >= runs)
    await pilot.press("i")
    await until(pilot, lambda: isinstance(app.screen, ReconstructionsScreen))
    await until(pilot, lambda: app.screen.query_one(PictureWall).seen != (0, 0))
    await pilot.pause()


def lines_of(app):
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


class TestScreen:
    def test_inputs_above_outputs(self, tmp_path):
        run = make_autoencoder(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await opened(pilot)
            shown = lines_of(app)
            assert "4 of 8 samples · epoch 5" in shown[0]
            assert shown[1].startswith("input ")
            assert shown[10].startswith("output ")
            assert shown[11].startswith("epoch 5")
            assert shown[12].startswith("loss 3.63")
            wall = app.screen.query_one(PictureWall)
            assert "▀" not in wall.render_line(9).text  # in 16 colours there are few greys
            app.console._color_system = ColorSystem.TRUECOLOR
            made = np.frombuffer(reconstructed(50, 5).outputs, np.uint8).reshape(8, SIDE, SIDE)
            parts = [part for part in wall.render_line(9) if "▀" in part.text]
            assert [part.style.color.triplet.red for part in parts[:4]] == made[0, 0, :4].tolist()
            assert [part.style.bgcolor.triplet.red for part in parts[:4]] == made[0, 1, :4].tolist()
            await pilot.press("l")
            parts = [part for part in wall.render_line(9) if "▀" in part.text]
            assert parts[0].style.color.triplet.red == made[1, 0, 0]
            await pilot.press("escape")
            assert isinstance(app.screen, LiveScreen)

        in_app(app, script, (80, 24))

    def test_epochs_back_and_forth_and_new_ones_as_they_come(self, tmp_path):
        run = make_autoencoder(tmp_path, status="running")
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await opened(pilot)
            await pilot.press("b")
            await pilot.pause()
            assert "epoch 4 of 5" in lines_of(app)[0]
            for _ in range(9):
                await pilot.press("b")
            await pilot.pause()
            assert "epoch 0 of 5" in lines_of(app)[0]
            with StoreWriter(run.database) as writer:
                add_epoch(writer, 6)
            await until(pilot, lambda: "epoch 0 of 6" in lines_of(app)[0])  # who looks back stays
            await pilot.press("r")
            await pilot.pause()
            assert lines_of(app)[0].endswith("epoch 6")
            with StoreWriter(run.database) as writer:
                add_epoch(writer, 7)
            await until(pilot, lambda: lines_of(app)[0].endswith("epoch 7"))
            await pilot.press("b", "f", "f")
            await pilot.pause()
            assert lines_of(app)[0].endswith("epoch 7")

        in_app(app, script, (80, 24))

    def test_any_size(self, tmp_path):
        runs = [make_autoencoder(tmp_path, id=id, seed=n) for n, id in enumerate("abc")]
        app = Dashboard(Runs(tmp_path), [run.id for run in runs])

        async def script(pilot):
            await opened(pilot, runs=3)
            await until(pilot, lambda: "3 runs · 8 samples" in lines_of(app)[0])
            assert app.screen.query_one(PictureWall).seen == (8, 8)
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: "1 of 3 runs · 4 of 8 samples" in lines_of(app)[0])
            for size in ((60, 20), (1, 1), (3, 2), (20, 5), (300, 4), (200, 60)):
                await pilot.resize_terminal(*size)
                await pilot.press("plus", "plus", "minus", "j", "j", "l", "k", "h")
                await pilot.pause()
                wall = app.screen.query_one(PictureWall)
                assert all(
                    wall.render_line(y).cell_length == wall.size.width
                    for y in range(wall.size.height)
                )
            await pilot.press("r")
            await pilot.pause()
            assert app.screen.query_one(PictureWall).seen == (8, 8)

        in_app(app, script, (200, 60))

    def test_only_keys_that_bring_more_into_view(self, tmp_path):
        runs = [make_autoencoder(tmp_path, id=id, seed=n) for n, id in enumerate("abcd")]
        app = Dashboard(Runs(tmp_path), [run.id for run in runs])

        def keys():
            return {text for text in ("h/l Samples", "j/k Runs") if text in lines_of(app)[-1]}

        async def script(pilot):
            await opened(pilot, runs=4)
            await until(pilot, lambda: "4 runs · 8 samples" in lines_of(app)[0])
            assert keys() == set()
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: "1 of 4 runs · 4 of 8 samples" in lines_of(app)[0])
            await until(pilot, lambda: keys() == {"h/l Samples", "j/k Runs"})
            await pilot.resize_terminal(40, 10)
            await until(pilot, lambda: lines_of(app)[0].startswith(" 1 of 4 runs"))
            await pilot.press("b")
            await until(pilot, lambda: lines_of(app)[0] == " 1/4 runs · 4/8 samples · epoch 4 of 5")
            await pilot.resize_terminal(200, 24)
            await until(pilot, lambda: keys() == {"j/k Runs"})
            await pilot.press("minus", "minus")
            await until(pilot, lambda: "of 4 runs" not in lines_of(app)[0])
            await until(pilot, lambda: keys() == set())

        in_app(app, script, (200, 60))

    def test_without_colours(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        run = make_autoencoder(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await opened(pilot)
            shown = "".join(lines_of(app)[1:])
            assert "▀" not in shown
            assert all(shade in shown for shade in "░▒▓")

        in_app(app, script, (80, 24))

    def test_only_for_autoencoders(self, tmp_path):
        run = make_run(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.views)
            await until(pilot, lambda: app.screen.views[0].series)
            await pilot.pause()
            assert "Images" not in lines_of(app)[-1]
            assert "i" not in dict(keys_of(app.screen))
            await pilot.press("i")
            await until(pilot, lambda: notices(app) == ["no autoencoder here"])
            assert isinstance(app.screen, LiveScreen)

        in_app(app, script)

    def test_before_the_first_evaluation(self, tmp_path):
        document = {"model": {"kind": "autoencoder"}, "loss": "reconstruction"}
        run = Runs(tmp_path).create(resolve(document, method="backprop"))
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.views)
            await until(pilot, lambda: app.screen.autoencoders)
            await pilot.pause()
            await pilot.press("i")
            await until(pilot, lambda: "no reconstructions yet" in "".join(lines_of(app)))
            await pilot.press("b", "f", "plus", "j", "r")

        in_app(app, script, (80, 24))


class TestLosses:
    """The other screens on runs without accuracies."""

    def test_a_run(self, tmp_path):
        run = make_autoencoder(tmp_path)
        app = Dashboard(Runs(tmp_path), [run.id])

        async def script(pilot):
            await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.views)
            await until(pilot, lambda: app.screen.views[0].series)
            await pilot.pause(0.1)
            shown = "\n".join(lines_of(app))
            assert "2 Loss · validation 3.533 · test 3.633" in shown
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
            await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.views)
            await until(pilot, lambda: all(view.series for view in app.screen.views))
            await pilot.pause(0.1)
            shown = "\n".join(lines_of(app))
            assert "2 Test loss" in shown
            assert "3.53" in shown  # validation, in the table
            assert "%" not in shown
            await pilot.press("escape")
            await until(pilot, lambda: "3.53" in "\n".join(lines_of(app)))
            assert "%" not in "\n".join(lines_of(app))

        in_app(app, script, (160, 40))
