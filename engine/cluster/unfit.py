"""Machines of a cluster on which no run can be trained, by what Ray tells of processes there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine.cluster.places import why
from engine.errors import ConfigError

FALSE_STARTS_ALLOWED = 4
"""Processes of a machine that may die without one that trains between them."""
_WHERE = re.compile(r"\bip[=:]\s*([^\s,)]+)")
_NODE_DIED = "node has died"

Machine = Mapping[str, Any]
"""As Ray describes it."""


class Unfit:
    """They are known by their node ids, so that one that was mended and comes again is another.

    Who dies tells the address of its machine alone, so all nodes with that address are meant.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._false_starts: Counter[str] = Counter()

    def __str__(self) -> str:
        return "; ".join(dict.fromkeys(self._reasons.values()))

    def has(self, machine: Machine) -> bool:
        """Whether a machine is one of them."""
        return machine["NodeID"] in self._reasons

    def selector(self, machines: Sequence[Machine]) -> dict[str, str] | None:
        """What tells Ray to take others, of all its machines."""
        if not (ids := [one["NodeID"] for one in machines if self.has(one)]):
            return None
        return {"ray.io/node-id": f"!in({','.join(ids)})"}

    def note(self, error: BaseException, machines: Sequence[Machine]) -> str | None:
        """Keep that a process did not come to train.

        :returns: what is to be told of it, if anything; None: it is not known where it was.
        """
        if _NODE_DIED in str(error):
            return ""  # with all that would have begun on it, which says nothing of when it is back
        found = _WHERE.search(str(error))
        ids = [one["NodeID"] for one in machines if found and one["NodeManagerAddress"] == found[1]]
        if found is None or not ids:
            return None
        where = found[1]
        self._false_starts[where] += 1
        # what is raised where a process begins is raised again; a death may be an accident
        is_raised = bool(getattr(error, "actor_init_failed", False))
        if not is_raised and self._false_starts[where] <= FALSE_STARTS_ALLOWED:
            return ""
        del self._false_starts[where]
        for id in ids:
            self._reasons.setdefault(id, f"{where}: {why(error)}")
        return f"machine {self._reasons[ids[0]].replace(': ', ' is not used any more: ', 1)}"

    def note_start(self, node: str, machines: Sequence[Machine]) -> None:
        """Keep that a process trains: what died there before it were accidents.

        :param node: id of its machine.
        """
        for one in machines:
            if one["NodeID"] == node:
                self._false_starts.pop(one["NodeManagerAddress"], None)

    def refuse_if_all(self, machines: Sequence[Machine]) -> None:
        """See that one of these machines is another, where there are any.

        :raises ConfigError: none is.
        """
        if machines and all(map(self.has, machines)):
            raise ConfigError(f"no machine of the cluster can train: {self}")
