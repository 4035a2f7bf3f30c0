"""What screens on a sweep share: following it, and saying what it should do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from textual import work
from textual.message import Message
from textual.timer import Timer

from engine.control import Desired
from engine.errors import ConfigError, StorageError
from engine.sweep_watch import SweepLook
from proxprop_cli.dashboard.screens.control import ControlScreen, Training
from proxprop_cli.dashboard.sweep_status import SweepFollower, SweepStatus

POLL_SECONDS = 0.5
"""Time between two looks at the disk."""


class SweepScreen(ControlScreen):
    """A screen on one sweep; call :meth:`follow_sweep` when it is made.

    :ivar look: its cells, once they are known.
    :ivar status: how it is, once that is known.
    :ivar problem: why it can not be read now.
    """

    look: SweepLook | None = None
    status: SweepStatus | None = None
    problem: str = ""

    @dataclass
    class Looked(Message):
        """The sweep was looked at and has changed, or can not be read."""

        look: SweepLook | None
        status: SweepStatus | None
        problem: str = ""

    def follow_sweep(self, root: Path, sweep_id: str) -> None:
        """Which sweep.

        :param root: folder of the runs.
        """
        self.root = root
        self.sweep_id = sweep_id
        self._follower = SweepFollower(root, sweep_id)
        self._told: tuple[object, ...] = ()
        self._looking = False
        self._timer: Timer | None = None

    def show_sweep(self, look: SweepLook | None) -> None:
        """Bring the screen up to date.

        :param look: new ones only.
        """
        raise NotImplementedError

    def on_mount(self) -> None:
        """Look at once, then at intervals."""
        self._timer = self.set_interval(POLL_SECONDS, self.look_now)
        self.look_now()

    def on_screen_suspend(self) -> None:
        """What is not seen is not looked at."""
        if self._timer is not None:
            self._timer.pause()

    def on_screen_resume(self) -> None:
        """Go on."""
        if self._timer is not None:
            self._timer.resume()

    def look_now(self) -> None:
        """Look at the disk in a thread."""
        # a thread can not be stopped: where the disk is slow, the next look waits for the last
        if not self._looking:
            self._looking = True
            self._look_at_disk()

    @work(thread=True, exclusive=True, group="sweep")
    def _look_at_disk(self) -> None:
        look, status, problem = None, None, ""
        try:
            look, status = self._follower.look()
        except (ConfigError, StorageError) as error:
            # the folder of all runs says nothing here and takes the room of what does
            problem = str(error).replace(f"{self.root}{os.sep}", "")
        finally:
            self._looking = False
        told = (look, status, problem)
        if told != self._told:
            self._told = told
            self.post_message(self.Looked(look, status, problem))

    def on_sweep_screen_looked(self, message: Looked) -> None:
        """Show what was found; what was known stays where nothing new can be read."""
        self.problem = message.problem
        new = message.look if message.look is not self.look else None
        if message.look is not None:
            self.look, self.status = message.look, message.status
        self.show_sweep(new)
        self.offer()
        self.settle()

    @property
    def training(self) -> Training | None:
        """The sweep, once it is known whether anybody trains it."""
        status = self.status
        if status is None:
            return Training(self.sweep_id) if self.problem else None
        return Training(self.sweep_id, status.live, status.runs_on, status.word == "starting")

    def want(self, desired: Desired, reason: str) -> None:
        """Leave word for whoever trains it."""
        try:
            self._follower.folder.set_desired(desired, reason)
        finally:
            self.look_now()

    def hint(self) -> str:
        """How to go on with what nobody trains; else nothing."""
        if self.status is None or not self.status.waits:
            return ""
        return f"'proxprop resume {self.sweep_id}' goes on"
