"""``proxprop doctor``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import typer

from proxprop_cli import __version__, sitting
from proxprop_cli.commands import options as opt
from proxprop_cli.exit_codes import Exit
from proxprop_cli.output import UTF8_REMEDY, Output, console, encoding, is_utf8

if TYPE_CHECKING:
    from engine.health import Finding

_SIGNS = {"ok": "ok", "note": "note", "wrong": "WRONG"}
_LEAST_SIZE = 60, 20


def doctor(
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Look whether this machine is fit, with a remedy for each thing that is not.

    Exits with 1 where something is wrong. What it prints is what a bug report should contain.
    """
    from engine.health import examine

    output = Output(as_json=as_json)
    root = opt.open_runs(runs_dir).root
    findings = [_program(), _terminal()]
    findings += examine(root, data_dir or sitting.default_data_dir())
    output.table(["key", "status", "value"], [_row(found) for found in findings])
    for found in findings:
        if found.fix:
            output.line(f"{found.name}: {found.fix}")
    wrong = sum(found.state == "wrong" for found in findings)
    output.line(f"{wrong} wrong" if wrong else "fit")
    output.document(
        {
            "fit": not wrong,
            "findings": [
                {"name": f.name, "state": f.state, "text": f.text, "fix": f.fix or None}
                for f in findings
            ],
        }
    )
    raise typer.Exit(Exit.ERROR if wrong else Exit.OK)


def _row(found: Finding) -> list[str]:
    return [found.name, _SIGNS[found.state], found.text]


def _program() -> Finding:
    from engine.health import Finding

    return Finding("proxprop", "ok", __version__)


def _terminal() -> Finding:
    """What the dashboard has to draw with."""
    from engine.health import Finding

    letters = encoding()
    if not sys.stdout.isatty():
        return Finding("terminal", "note", f"none here ({letters}): commands print lines")
    columns, lines = shutil.get_terminal_size()
    colors = "no colours" if "NO_COLOR" in os.environ else console(stderr=False).color_system
    text = f"{os.environ.get('TERM', 'no TERM')}, {columns}x{lines}, {colors or 'no colours'}"
    text += f", {letters}"
    if not is_utf8():
        return Finding("terminal", "wrong", text, UTF8_REMEDY)
    if os.environ.get("TERM") in (None, "dumb"):
        return Finding("terminal", "note", text, "set TERM, such as xterm-256color")
    if columns < _LEAST_SIZE[0] or lines < _LEAST_SIZE[1]:
        return Finding("terminal", "note", text, "make it 60x20 or larger to read the dashboard")
    return Finding("terminal", "ok", text)
