"""The runs of a sweep on the machines of a Ray cluster, each in a process that stays for many.

While a run is elsewhere, its lock is held here, so that nobody else trains it; its store here shows
what has come home, and the word left in its folder here is passed on. Where a process or a machine
dies, the run goes on from the newest checkpoint that came home. Ray's own retries would begin again
with what the task was first given, so they are off.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self

from engine.cluster import arrivals
from engine.cluster.connection import load_ray, node_id
from engine.cluster.fleet import Fleet
from engine.cluster.parcel import pack
from engine.cluster.places import Errand, Place, why
from engine.cluster.seat import News, Seat, versions
from engine.cluster.shares import Share
from engine.control import Desired
from engine.errors import BusyError, ConfigError, ProxPropError, StorageFullError, TeamError
from engine.file_control import FileControl
from engine.pool import ORPHANED, Kind, Outcome
from engine.run import Run
from engine.store_copy import remove_left_copies

_LOOK_SECONDS = 2.0
"""Machines come and go."""
_IDLE_SECONDS = 5.0
"""A process that found no run for so long leaves its CPUs and GPUs to others."""
_LEAVE_SECONDS = 60.0
_RETURNS_ALLOWED = 5
"""Processes that may die, one after the other, before a run begins in one of them."""
_ROOM_SECONDS = 1.0


class RayPool:
    """A :class:`engine.pool.Pool` of processes all over a cluster, which must be connected.

    :param root: folder of the runs.
    :param share: what a run takes of a machine.
    :param jobs: runs side by side at most; None: as many as find room.
    :param data_dir: where every machine keeps data sets; None: each in its own cache.
    :param allow_inexact: let runs go on on machines unlike those on which they began.
    :raises ConfigError: no machine of the cluster has room for a run.
    """

    def __init__(
        self,
        root: Path,
        share: Share,
        jobs: int | None,
        data_dir: Path | None,
        *,
        allow_inexact: bool = False,
    ) -> None:
        self._ray = load_ray()
        self._root = root
        self._fleet = Fleet(share, jobs)
        self._data_dir = data_dir
        self._allow_inexact = allow_inexact
        self._places: list[Place] = []
        self._outcomes: list[Outcome] = []
        self._word: tuple[Desired, str] = (Desired.RUNNING, "")
        self._numbers = count(1)
        self._returns: Counter[str] = Counter()
        self._next_look = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the runs that are elsewhere, or whose end was not told yet."""
        away = (place.errand.run.id for place in self._places if place.errand)
        return (*away, *(outcome.run for outcome in self._outcomes))

    @property
    def idle(self) -> int:
        """How many more runs find room in the cluster now."""
        waiting = sum(place.errand is None for place in self._places)
        return max(waiting, self._fleet.room - len(self.running))

    def give(self, run: str) -> None:
        """Send a run away; that another process has it is told by :meth:`wait`.

        :raises StorageError: it can not be read.
        """
        home = Run(self._root / run)
        try:
            lock = home.lock()
        except BusyError as error:
            self._outcomes.append(Outcome(run, "busy", str(error)))
            return
        try:
            remove_left_copies(home.database)
            parcel = pack(home)
            before = arrivals.status_of(home)
            place = next((one for one in self._places if one.errand is None), None)
            if place is None:
                if not self._head_is_there():
                    # to begin a process would wait for the head, and not only for a while
                    lock.release()
                    self._outcomes.append(Outcome(run, "returned"))
                    return
                place = self._take_place()
            arrivals.note_status(home, "running")
            errand = Errand(next(self._numbers), home, lock, FileControl(home), before)
            try:
                place.actor.begin.remote(errand.number, run, parcel)
            except self._ray.exceptions.RayError as error:
                # such as no room for the parcel where Ray keeps what travels
                lock.release()
                self._outcomes.append(Outcome(run, "died", why(error)))
                return
            place.errand = errand
            self._ask(place)
        except BaseException:
            lock.release()
            raise

    def tell(self, desired: Desired, reason: str = "") -> None:
        """Say what all runs should do now that are elsewhere."""
        self._word = desired, reason
        self._pass_words_on()

    def wait(self, seconds: float) -> list[Outcome]:
        """What came to an end, at once if anything did, else within so many seconds.

        :raises TeamError: the cluster's head is gone.
        :raises ConfigError: there are machines, but none that can train.
        """
        if time.monotonic() >= self._next_look:
            self._fleet.look()
            self._leave_idle()
            self._next_look = time.monotonic() + _LOOK_SECONDS
            if not self._places:
                self._fleet.refuse_if_unfit()
        self._pass_words_on()
        for place in list(self._places):
            if place.errand and place.errand.arrived and time.monotonic() >= place.errand.next_try:
                self._receive(place, place.errand, *place.errand.arrived)
        asked = {place.asked[0]: place for place in self._places if place.asked}
        if asked:
            timeout = 0.0 if self._outcomes else seconds
            ready, _ = self._ray.wait(list(asked), num_returns=1, timeout=timeout)
            if ready:
                ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0.0)
            for reference in ready:
                self._hear(asked[reference])
        elif self._places and not self._outcomes:
            time.sleep(seconds)  # ends that wait for room have nobody to ask
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """Leave the cluster's processes; runs that are still away stop and come home."""
        try:
            if not self._fleet.is_lost:
                self._call_home()
        finally:
            for place in self._places:
                if place.errand:
                    place.errand.lock.release()
            self._places.clear()

    def _call_home(self) -> None:
        self.tell(Desired.STOPPED, ORPHANED)
        end = time.monotonic() + _LEAVE_SECONDS
        with suppress(TeamError, ConfigError):
            while self.running and time.monotonic() < end:
                self.wait(0.1)
        if self._fleet.is_lost:
            return
        leaving = [place.actor.leave.remote() for place in self._places]
        if leaving:
            with suppress(self._ray.exceptions.RayError):
                self._ray.wait(leaving, num_returns=len(leaving), timeout=_LEAVE_SECONDS)
        for place in self._places:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(place.actor)

    def _head_is_there(self) -> bool:
        try:
            return self._fleet.look()
        except TeamError:
            return False  # the next who waits is told

    def _leave_idle(self) -> None:
        """Processes for which there is no run left go: a handle that is gone ends its process."""
        now = time.monotonic()
        for place in list(self._places):
            since = place.idle_since
            if place.errand is None and since is not None and now - since > _IDLE_SECONDS:
                place.actor.leave.remote()
                self._places.remove(place)

    def _take_place(self) -> Place:
        seat = self._ray.remote(Seat).options(
            **self._fleet.options(), max_restarts=0, max_concurrency=4
        )
        data_dir = None if self._data_dir is None else str(self._data_dir.absolute())
        together = self._fleet.together
        actor = seat.remote(versions(), data_dir, together, self._allow_inexact, node_id)
        place = Place(actor)
        self._places.append(place)
        return place

    def _ask(self, place: Place) -> None:
        assert place.errand is not None
        question = place.actor.news.options(num_returns=2)
        place.asked = question.remote(place.errand.number)

    def _pass_words_on(self) -> None:
        for place in list(self._places):
            errand = place.errand
            if errand is None:
                continue
            own = errand.control.desired()
            if self._word[0] is Desired.STOPPED:
                word = self._word
            elif own is not Desired.RUNNING:
                word = own, errand.control.stop_reason()
            else:
                word = self._word
            if word == errand.told:
                continue
            errand.told = word
            if word[0] is Desired.STOPPED and not errand.begun:
                # no machine has taken it yet, and maybe none will
                self._drop(place, Outcome(errand.run.id, "ended", word[1], "stopped"))
                with suppress(ProxPropError):
                    arrivals.note_status(errand.run, "stopped", word[1])
            else:
                place.actor.tell.remote(errand.number, word[0].value, word[1])

    def _hear(self, place: Place) -> None:
        """Take what a process answers."""
        errand = place.errand
        assert errand is not None
        try:
            content, parcel = self._ray.get(place.asked)
        except self._ray.exceptions.RayError as error:
            self._drop(place, self._outcome_of(place, errand, error))
            return
        try:
            news = News.from_bytes(content)
        except (ValueError, TypeError) as error:
            self._drop(place, Outcome(errand.run.id, "failed", f"what came is no news: {error}"))
            return
        if not errand.begun:
            errand.begun = True
            self._returns.pop(errand.run.id, None)
            self._fleet.note_start(news.text)
        place.asked = []
        self._receive(place, errand, news, parcel)

    def _outcome_of(self, place: Place, errand: Errand, error: BaseException) -> Outcome:
        """Whether a run has to answer for the end of its process."""
        run = errand.run.id
        # one that ran before died while nobody looked
        is_idle = place.idle_since is not None
        told = "" if errand.begun or is_idle else self._fleet.note_false_start(error)
        if not told:
            self._returns[run] += 1
        if errand.begun or told is None or self._returns[run] > _RETURNS_ALLOWED:
            return Outcome(run, "died", why(error))
        with suppress(ProxPropError):
            arrivals.note_status(errand.run, *errand.before)
        return Outcome(run, "returned", told)

    def _receive(self, place: Place, errand: Errand, news: News, parcel: bytes) -> None:
        """Let home be as the news have it."""
        run, over = errand.run, news.kind in ("ended", "failed")
        try:
            if news.kind == "epoch":
                arrivals.note_progress(run, news.step, news.epoch, news.metrics)
            if parcel:
                arrivals.take_in(run, parcel)
            elif news.kind == "failed":
                arrivals.note_status(run, "failed", news.text)
        except StorageFullError as error:
            # what comes later brings all of it; an end waits for room, unless all is to stop
            if over and errand.told[0] is not Desired.STOPPED:
                run.set_waiting(True)
                errand.arrived = news, parcel
                errand.next_try = time.monotonic() + _ROOM_SECONDS
                return
            if over:
                news = News("failed", f"stopped without room for its last steps: {error}")
        except ProxPropError as error:
            # where it was not over, it trains on and is of no use
            self._drop(place, Outcome(run.id, "failed", f"it can not be kept here: {error}"))
            return
        if errand.arrived:
            run.set_waiting(False)
        if over:
            self._finish(place, errand, news)
            return
        if news.kind in ("held", "freed"):
            self._outcomes.append(Outcome(run.id, news.kind))
        self._ask(place)

    def _finish(self, place: Place, errand: Errand, news: News) -> None:
        errand.lock.release()
        place.errand, place.idle_since = None, time.monotonic()
        kind: Kind = "ended" if news.kind == "ended" else "failed"
        self._outcomes.append(Outcome(errand.run.id, kind, news.text, news.status))

    def _drop(self, place: Place, outcome: Outcome) -> None:
        """Do without a process."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(place.actor)
        if place.errand:
            place.errand.lock.release()
        self._places.remove(place)
        self._outcomes.append(outcome)
