"""Reconstructions as half blocks: the right shades in the right places, at any size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from engine.store import StoreWriter
from proxprop_cli.dashboard.album import Album, PictureRow, epochs_of, rows_of, to_show
from proxprop_cli.dashboard.half_blocks import SCALES, cells_of, line_of, scaled
from proxprop_cli.dashboard.views import Place, RunView
from proxprop_cli.dashboard.widgets.picture_wall import hang
from tests.dashboard.autoencoder_helper import SIDE, add_epoch, make_autoencoder, reconstructed


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

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (16, 16), (13, 29), (32, 32)])
    def test_as_many_cells_as_was_said(self, height, width):
        picture = np.zeros((height, width), np.uint8)
        for scale in SCALES:
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
        third = album.look()
        assert third[0].leaves == first[0].leaves
        assert third[1].problem
        assert third[1].leaves == second[1].leaves

    def test_rows_of_an_epoch(self, tmp_path):
        album = Album({"one": make_autoencoder(tmp_path, id="a", epochs=2)})
        (shelf,) = album.look()
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
