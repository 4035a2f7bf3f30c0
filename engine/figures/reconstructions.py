"""What autoencoders make of the same samples, row below row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.cells import read_cells
from engine.errors import ConfigError
from engine.figures.style import FONT_SIZE, GREY, Look, new_figure, plain_text
from engine.numbers import short_number
from engine.reconstructions import pictures
from engine.run import Run
from engine.store_reader import StoreReader
from engine.sweeps import Sweep

if TYPE_CHECKING:
    from engine.events import Reconstructed
    from engine.reconstructions import Pictures

MAX_ROWS = 20
"""Most runs that a figure has room for."""
_BESIDE = 1.15
"""Inches for the labels."""
_BETWEEN = 0.04
_LABEL = 24


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow:
    """One row of the figure.

    :ivar pictures: uint8 ``(n, H, W)``, or ``(n, H, W, 3)`` in colour.
    :ivar below: smaller lines under the label.
    """

    label: str
    pictures: Pictures
    below: tuple[str, ...] = ()


def one_of_each(sweep: Sweep, root: Path) -> dict[str, Run]:
    """By row of a comparison the run to be shown: that of the first seed that was evaluated and
    did not diverge; rows that have none are left out.

    :param root: folder of the runs.
    """
    found: dict[str, Run] = {}
    states = zip(sweep.cells, read_cells(root, sweep), strict=True)
    for cell, state in sorted(states, key=lambda one: one[0].seed):
        if cell.label in found or cell.run is None:
            continue
        if state.train_loss is not None and not state.diverged:
            found[cell.label] = Run(root / cell.run)
    rows = dict.fromkeys(cell.label for cell in sweep.cells)
    return {row: found[row] for row in rows if row in found}


def read_rows(runs: Mapping[str, Run]) -> list[PictureRow]:
    """The inputs, and below them what each run made of them at its latest evaluation.

    :param runs: by label.
    :raises ConfigError: there is no run, or one that has no reconstructions or other samples.
    :raises StorageError: a store can not be read.
    """
    if not runs:
        raise ConfigError("there is no run with reconstructions yet")
    rows: list[PictureRow] = []
    first: tuple[str, Reconstructed] | None = None
    for label, run in runs.items():
        with StoreReader(run.database) as reader:
            found = reader.reconstructions()
            diverged = reader.state().get("status") == "diverged"
            loss = _loss(reader, found[-1]) if found else ""
        if not found:
            raise ConfigError(
                f"run {run.id} has no reconstructions; autoencoders leave them at every evaluation"
            )
        latest = found[-1]
        if first is None:
            first = run.id, latest
            rows.append(PictureRow("input", pictures(latest.inputs, latest.shape), (latest.part,)))
        elif (latest.inputs, latest.shape) != (first[1].inputs, first[1].shape):
            raise ConfigError(f"runs {first[0]} and {run.id} reconstruct different samples")
        made = pictures(latest.outputs, latest.shape)
        epoch = f"epoch {latest.epoch:.4g}" + (", then diverged" if diverged else "")
        rows.append(PictureRow(label, made, tuple(filter(None, (loss, epoch)))))
    return rows


def draw_reconstructions(rows: Sequence[PictureRow], *, look: Look = Look()) -> Figure:  # noqa: B008 - frozen
    """A grid of pictures: a row per :class:`PictureRow`, a column per sample.

    :param rows: at least one; all have equally many pictures of one size.
    :raises ConfigError: there are too many rows.
    """
    if len(rows) - 1 > MAX_ROWS:
        raise ConfigError(f"{len(rows) - 1} rows of pictures; expected at most {MAX_ROWS}")
    count, height, width = rows[0].pictures.shape[:3]
    side = (look.width - _BESIDE) / count
    above = 0.35 if look.title else 0.1
    figure = new_figure(look, above + len(rows) * (side * height / width + _BETWEEN))
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=_BETWEEN / 2, h_pad=_BETWEEN / 2, wspace=0, hspace=0)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for row, line in zip(rows, grid, strict=True):
        for picture, axes in zip(row.pictures, line, strict=True):
            # one pixel of the file a pixel of the sample: what shows it makes it large
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
            _bare(axes)
        _label(line[0], row)
    return figure


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _label(axes: Axes, row: PictureRow) -> None:
    beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    beside |= {"horizontalalignment": "right", "annotation_clip": False}
    middle = "bottom" if row.below else "center"
    text = plain_text(row.label, _LABEL)
    axes.annotate(text, (0, 0.5), xytext=(-6, 0), verticalalignment=middle, **beside)
    if row.below:
        small: dict[str, Any] = {
            "color": GREY,
            "fontsize": FONT_SIZE - 2,
            "verticalalignment": "top",
        }
        text = "\n".join(plain_text(line, _LABEL) for line in row.below)
        axes.annotate(text, (0, 0.5), xytext=(-6, -1), **small, **beside)


def _loss(reader: StoreReader, made: Reconstructed) -> str:
    """The loss of the part of the data that the samples are of, by the weights that made them: a
    run that diverged may have been evaluated once more."""
    name = {"validation": "val"}.get(made.part, made.part)
    steps, losses = reader.series(f"{name}_loss", made.step - 1)
    if not len(steps) or steps[0] != made.step:
        return ""
    return f"{made.part} loss {short_number(float(losses[0]))}"
