"""One look for all figures, and their way into a file.

Nothing global is changed: the settings hold within :func:`styled`, in which figures are both drawn
and rendered. Pyplot, which keeps figures and looks for a display, is never loaded.
"""

from __future__ import annotations

import io
import math
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogFormatterMathtext, LogLocator

from engine.atomic_files import replacing, storage_errors
from engine.errors import ConfigError

FORMATS = ("png", "svg", "pdf")
"""Endings of files that can be written."""
WIDTH = 6.9
"""Of a figure by default, in inches: both columns of a page."""
FONT_SIZE = 9.0
GREY = "#595959"
MISSING = "#d9d9d9"
"""Behind cells without a number."""

# Okabe and Ito's colours without yellow, which is too light for lines
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
# numbers of dashes, markers and colours have no common factor, so that neighbours differ in all
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v")
_MAX_LABEL = 60
_USER_FILE = 0o666
_NEAR = 1e-6
"""Of logarithms that are equal but for rounding."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": FONT_SIZE,
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.titlesize": FONT_SIZE + 1,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": FONT_SIZE,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "hatch.color": GREY,
    "hatch.linewidth": 0.5,
    "legend.fontsize": FONT_SIZE - 0.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "lines.markeredgewidth": 0.9,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "proxprop",
    "text.parse_math": False,  # a name may hold anything, dollars too
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
    "ytick.labelsize": FONT_SIZE - 1,
}


@dataclass(frozen=True, slots=True)
class Look:
    """How figures appear."""

    title: str = ""
    width: float = WIDTH
    """In inches."""
    height: float | None = None
    """In inches; None: what the content asks for."""


@contextmanager
def styled() -> Iterator[None]:
    """Let the settings of this project hold, whatever the user's own; afterwards the old ones."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(look: Look, height: float) -> Figure:
    """An empty figure with the title.

    :param height: in inches, where the look leaves it open.
    """
    figure = Figure(figsize=(look.width, look.height or height))
    if look.title:
        figure.suptitle(plain_text(look.title))
    return figure


def color(hue: int) -> str:
    """One of seven colours that also the colour-blind tell apart."""
    return _COLORS[hue % len(_COLORS)]


def dash(number: int) -> Any:
    """A line style, so that colour is not all that tells lines apart."""
    return _DASHES[number % len(_DASHES)]


def marker(number: int) -> str:
    """A marker for a line."""
    return _MARKERS[number % len(_MARKERS)]


def plain_text(text: str, limit: int = 200) -> str:
    """A text of a person in one harmless line, shortened to ``limit`` characters.

    Control and format characters, separators of lines and code points that are no characters are
    escaped: a PDF or SVG could not hold them, and some would change the text beside them.
    """
    shown = "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
        else character
        for character in text
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with labels like 10⁻³ that are plain text.

    :param which: ``x`` or ``y``.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    axis.set_major_locator(LogLocator(numticks=8))
    axis.set_major_formatter(_PowerOfTen())
    axis.set_minor_formatter(_PowerOfTen(minor_thresholds=(1.5, 0.6)))


class _PowerOfTen(LogFormatterMathtext):
    """Labels where matplotlib has some, as Unicode instead of its markup: plain numbers where the
    whole axis has few digits, else powers of ten throughout."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos) or not x > 0:
            return ""
        assert self.axis is not None
        low, high = sorted(self.axis.get_view_interval())
        if low > 0.001 * (1 - _NEAR) and high < 10_000:
            return f"{x:g}"
        exponent = math.floor(math.log10(x) + _NEAR)
        power = "10" + str(exponent).translate(_SUPERSCRIPTS)
        factor = f"{x / 10**exponent:.3g}"
        return power if factor == "1" else f"{factor}×{power}"


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend under all panels, in as many columns as there is room for."""
    shown = [plain_text(label, _MAX_LABEL) for label in labels]
    if not shown:
        return
    size = FONT_SIZE - 0.5
    font = FontProperties(family="DejaVu Sans", size=size)
    with _quiet():
        widest = max(TextPath((0, 0), f"{text}.", prop=font).get_extents().width for text in shown)
    column = widest + size * 6.2  # the handle and the space around it
    columns = max(1, min(len(shown), int(72 * figure.get_figwidth() / column)))
    # rows of equal length where they go
    columns = math.ceil(len(shown) / math.ceil(len(shown) / columns))
    # matplotlib leaves out labels that begin with _, so they come afterwards
    legend = figure.legend(
        list(handles), ["-"] * len(shown), loc="outside lower center", ncols=columns
    )
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set_text(label)


def artists(axes: Axes, group: str) -> list[Artist]:
    """What was drawn under a name, such as ``cross``."""
    return [artist for artist in axes.get_children() if artist.get_gid() == group]


def file_format(path: Path) -> str:
    """What a file's ending asks for.

    :raises ConfigError: it is none of :data:`FORMATS`.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise ConfigError(f"{path}: expected a file that ends in .png, .svg or .pdf")
    return ending


def render(figure: Figure, format_: str) -> bytes:
    """The figure as a file's content; equal figures give equal bytes.

    To be called within :func:`styled`.

    :param format_: one of :data:`FORMATS`.
    :raises ConfigError: there is no room for the panels.
    """
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    content = io.BytesIO()
    with _quiet():
        warnings.filterwarnings("error", message=".*collapsed to zero.*")
        try:
            figure.savefig(content, format=format_, metadata=dates.get(format_))
        except UserWarning:
            raise ConfigError(
                "no room for the panels beside their labels: give a larger --width or --height"
            ) from None
    return content.getvalue()


def write_figure(path: Path, content: bytes) -> None:
    """Put a rendered figure in the place of ``path``, all of it or nothing.

    :raises ConfigError: there is something at ``path`` that is no file.
    :raises StorageError: it can not be written.
    """
    with storage_errors(path):
        target = path.resolve()
        if target.exists() and not target.is_file():
            raise ConfigError(f"{path}: expected a file, found something else")
        with replacing(target, mode=_USER_FILE) as stream:
            stream.buffer.write(content)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without word of characters that the font lacks; they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
