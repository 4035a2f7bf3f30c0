"""What trains runs on a machine of the cluster: a process that stays for many of them.

It is an actor of Ray, but knows nothing of Ray. A run comes as a parcel, is trained in a folder of
this machine, and goes home as a parcel: at checkpoints, when it pauses, and at its end. News and
parcels are bytes, so that nothing of a run is ever pickled.
"""

from __future__ import annotations

import json
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from engine.control import Desired, Word
from engine.errors import ProxPropError, StorageFullError
from engine.pool import Outcome, train_run

if TYPE_CHECKING:
    from engine.data.dataset import KeptDataset
    from engine.events import EndStatus, Event
    from engine.run import Run

NEWS_SECONDS = 10.0
"""Longest time that a question for news waits for an answer."""
_EPOCH_SECONDS = 1.0
_PARCEL_SECONDS = 2.0
_PARCEL_SHARE = 20
"""A parcel is made again after so many times the time that it took."""
_ROOM_SECONDS = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class News:
    """What is to be known at home of a run that is trained here.

    :ivar kind: ``begun``: it has a process; ``epoch``: what an epoch came to; ``kept``: there is a
        checkpoint, which comes with it; ``nothing``; else as :class:`engine.pool.Outcome` has it.
    """

    kind: Literal["begun", "epoch", "kept", "nothing", "ended", "failed", "held", "freed"]
    text: str = ""
    status: EndStatus | None = None
    step: int = 0
    epoch: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As JSON, with NaN and infinities in Python's spelling."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> News:
        """What :meth:`to_bytes` made."""
        return cls(**json.loads(content))


def versions() -> dict[str, str]:
    """What all machines of a sweep must have in the same version, for the same bits."""
    found = {}
    for package in ("proxprop", "torch"):
        try:
            # builds for CPU and for CUDA differ in what comes after the plus
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "none"
    return found


