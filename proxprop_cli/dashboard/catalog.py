"""All runs in a folder, looked at again only where something has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ProxPropError
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader

Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A run in the list.

    :ivar config: the brief of its configuration.
    :ivar metrics: latest evaluation.
    """

    id: str
    created: float
    status: str
    config: Mapping[str, Any]
    epoch: float
    metrics: Mapping[str, float]
    problem: str = ""

    @property
    def text(self) -> str:
        """What a filter looks into."""
        values = (self.id, self.status, *map(str, self.config.values()))
        return " ".join(values).lower()


class Catalog:
    """Lists runs, newest first."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._known: dict[str, tuple[Signature, CatalogEntry]] = {}

    def entries(self) -> tuple[CatalogEntry, ...]:
        """Every run as it is now.

        :raises StorageError: the folder can not be listed.
        """
        found = {}
        for run in self._runs.all():
            signature = _signature(run)
            known = self._known.get(run.id)
            if known is None or known[0] != signature or known[1].status in ("running", "created"):
                known = signature, _entry(run)
            found[run.id] = known
        self._known = found
        return tuple(entry for _, entry in found.values())


def _signature(run: Run) -> Signature:
    signature = []
    for path in (run.database, run.database.with_name(f"{run.database.name}-wal")):
        try:
            stat = path.stat()
        except OSError:
            signature.append((0, 0))
        else:
            signature.append((stat.st_mtime_ns, stat.st_size))
    return tuple(signature)


def _entry(run: Run) -> CatalogEntry:
    try:
        with StoreReader(run.database) as reader:
            state = reader.state()
        status = (
            run.status() if state.get("status") == "running" else state.get("status", "created")
        )
    except ProxPropError as error:
        return CatalogEntry(run.id, run.created, "unreadable", {}, 0.0, {}, str(error))
    config = state.get("config", {})
    epoch, metrics = float(state.get("epoch", 0)), state.get("metrics", {})
    return CatalogEntry(run.id, run.created, str(status), config, epoch, metrics)
