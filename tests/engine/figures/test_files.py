"""Figures as files, and the style they are drawn in."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from engine.errors import ConfigError, StorageError
from engine.figures.curves import draw_curves
from engine.figures.seeds import Group
from engine.figures.style import (
    Look,
    file_format,
    log_axis,
    new_figure,
    plain_text,
    render,
    styled,
    write_figure,
)
from engine.numbers import short_number
from tests.engine.figures.drawing import curves

HOSTILE = [
    "$\\frac{",
    "$x$ and $y$",
    "\\$",
    "_hidden",
    "<b>&amp;]]>",
    "a\x00\x1b[31m\nb\u202e",
    "\ufffe\ud800",
    "層 🚀",
    "%s {} \\N{DASH} --",
    "",
    "x" * 5000,
]


def draw_file(format_, labels=("a",), title=""):
    groups = [Group(label, (curves([3, 2, 1]),), i, i) for i, label in enumerate(labels)]
    with styled():
        return render(draw_curves(groups, ["epoch"], ["train_loss"], look=Look(title)), format_)


@pytest.mark.parametrize("format_", ["png", "svg", "pdf"])
def test_equal_data_give_equal_bytes(format_):
    first = draw_file(format_, "ab")
    assert draw_file(format_, "ab") == first
    assert draw_file(format_, "ac") != first


@pytest.mark.parametrize("format_", ["png", "svg", "pdf"])
@pytest.mark.filterwarnings("error")
def test_hostile_names(format_):
    content = draw_file(format_, HOSTILE, title="$" + "\n".join(HOSTILE))
    if format_ == "png":
        image = Image.open(io.BytesIO(content))
        image.load()
        assert image.width == round(6.9 * 300)
    elif format_ == "pdf":
        assert content.startswith(b"%PDF")
        assert b"CreationDate" not in content
    else:
        root = ElementTree.fromstring(content)
        texts = {"".join(one.itertext()).strip() for one in root.iter() if one.tag[-4:] == "text"}
        for name in HOSTILE[:5]:
            assert name in texts
        assert "a\\x00\\x1b[31m\\nb\\u202e" in texts


def test_plain_text():
    assert plain_text("a\tb\ufffe") == "a\\tb\\ufffe"
    assert plain_text("x" * 9, 5) == "xxxx…"


def test_short_numbers():
    values = [0.05, 1.0, 1234.0, 1e-5, 2.5e10]
    assert [short_number(v) for v in values] == ["0.05", "1", "1.23e3", "1e-5", "2.5e10"]


def test_the_users_own_settings_neither_hold_nor_change():
    expected = draw_file("svg")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "text.usetex": True}):
        assert draw_file("svg") == expected
        assert matplotlib.rcParams["font.size"] == 30
        assert matplotlib.rcParams["text.usetex"] is True


def test_no_room():
    groups = [Group(f"run {i}", (curves([3, 2, 1]),), i, i) for i in range(20)]
    with styled(), pytest.raises(ConfigError, match="no room"):
        render(
            draw_curves(groups, ["epoch"], ["train_loss"], look=Look(width=2.0, height=1.0)),
            "png",
        )


def test_endings(tmp_path):
    assert file_format(tmp_path / "a.PNG") == "png"
    for name in ("a", "a.jpg", "png", ".svg"):
        with pytest.raises(ConfigError, match="ends in"):
            file_format(tmp_path / name)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.png"
    write_figure(path, b"old")
    write_figure(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(StorageError):
        write_figure(tmp_path / "none" / "a.png", b"")
    with pytest.raises(ConfigError, match="something else"):
        write_figure(tmp_path, b"")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 100.0, ["0.01", "0.1", "1", "10", "100"]),
        (1e-4, 1.0, ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]),
        (9e3, 5e4, ["10⁴", "2×10⁴", "3×10⁴", "4×10⁴"]),
    ],
)
def test_an_axis_has_one_notation(low, high, expected):
    with styled():
        figure = new_figure(Look(), 3.0)
        axes = figure.subplots()
        axes.plot([0, 1], [low, high])
        log_axis(axes, "y")
        axes.set_ylim(low, high)
        figure.draw_without_rendering()
        both = (*axes.get_yticklabels(), *axes.get_yticklabels(minor=True))
        shown = {text.get_text() for text in both}
    assert set(expected) <= shown
    has_power = {any(digit in text for digit in "⁰¹²³⁴⁵⁶⁷⁸⁹") for text in shown if text}
    assert len(has_power) == 1
