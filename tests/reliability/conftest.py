from __future__ import annotations

from functools import partial

import pytest

from tests.cli.terminal import Terminal
from tests.reliability.disk.small_disk import small_disk  # noqa: F401 - a fixture
from tests.reliability.trainings import FALLING, undisturbed


@pytest.fixture
def impatient(cli, monkeypatch):
    """A command in this process that does not wait until a run does as it was told."""
    monkeypatch.setattr("proxprop_cli.commands.control._PATIENCE_SECONDS", 0.0)
    return cli


@pytest.fixture(scope="session")
def falling(tmp_path_factory):
    """What the training comes to whose solver falls back, if nothing happens to it."""
    folder = tmp_path_factory.mktemp("falling")
    return undisturbed(partial(Terminal(folder), seconds=600.0), folder, *FALLING)
