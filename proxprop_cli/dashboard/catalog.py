"""All runs and sweeps in a folder, looked at again only where something has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.atomic_files import storage_errors
from engine.cells import ENDED
from engine.errors import ProxPropError
from engine.run import WAITING_FOR_ROOM, Run
from engine.runs import Runs
from engine.store_opening import Mark, mark_of
from engine.store_reader import StoreReader
from engine.sweeps import Sweep, load_sweep, sweep_file
from proxprop_cli.dashboard.run_status import status_of
from proxprop_cli.dashboard.sweep_status import Start, is_short_of_room, word_of
from proxprop_cli.dashboard.views import LIVE

_RETRY_LOOKS = 30
"""Until what could not be read is read again, though it has not changed."""
Signature = tuple[Mark | None, tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A run in the list, or a sweep.

    :ivar config: the brief of its configuration.
    :ivar metrics: latest evaluation.
    :ivar sweep: of a run, the newest sweep it belongs to.
    :ivar runs: of a sweep, its runs at their end, and all; None: it is a run.
    :ivar short_of_room: whether what trains it waits for room on the disk.
    """

    id: str
    created: float
    status: str
    config: Mapping[str, Any]
    epoch: float
    metrics: Mapping[str, float]
    problem: str = ""
    sweep: str = ""
    runs: tuple[int, int] | None = None
    short_of_room: bool = False

    @property
    def word(self) -> str:
        """How it is, as people are told."""
        return WAITING_FOR_ROOM if self.short_of_room else self.status

    @property
    def text(self) -> str:
        """What a filter looks into."""
        values = (self.id, self.sweep, self.word, *map(str, self.config.values()))
        return " ".join(values).lower()


class Catalog:
    """Lists runs and sweeps, newest first."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._known: dict[str, tuple[Signature, CatalogEntry]] = {}
        self._sweeps: dict[str, tuple[Mark, Sweep]] = {}
        self._starts: dict[str, Start] = {}
        self._looks = 0

    def entries(self) -> tuple[CatalogEntry, ...]:
        """Everything as it is now.

        :raises StorageError: the folder can not be listed.
        """
        found = {}
        self._looks += 1
        again = LIVE if self._looks % _RETRY_LOOKS else (*LIVE, "unreadable")
        for run in self._runs.all():
            signature = mark_of(run.database), run.request_signature()
            known = self._known.get(run.id)
            if known is None or known[0] != signature or known[1].status in again:
                known = signature, _entry(run)
            found[run.id] = known
        self._known = found
        sweeps = self._all_sweeps()
        member_of = {cell.run: sweep.id for sweep in reversed(sweeps) for cell in sweep.cells}
        runs = [
            replace(entry, sweep=member_of[id]) if id in member_of else entry
            for id, (_, entry) in found.items()
        ]
        by_id = {entry.id: entry for entry in runs}
        listed = [*(self._sweep_entry(sweep, by_id) for sweep in sweeps), *runs]
        # what was made in one go stays in the order of the folder
        return tuple(sorted(listed, key=lambda entry: -entry.created))

    def _all_sweeps(self) -> list[Sweep]:
        """Newest first; one that is damaged does not hide the others and is left out."""
        root, found = self._runs.root, {}
        with storage_errors(root):
            try:
                names = [entry.name for entry in os.scandir(root) if not entry.is_symlink()]
            except FileNotFoundError:
                names = []
        for name in names:
            mark = mark_of(sweep_file(root, name))
            if mark is None:
                continue
            known = self._sweeps.get(name)
            if known is None or known[0] != mark:
                try:
                    known = mark, load_sweep(root, name)
                except ProxPropError:
                    continue
            found[name] = known
        self._sweeps = found
        sweeps = [sweep for _, sweep in found.values()]
        return sorted(sweeps, key=lambda sweep: sweep.created, reverse=True)

    def _sweep_entry(self, sweep: Sweep, known: Mapping[str, CatalogEntry]) -> CatalogEntry:
        """A sweep by the states of its runs, which are known already."""
        folder = Run(self._runs.root / sweep.id)
        made = [known.get(cell.run or "") for cell in sweep.cells]
        states = [entry.status if entry else "waiting" for entry in made]
        try:
            live, waits, problem = folder.is_live(), folder.is_waiting(), ""
        except ProxPropError as error:
            live, waits, problem = False, False, str(error)
        start = self._starts.setdefault(sweep.id, Start(folder))
        fresh, _ = start.look(time.time(), live=live)
        word, _ = word_of(states, folder.desired(), live=live, fresh=fresh)
        return CatalogEntry(
            id=sweep.id,
            created=sweep.created,
            status=word,
            config={"preset": sweep.preset, "method": sweep.kind},
            epoch=0.0,
            metrics={},
            problem=problem,
            runs=(sum(state in ENDED for state in states), len(sweep.cells)),
            short_of_room=is_short_of_room(
                word, waits, (entry is not None and entry.short_of_room for entry in made)
            ),
        )


def _entry(run: Run) -> CatalogEntry:
    try:
        with StoreReader(run.database) as reader:
            state = reader.state()
            locked = run.is_live()
            if state.get("status") == "running" and not locked:
                # it may have ended between our two looks; if so, its last word is stored by now
                state = reader.state()
        status, _ = status_of(run, str(state.get("status", "created")), locked=locked)
        waits = status in LIVE and run.is_waiting()
    except ProxPropError as error:
        return CatalogEntry(run.id, run.created, "unreadable", {}, 0.0, {}, str(error))
    config = state.get("config", {})
    epoch, metrics = float(state.get("epoch", 0)), state.get("metrics", {})
    created = float(state.get("created", 0.0))
    return CatalogEntry(run.id, created, status, config, epoch, metrics, short_of_room=waits)
