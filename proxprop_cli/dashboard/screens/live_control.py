"""What keys do to the runs of the live screen, and why some do nothing."""

from __future__ import annotations

from typing import ClassVar

from textual.events import Key

from engine.control import Desired
from proxprop_cli.dashboard.messages import DiagnosisWanted
from proxprop_cli.dashboard.screens.control import ControlScreen, Training
from proxprop_cli.dashboard.screens.live_base import RunsScreen
from proxprop_cli.dashboard.views import RunView

_KEYS = {"b": "band", "c": "diagnose", "i": "images", "v": "metric"}
"""Of actions that some runs have nothing for."""


class RunControl(RunsScreen, ControlScreen):
    """Control over all runs that are shown."""

    SOMETIMES: ClassVar[tuple[str, ...]] = (*ControlScreen.SOMETIMES, "band", "images")

    @property
    def training(self) -> Training | None:
        """Those runs that are live, once all are known."""
        live = self.live
        if not self.are_known:
            return None
        name = f"run {live[0].id}" if len(live) == 1 else f"{len(live)} runs"
        return Training(name, bool(live), any(_runs_on(view) for view in live))

    def want(self, desired: Desired, reason: str) -> None:
        """Leave word for those that are live."""
        runs = {run.id: run for run in self.runs}
        try:
            for view in self.live:
                runs[view.id].set_desired(desired, reason)
        finally:
            if self.poller is not None:
                self.poller.wake()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done now is offered."""
        return not self.why_not(action) and super().check_action(action, parameters)

    def on_key(self, event: Key) -> None:
        """Say why a key does nothing with these runs."""
        reason = self.why_not(_KEYS.get(event.key, "")) if self.are_known else ""
        if reason:
            self.notify(reason, markup=False)

    def action_diagnose(self) -> None:
        """Measure how well conditioned the run is."""
        self.post_message(DiagnosisWanted(self.runs[0]))


def _runs_on(view: RunView) -> bool:
    """Whether it runs, or will once it has started or heard us."""
    paused = view.status == "paused" and view.wanted != "going on"
    return view.is_live and not paused and view.wanted != "pausing"