class Outbox:
    """What is to be fetched: of epochs, and of checkpoints, the newest alone. Who fetches slowly
    misses some of them, and no checkpoint has to wait for epochs to be fetched."""

    def __init__(self) -> None:
        self._waiting: list[tuple[News, bytes]] = []
        self._changed = threading.Condition()

    def put(self, news: News, parcel: bytes = b"") -> None:
        """Have something fetched."""
        with self._changed:
            if news.kind in ("epoch", "kept"):
                self._waiting = [one for one in self._waiting if one[0].kind != news.kind]
            self._waiting.append((news, parcel))
            self._changed.notify()

    def take(self, seconds: float) -> tuple[News, bytes]:
        """The oldest of it, or that there was nothing for so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, seconds):
                return News("nothing"), b""
            return self._waiting.pop(0)


class Seat:
    """Trains one run after the other, in a thread that lives as long as the process."""

    def __init__(
        self,
        expected: dict[str, str],
        data_dir: str | None,
        side_by_side: int,
        allow_inexact: bool = False,
        where: Callable[[], str] = lambda: "",
    ) -> None:
        """Sit down.

        :param expected: :func:`versions` of the machine that asks.
        :param data_dir: where data sets are kept; None: in the cache of this machine.
        :param allow_inexact: let runs go on that began on a machine unlike this one.
        :param where: tells what this machine is called.
        :raises RuntimeError: this machine has other versions.
        """
        from engine.cluster.workspace import workspace

        for package, found in versions().items():
            if found != expected[package]:
                raise RuntimeError(
                    f"expected {package} {expected[package]} as on the machine that asks, found "
                    f"{found}; install the same on all machines"
                )
        self._data_dir = data_dir
        self._side_by_side = side_by_side
        self._allow_inexact = allow_inexact
        self._stack = ExitStack()
        self._where = where()
        place = Path(tempfile.gettempdir())
        self._folder = _with_room(lambda: self._stack.enter_context(workspace(place)), None, Word())
        self._words: dict[int, Word] = {}
        self._parcels: queue.SimpleQueue[tuple[int, str, bytes]] = queue.SimpleQueue()
        self._news = Outbox()
        threading.Thread(target=self._work, name="proxprop-training", daemon=True).start()

    def begin(self, errand: int, run: str, parcel: bytes) -> None:
        """Train a run as soon as the one before is done.

        :param errand: another number for every call.
        :param run: its id.
        """
        self._parcels.put((errand, run, parcel))

    def news(self, errand: int) -> tuple[bytes, bytes]:
        """Wait for what is next to be known of a run, and what comes with it, as bytes.

        :param errand: for whoever looks at a list of tasks.
        """
        news, parcel = self._news.take(NEWS_SECONDS)
        return news.to_bytes(), parcel

    def tell(self, errand: int, desired: str, reason: str) -> None:
        """Say what a run should do; also before it has come, because calls may overtake others."""
        self._word(errand).hear(Desired(desired), reason)

    def leave(self) -> None:
        """Remove what is left on this machine."""
        self._stack.close()

    def _word(self, errand: int) -> Word:
        return self._words.setdefault(errand, Word())

    def _work(self) -> None:
        from engine.data.dataset import KeptDataset

        kept = KeptDataset()
        while True:
            errand, id, parcel = self._parcels.get()
            self._news.put(News("begun", self._where))
            try:
                news, parcel = self._train(errand, id, parcel, kept)
            except Exception as error:  # noqa: BLE001 - who asked would wait for ever
                news, parcel = News("failed", f"{type(error).__name__}: {error}"), b""
            self._words.pop(errand, None)
            self._news.put(news, parcel)

    def _train(self, errand: int, id: str, parcel: bytes, kept: KeptDataset) -> tuple[News, bytes]:
        from engine.cluster.parcel import make_run, pack
        from engine.data import default_data_dir
        from engine.session import Sitting

        folder = self._folder / id
        try:
            word = self._word(errand)
            try:
                run = _with_room(lambda: make_run(folder, parcel), folder, word)
            except ProxPropError as error:
                return News("failed", str(error)), b""
            sitting = Sitting(
                control=word,
                listener=_Correspondent(run, self._news),
                data_dir=Path(self._data_dir) if self._data_dir else default_data_dir(),
                load=kept.load,
                side_by_side=self._side_by_side,
                allow_inexact=self._allow_inexact,
            )
            outcome = train_run(run, sitting)
            while outcome.kind == "full" and word.desired() is not Desired.STOPPED:
                time.sleep(_ROOM_SECONDS)
                outcome = train_run(run, sitting)
            return _news_of(outcome), _with_room(lambda: pack(run), None, word)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _with_room(make: Callable[[], T], folder: Path | None, word: Word) -> T:
    """What is made, as soon as the disk here has room for it.

    :param folder: to be removed where it was made in part.
    :raises StorageFullError: there is none, and the run was told to stop.
    """
    while True:
        try:
            return make()
        except StorageFullError:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if word.desired() is Desired.STOPPED:
                raise
            time.sleep(_ROOM_SECONDS)


class _Correspondent:
    """Writes home what happens to a run: not more often than it is worth."""

    def __init__(self, run: Run, news: Outbox) -> None:
        self._run = run
        self._news = news
        self._next_epoch = 0.0
        # what is over at once comes home at its end
        self._next_parcel = time.monotonic() + _PARCEL_SECONDS

    def __call__(self, event: Event) -> None:
        """Take an event that is stored already."""
        from engine.events import CheckpointDue, EpochDone, Paused, Unpaused

        now = time.monotonic()
        match event:
            case EpochDone() if now >= self._next_epoch:
                self._next_epoch = now + _EPOCH_SECONDS
                news = News(
                    "epoch", step=event.step, epoch=event.epoch, metrics=dict(event.metrics)
                )
                self._news.put(news)
            case CheckpointDue() if now >= self._next_parcel:
                self._send("kept")
            case Paused():
                self._send("held")
            case Unpaused():
                self._send("freed")

    def _send(self, kind: Literal["kept", "held", "freed"]) -> None:
        from engine.cluster.parcel import pack

        began = time.monotonic()
        try:
            self._news.put(News(kind), pack(self._run))
        except StorageFullError:
            # no room for a copy now: the next one has what this one has not
            if kind != "kept":
                self._news.put(News(kind))
        now = time.monotonic()
        self._next_parcel = now + max(_PARCEL_SECONDS, _PARCEL_SHARE * (now - began))


def _news_of(outcome: Outcome) -> News:
    # nobody else can have a run in our folder; if so, to wait for them would help nobody
    kind: Literal["ended", "failed"] = "ended" if outcome.kind == "ended" else "failed"
    return News(kind, outcome.text, outcome.status)
