"""What screens tell the app."""

from __future__ import annotations

from collections.abc import Mapping

from textual.message import Message

from engine.run import Run
from proxprop_cli.dashboard.views import Place


class RunsChosen(Message):
    """A person wants to see these runs together.

    :param runs: their ids, at least one.
    :param places: by id, of those that belong to a sweep that was being looked at.
    """

    def __init__(self, runs: tuple[str, ...], places: Mapping[str, Place] | None = None) -> None:
        self.runs = runs
        self.places = places or {}
        super().__init__()


class SweepChosen(Message):
    """A person wants to see a sweep or a comparison.

    :param sweep: its id.
    """

    def __init__(self, sweep: str) -> None:
        self.sweep = sweep
        super().__init__()


class RunsWanted(Message):
    """A person wants to see the list of runs.

    :param filtering: and to look for some.
    """

    def __init__(self, *, filtering: bool = False) -> None:
        self.filtering = filtering
        super().__init__()


class DiagnosisWanted(Message):
    """A person wants to see how well conditioned a run is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        super().__init__()
