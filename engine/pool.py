"""What gives runs to processes and hears how they ended, wherever those processes are.

:mod:`engine.workers` has processes of this machine, :mod:`engine.cluster` those of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from engine.control import Desired
from engine.errors import BusyError, ProxPropError, StorageFullError
from engine.memory_errors import describe_failure
from engine.run import Run

if TYPE_CHECKING:
    from engine.events import EndStatus
    from engine.session import Sitting

Passing = Literal["held", "freed"]
"""A run waits because it is paused, or goes on."""
Kind = Literal["ended", "busy", "full", "failed", "died", "returned", "held", "freed"]

PASSING: tuple[Passing, ...] = ("held", "freed")
ORPHANED = "its sweep ended"
"""Why a run stops whose giver is gone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a process says of the run it was given.

    :ivar kind: ``ended``: training came to the end ``status``, because of ``text``; ``busy``:
        another process has the run; ``full``: the disk has no room to begin; ``failed``: an error,
        said in ``text``; ``died``: the process is gone; ``returned``: no process had it, and not
        for a fault of the run. ``held`` and ``freed`` are none of these: it waits, or goes on.
    """

    run: str
    kind: Kind
    text: str = ""
    status: EndStatus | None = None


class Pool(Protocol):
    """Processes that train runs, so many side by side; to be closed by ``with``."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def running(self) -> Sequence[str]:
        """Ids of the runs that are being trained."""
        ...

    @property
    def idle(self) -> int:
        """How many more runs can be given now."""
        ...

    def give(self, run: str) -> None:
        """Let a run be trained, from its newest checkpoint if it has one.

        :param run: id of a run that is in the folder already.
        """
        ...

    def tell(self, desired: Desired, reason: str = "") -> None:
        """Say what all runs that are being trained should do now."""
        ...

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """What came to an end, at once if anything did, else within so many seconds."""
        ...


def train_run(run: Run, sitting: Sitting) -> Outcome:
    """Train a run in this process to its end, whatever that is: nothing is raised."""
    from engine.session import sit

    try:
        ended = sit(run, sitting)
    except BusyError as error:
        return Outcome(run.id, "busy", str(error))
    except StorageFullError as error:
        # even looking into a store may take room; once it trains, it waits by itself
        if sitting.control.desired() is Desired.STOPPED:
            return Outcome(run.id, "ended", sitting.control.stop_reason(), "stopped")
        return Outcome(run.id, "full", str(error))
    except ProxPropError as error:
        return fail(run, str(error))
    except Exception as error:  # noqa: BLE001 - one run's failure must not end the others
        return fail(run, describe_failure(error))
    return Outcome(run.id, "ended", ended.reason, ended.status)


def fail(run: Run, text: str) -> Outcome:
    """Leave a failure in the run's store too, where it can be written."""
    from engine.store import StoreWriter

    with suppress(ProxPropError), run.lock(), StoreWriter(run.database) as writer:
        writer.set_state({"status": "failed", "reason": text[:1000]})
    return Outcome(run.id, "failed", text)
