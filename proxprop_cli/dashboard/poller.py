"""One thread that follows runs and tells the screen when one of them has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.views import Member, RunView

POLL_SECONDS = 0.5
"""Between two looks, which is also the least time between two redraws."""

_OPENERS = 4


class Poller:
    """Follows runs until it is stopped.

    :param changed: called in the poller's thread with all views, whenever one has changed; at
        first also when the first run has been opened, so that something is seen soon.
    """

    def __init__(
        self, members: Sequence[Member], changed: Callable[[tuple[RunView, ...]], None]
    ) -> None:
        self.members = tuple(members)
        """Which runs to follow; :meth:`wake` after a change."""
        self._feeds: dict[str, Feed] = {}
        self._changed = changed
        self.keys: frozenset[str] = frozenset()
        """Series to follow beside those that always are; :meth:`wake` after a change."""
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._follow, name="poller", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End, without waiting for a look that is being taken."""
        self._stopped = True
        self._wake.set()

    def _follow(self) -> None:
        known: tuple[RunView, ...] = ()
        while not self._stopped:
            views = self._look(known)
            if [*map(id, views)] != [*map(id, known)] and not self._stopped:
                self._changed(views)
            known = views
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def _look(self, known: tuple[RunView, ...]) -> tuple[RunView, ...]:
        keys = self.keys
        fresh = self._choose()
        feeds = list(self._feeds.values())
        if not feeds:
            return ()
        if len(fresh) <= 1 and known:
            for feed in feeds:
                if not self._stopped:
                    feed.poll(keys)
            return tuple(feed.view for feed in feeds)
        # SQLite lets others work while it reads, so that many runs open in less time
        with ThreadPoolExecutor(_OPENERS) as pool:
            opened = pool.map(lambda feed: feed.poll(keys), feeds)
            next(opened, None)
            self._changed(tuple(feed.view for feed in feeds))
            for _ in opened:
                pass
        return tuple(feed.view for feed in feeds)

    def _choose(self) -> list[Feed]:
        """Have a feed a member, in their order; gives the new ones."""
        before = self._feeds
        self._feeds = {
            member.run.id: before.get(member.run.id) or Feed(member.run, member.place)
            for member in self.members
        }
        return [self._feeds[id] for id in self._feeds.keys() - before.keys()]
