"""Pausing, stopping and leaving: the same keys and questions, whatever it is that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.control import Desired
from engine.errors import StorageError
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.output import printable

_LEAVE = "Leave: detach, stop or cancel"


@dataclass(frozen=True, slots=True)
class Training:
    """What the keys are about, at one moment.

    :ivar name: as questions call it, such as ``run abcd2345``.
    :ivar live: whether it can be paused or stopped.
    :ivar runs_on: whether it runs, or will once it has started or heard us.
    :ivar starts: whether a process is about to take it.
    """

    name: str
    live: bool = False
    runs_on: bool = False
    starts: bool = False


class ControlScreen(Screen[None]):
    """Says what runs or a sweep should do; whoever trains them hears it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause", tooltip="Pause: hold between two steps"),
        Binding("p", "go_on", "Resume", tooltip="Resume: go on after a pause"),
        Binding("s", "stop", "Stop", tooltip="Stop; asks first, the state is kept"),
        Binding("q", "leave", "Quit", tooltip=_LEAVE),
        Binding("ctrl+c,ctrl+q", "leave", "Quit", tooltip=_LEAVE, show=False),
        Binding("question_mark", "app.show_help", "Help", tooltip="These keys"),
        Binding("f1", "app.show_help", "Help", show=False),
    ]
    SOMETIMES: ClassVar[tuple[str, ...]] = ("pause", "go_on", "stop")
    """Actions that can be done at times only."""
    _offered: tuple[bool | None, ...] = ()
    _leaves = False
    """Whether it was left before it was known whether anything is live."""
    _question: Choice | None = None
    """What was asked last."""
    _asked_about = ""

    @property
    def training(self) -> Training | None:
        """How it is now; None: that is not known yet."""
        raise NotImplementedError

    def want(self, desired: Desired, reason: str) -> None:
        """Leave word.

        :raises StorageError: it can not be written.
        """
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done now is offered."""
        if action not in ControlScreen.SOMETIMES:
            return True
        now = self.training
        if now is None or not now.live:
            return False
        return action == "stop" or now.runs_on is (action == "pause")

    def offer(self) -> None:
        """Show other keys where others are of use now."""
        offered = tuple(self.check_action(name, ()) for name in self.SOMETIMES)
        if offered != self._offered:
            # the footer is made anew by this
            self._offered = offered
            self.refresh_bindings()

    def action_pause(self) -> None:
        """Hold what runs between two steps."""
        self._leave_word(Desired.PAUSED)

    def action_go_on(self) -> None:
        """Let go on what is paused."""
        self._leave_word(Desired.RUNNING)

    def action_stop(self) -> None:
        """Ask, then end it, its state kept."""
        now = self.training
        assert now is not None
        question = f"Stop {now.name}? The state is kept; 'proxprop resume' goes on from it."

        def answered(key: str | None) -> None:
            if key == "s":
                self._leave_word(Desired.STOPPED)

        self._ask(now.name, question, [("s", "stop")], answered)

    def action_leave(self) -> None:
        """Leave; where something is live, ask what is to become of it.

        Who leaves before that is known waits for it, or leaves by a second time.
        """
        now = self.training
        if now is None and not self._leaves:
            self._leaves = True
            return
        self._leaves = False
        if now is None or not (now.live or now.starts):
            self.app.exit()
            return

        def answered(key: str | None) -> None:
            if key == "s":
                self._leave_word(Desired.STOPPED)
            if key is not None:
                self.app.exit()

        goes_on = now.runs_on or now.starts
        detach = "training goes on" if goes_on else "stays paused, in a process of its own"
        answers = [("d", f"detach: {detach}"), ("s", "stop, the state is kept")]
        self._ask(now.name, f"Leave {now.name}?", answers, answered)

    def _ask(
        self,
        name: str,
        question: str,
        answers: Sequence[tuple[str, str]],
        answered: Callable[[str | None], None],
    ) -> None:
        self._question, self._asked_about = Choice(question, answers), name
        self.app.push_screen(self._question, answered)

    def settle(self) -> None:
        """Leave, if that was asked for and is possible by now; call off a question about what
        has ended meanwhile."""
        now = self.training
        if now is None:
            return
        if self._leaves:
            self.action_leave()
            return
        question, goes_on = self._question, now.live or now.starts
        # one below the palette waits: that would be left in its place
        if question is not None and question.is_active and not goes_on:
            question.dismiss(None)
            text = f"{self._asked_about} is not being trained any more"
            self.notify(printable(text), markup=False)

    def _leave_word(self, desired: Desired) -> None:
        try:
            self.want(desired, "asked to stop" if desired is Desired.STOPPED else "")
        except StorageError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
