"""What screens tell the app."""

from __future__ import annotations

from textual.message import Message


class RunsChosen(Message):
    """A person wants to see these runs together.

    :param runs: their ids, at least one.
    """

    def __init__(self, runs: tuple[str, ...]) -> None:
        self.runs = runs
        super().__init__()


class RunsWanted(Message):
    """A person wants to see the list of runs.

    :param filtering: and to look for some.
    """

    def __init__(self, *, filtering: bool = False) -> None:
        self.filtering = filtering
        super().__init__()
