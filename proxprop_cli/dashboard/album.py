"""What autoencoders made of their samples, as it is stored: followed, and chosen by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import ProxPropError
from engine.reconstructions import grey, pictures
from engine.store_opening import Mark, mark_of
from engine.store_reader import StoreReader
from proxprop_cli.dashboard.shorten import distinct

if TYPE_CHECKING:
    from engine.events import Reconstructed
    from engine.reconstructions import Pictures
    from engine.run import Run
    from proxprop_cli.dashboard.views import RunView

_PARTS = {"validation": "val"}
"""Parts of the data whose metrics begin with another word."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The reconstructions of one run at one evaluation.

    :ivar loss: of the part of the data that the samples are of; None: not known.
    """

    made: Reconstructed
    loss: float | None


@dataclass(frozen=True, slots=True)
class Shelf:
    """All that one run has kept, oldest first.

    :ivar problem: why it can not be read.
    """

    label: str
    leaves: tuple[Leaf, ...] = ()
    problem: str = ""

    def at(self, epoch: float | None) -> Leaf | None:
        """The latest, or that of an epoch, else the last one before it."""
        fitting = [leaf for leaf in self.leaves if epoch is None or leaf.made.epoch <= epoch]
        return fitting[-1] if fitting else None


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow:
    """Pictures side by side.

    :ivar words: what is said beside them, line by line.
    :ivar pictures: grey, uint8 ``(n, H, W)``.
    """

    words: tuple[str, ...]
    pictures: Pictures


class Album:
    """Follows runs, each read again only when its store has changed. Used by one thread at a time.

    :param runs: by label.
    """

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = dict(runs)
        self._marks: dict[str, Mark | None] = {}
        self._shelves = {label: Shelf(label) for label in runs}

    def look(self) -> tuple[Shelf, ...]:
        """All runs as they are now; the same objects as before where nothing has changed."""
        for label, run in self._runs.items():
            try:
                self._read(label, run)
            except ProxPropError as error:
                if self._shelves[label].problem != str(error):
                    self._shelves[label] = Shelf(label, self._shelves[label].leaves, str(error))
        return tuple(self._shelves.values())

    def _read(self, label: str, run: Run) -> None:
        mark = mark_of(run.database)
        if mark is not None and self._marks.get(label) == mark:
            return
        self._marks[label] = mark
        with StoreReader(run.database) as reader:
            leaves = _leaves(reader)
        if leaves != self._shelves[label].leaves or self._shelves[label].problem:
            self._shelves[label] = Shelf(label, leaves)


def to_show(views: Sequence[RunView], runs: Sequence[Run]) -> dict[str, Run]:
    """By what to call them the runs whose pictures are shown: of the rows of a sweep the first
    seed, unless there is one row only.

    :param runs: those of the views, among others.
    """
    if len(views) == 1:
        labels = ["output"]
    elif len({view.place.row for view in views if view.place}) > 1:
        first = {view.place.row: view for view in reversed(views) if view.place}
        views = list(reversed(first.values()))
        labels = list(reversed(first))
    else:
        labels = distinct([view.short for view in views])
    by_id = {run.id: run for run in runs}
    return {label: by_id[view.id] for label, view in zip(labels, views, strict=True)}


def epochs_of(shelves: Sequence[Shelf]) -> list[float]:
    """Epochs of which there is something to see, ascending."""
    return sorted({leaf.made.epoch for shelf in shelves for leaf in shelf.leaves})


def rows_of(shelves: Sequence[Shelf], epoch: float | None = None) -> list[PictureRow]:
    """The samples themselves, and below them what each run made of them; those runs that have the
    samples of the first one.

    :param epoch: see :meth:`Shelf.at`.
    """
    found = [(shelf, leaf) for shelf in shelves if (leaf := shelf.at(epoch)) is not None]
    if not found:
        return []
    first = found[0][1].made
    rows = [PictureRow(("input", first.part), grey(pictures(first.inputs, first.shape)))]
    for shelf, leaf in found:
        made = leaf.made
        if (made.inputs, made.shape) == (first.inputs, first.shape):
            shown = grey(pictures(made.outputs, made.shape))
            rows.append(PictureRow((shelf.label, *_told(leaf)), shown))
    return rows


def _told(leaf: Leaf) -> list[str]:
    from engine.numbers import format_number

    told = [f"epoch {leaf.made.epoch:g}"]
    return told if leaf.loss is None else [*told, f"loss {format_number(leaf.loss)}"]


def _leaves(reader: StoreReader) -> tuple[Leaf, ...]:
    made = reader.reconstructions()
    if not made:
        return ()
    part = made[-1].part
    steps, losses = reader.series(f"{_PARTS.get(part, part)}_loss")
    known = dict(zip(steps.tolist(), losses.tolist(), strict=True))
    return tuple(Leaf(one, known.get(one.step)) for one in made)
