"""Which runs of a sweep there are to be shown, and where they stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.numbers import short_number
from engine.run import Run
from engine.sweep_watch import SweepLook
from engine.sweeps import Sweep
from proxprop_cli.dashboard.views import Member, Place


def places_of(sweep: Sweep) -> dict[str, Place]:
    """By run, in the order of the sweep."""
    rows: dict[str, int] = {}
    found = {}
    for number, cell in enumerate(sweep.cells):
        row = rows.setdefault(cell.label, len(rows))
        if cell.run is not None:
            found[cell.run] = Place(cell.label, cell.seed, row, number)
    return found


def cell_places(sweep: Sweep | None, runs: Sequence[str]) -> dict[str, Place]:
    """Of the seeds of one cell, which are told by its step size too."""
    if sweep is None:
        return {}
    places = places_of(sweep)
    taus = {cell.run: cell.tau for cell in sweep.cells}
    return {
        run: replace(
            places[run],
            row=f"{places[run].row} tau {short_number(taus[run])}",
            row_number=0,
            number=number,
        )
        for number, run in enumerate(runs)
        if run in places
    }


def members_of(folder: Run, look: SweepLook) -> tuple[Member, ...]:
    """The runs that were made already, in the order of the sweep.

    :param folder: of the sweep; those of its runs are beside it.
    """
    made = {run for cell in look.grid.cells.values() for run in cell.runs}
    root = folder.path.parent
    return tuple(
        Member(Run(root / run), place)
        for run, place in places_of(look.sweep).items()
        if run in made
    )
