"""The machines of a cluster: how many runs find room on them, and whether its head is there."""

from __future__ import annotations

import time

from engine.cluster.connection import head_answers, load_ray
from engine.cluster.shares import Share, most
from engine.cluster.unfit import Machine, Unfit
from engine.errors import ConfigError, TeamError

_HEAD_SECONDS = 20.0
"""Ray itself would wait for a head for a minute, and then end this process."""


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
        self._silent_since: float | None = None
        self.room, self.together, self.is_lost = 0, 1, False
        self._ask()
        if not self.room:
            there = most(one["Resources"] for one in self._machines)
            raise ConfigError(
                f"no machine of the cluster has room for a run: it needs {share}, {there}"
            )

    def look(self) -> bool:
        """See what has become of them, machines come and go; tells whether the head answers.

        :raises TeamError: it has not for long.
        """
        if head_answers() and self._ask():
            self._silent_since = None
            return True
        now = time.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        self.room = 0  # nothing can begin
        if now - self._silent_since > _HEAD_SECONDS:
            self.is_lost = True
            raise TeamError(
                "the head of the Ray cluster is gone; what came home is kept, and the same command "
                "goes on from there once there is a cluster"
            )
        return False

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
        told = self._unfit.note(error, self._machines)
        self._count()
        return told

    def note_start(self, node: str) -> None:
        """Keep that a process trains on a machine."""
        self._unfit.note_start(node, self._machines)

    def refuse_if_unfit(self) -> None:
        """See that a machine that has room can train, where there are any that have.

        :raises ConfigError: none can.
        """
        self._unfit.refuse_if_all(
            [one for one in self._machines if self._share.fits(one["Resources"])]
        )

    def _ask(self) -> bool:
        """Ask which machines there are: a question that waits where there is no head."""
        try:
            found = self._ray.nodes()
        except self._ray.exceptions.RayError:
            return False  # such as a head that was started anew, and knows us no more
        self._machines = [node for node in found if node["Alive"]]
        self._count()
        return True

    def _count(self) -> None:
        machines = [one for one in self._machines if not self._unfit.has(one)]
        fitting = [self._share.fits(one["Resources"]) for one in machines]
        room = sum(fitting)
        self.room = room if self._jobs is None else min(room, self._jobs)
        self.together = max(1, min(max(fitting, default=1), self.room))
