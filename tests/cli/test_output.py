"""Tables for terminals of any width."""

from __future__ import annotations

import re

import pytest

from proxprop_cli import output
from proxprop_cli.output import Output

COLUMNS = ["id", "name", "status", "loss", "sweep"]
ROWS = [
    ["backprop-abcdefghij", "", "finished", "0.5", "sweep-abcdefghij"],
    ["backprop-klmnopqrst", "", "finished", "0.25", "sweep-abcdefghij"],
]


@pytest.fixture
def lines(capsys, monkeypatch):
    """The table in a terminal of this width."""

    def draw(width: int, *least: str) -> list[str]:
        monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")
        Output().table(COLUMNS, ROWS, least=least)
        plain = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
        return [line for line in plain.splitlines() if line.strip(" ─")]

    return draw


def test_all_columns_where_there_is_room(lines):
    assert lines(120, "sweep")[0].split() == COLUMNS


def test_the_least_columns_go_first_and_no_id_is_broken(lines):
    found = lines(48, "sweep", "loss")
    assert found[0].split() == ["id", "name", "status", "loss"]
    assert [line.split()[0] for line in found[1:]] == [row[0] for row in ROWS]
    found = lines(36, "sweep", "name", "loss")
    assert found[0].split() == ["id", "status"]


def test_an_empty_column_goes_before_one_that_says_something(lines):
    assert "sweep" in lines(70, "sweep", "name")[0]
    assert "name" not in lines(64, "sweep", "name")[0].split()


def test_what_is_piped_has_all(capsys):
    Output().table(COLUMNS, ROWS, least=COLUMNS)
    assert capsys.readouterr().out.splitlines()[0].split() == COLUMNS
