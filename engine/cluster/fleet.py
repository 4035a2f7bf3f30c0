"""The machines of a cluster: how many runs find room, and which of them are of no use."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine.cluster.connection import head_answers, load_ray
from engine.cluster.places import why
from engine.cluster.shares import Share, most
from engine.errors import ConfigError, TeamError

_HEAD_SECONDS = 20.0
"""Ray itself would wait for a head for a minute, and then end this process."""
_FALSE_STARTS_ALLOWED = 4
"""Processes of a machine that may die, one after the other, before any of them trains."""
_WHERE = re.compile(r"\bip[=:]\s*([0-9A-Fa-f.:]*[0-9A-Fa-f])")

Machine = Mapping[str, Any]
"""As Ray describes it."""


class Unfit:
    """Machines on which no run can be trained, and why.

    They are known by their addresses: those who die before they train say no more of where.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._false_starts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def __str__(self) -> str:
        return "; ".join(f"{where}: {why}" for where, why in self._reasons.items())

    def has(self, machine: Machine) -> bool:
        """Whether a machine is one of them."""
        return machine["NodeManagerAddress"] in self._reasons

    def selector(self, machines: Sequence[Machine]) -> dict[str, str] | None:
        """What tells Ray to take others, of all its machines."""
        if not (ids := [one["NodeID"] for one in machines if self.has(one)]):
            return None
        return {"ray.io/node-id": f"!in({','.join(ids)})"}

    def note(self, error: BaseException) -> str | None:
        """Keep that a process did not come to train.

        :returns: what is to be told of it, if anything; None: it is not known where it was.
        """
        found = _WHERE.search(str(error))
        if found is None:
            return None
        where = found[1]
        self._false_starts[where] += 1
        # what is raised where a process begins is raised again; a death may be an accident
        is_raised = bool(getattr(error, "actor_init_failed", False))
        if not is_raised and self._false_starts[where] <= _FALSE_STARTS_ALLOWED:
            return ""
        if where not in self._reasons:
            self._reasons[where] = why(error)
        return f"machine {where} is not used any more: {self._reasons[where]}"

    def clear(self) -> None:
        """A process trains: what died before it were accidents."""
        self._false_starts.clear()

    def refuse_if_all(self, machines: Sequence[Machine]) -> None:
        """See that there is any other machine, where there are machines at all.

        :raises ConfigError: there is none.
        """
        if machines and all(map(self.has, machines)):
            raise ConfigError(f"no machine of the cluster can train: {self}")


class Fleet:
    """The machines of the cluster that this process is connected to.

    :param share: what a run takes of a machine.
    :param jobs: runs side by side at most; None: as many as find room.
    :ivar room: runs that find room, whatever is there already.
    :ivar together: those that find room on the machine that has the most.
    :ivar is_lost: whether the cluster's head is gone.
    :raises ConfigError: no machine has room for a run.
    """

    def __init__(self, share: Share, jobs: int | None) -> None:
        self._ray = load_ray()
        self._share = share
        self._jobs = jobs
        self._unfit = Unfit()
        self._machines: list[Machine] = []
        self._head_seen = time.monotonic()
        self.room, self.together, self.is_lost = 0, 1, False
        self._ask()
        self._count()
        if not self.room:
            there = most(one["Resources"] for one in self._machines)
            raise ConfigError(
                f"no machine of the cluster has room for a run: it needs {share}, {there}"
            )

    def look(self) -> None:
        """See what has become of them; machines come and go.

        :raises TeamError: the head is gone.
        """
        if head_answers():
            self._head_seen = time.monotonic()
            self._ask()
        else:
            self._machines = []
        self._count()
        if time.monotonic() - self._head_seen > _HEAD_SECONDS:
            self.is_lost = True
            raise TeamError(
                "the head of the Ray cluster is gone; what came home is kept, and the same command "
                "goes on from there once there is a cluster"
            )

    def _ask(self) -> None:
        """See which machines there are: a question that is waited with where there is no head."""
        self._machines = [node for node in self._ray.nodes() if node["Alive"]]

    def _count(self) -> None:
        machines = [one for one in self._machines if not self._unfit.has(one)]
        fitting = [self._share.fits(one["Resources"]) for one in machines]
        room = sum(fitting)
        self.room = room if self._jobs is None else min(room, self._jobs)
        self.together = max(1, min(max(fitting, default=1), self.room))

    def options(self) -> dict[str, object]:
        """What tells Ray where a process may begin."""
        return {
            "num_cpus": self._share.cpus,
            "num_gpus": self._share.gpus,
            "scheduling_strategy": "SPREAD",
            "label_selector": self._unfit.selector(self._machines),
        }

    def note_false_start(self, error: BaseException) -> str | None:
        """Keep that a process did not come to train: see :meth:`Unfit.note`."""
        told = self._unfit.note(error)
        self._count()
        return told

    def note_start(self) -> None:
        """Keep that a process trains."""
        self._unfit.clear()

    def refuse_if_unfit(self) -> None:
        """See that there is a machine that can train, where there are machines at all.

        :raises ConfigError: there is none.
        """
        self._unfit.refuse_if_all(self._machines)
