"""Every command once in an interpreter of its own, which has imported nothing before."""

from __future__ import annotations

import pytest

from tests.cli.terminal import SMALL

COMMANDS = [
    ["runs", "list"],
    ["runs", "show", "latest"],
    ["resume", "latest", "--epochs", "2", "--plain"],
    ["export", "latest", "-o", "out.csv"],
    ["plot", "latest", "-o", "out.png"],
    ["diagnose", "latest"],
    ["compare", *SMALL, "--epochs", "1", "--methods", "backprop", "--seeds", "1", "--plain"],
    ["bench", "--model", "mlp", "--batch-size", "2", "--rounds", "1", "--no-memory"],
    ["presets", "list"],
    ["doctor"],
]


@pytest.mark.timeout(600)
def test_commands_import_what_they_need(cold_terminal, tmp_path):
    assert cold_terminal("train", *SMALL, "--epochs", "1").code == 0
    for command in COMMANDS:
        answer = cold_terminal(*(name.replace("out.", f"{tmp_path}/out.") for name in command))
        assert answer.code == 0, (command, answer.err)
