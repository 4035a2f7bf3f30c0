"""The processes of a cluster that train for us, and what Ray tells when one of them is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.cluster.seat import News
from engine.control import Desired
from engine.file_control import FileControl
from engine.locks import RunLock
from engine.run import Run

_SHOWN = 200


@dataclass(slots=True, eq=False)
class Errand:
    """A run that is elsewhere.

    :ivar before: status and reason of the run before it went.
    :ivar told: the word that was passed on last.
    :ivar begun: whether a process has it, as far as is known here.
    :ivar arrived: its end, which found no room on the disk.
    """

    number: int
    run: Run
    lock: RunLock
    control: FileControl
    before: tuple[str, str]
    told: tuple[Desired, str] = (Desired.RUNNING, "")
    begun: bool = False
    arrived: tuple[News, bytes] | None = None
    next_try: float = 0.0


@dataclass(slots=True, eq=False)
class Place:
    """A process of the cluster.

    :ivar asked: what Ray gives for the question for news: references to the news and the parcel.
    :ivar idle_since: when it ended its last run, by the monotonic clock; None: it never had one.
    """

    actor: Any
    errand: Errand | None = None
    idle_since: float | None = None
    asked: list[Any] = field(default_factory=list)


def why(error: BaseException) -> str:
    """The one line that tells most of what Ray tells of a death."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if getattr(error, "actor_init_failed", False):
        return f"no process could begin there: {lines[-1][:_SHOWN]}"
    telling = [line for line in lines if line.startswith(("The actor is dead", "The node"))]
    reason = (telling or lines or ["no reason given"])[0]
    # what comes after is for people who run Ray
    return f"its process is gone: {reason.partition(' Worker exit type')[0][:_SHOWN]}"
