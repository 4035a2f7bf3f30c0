"""The help and the palette: the keys of this screen, each told once and whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.command import CommandList

from engine.diagnosis.results import HESSIANS
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.keys import key_groups
from proxprop_cli.dashboard.screens.diagnosis import ANGLES, SPECTRA, DiagnosisScreen
from proxprop_cli.dashboard.screens.help import HelpScreen, key_table, keys_of
from proxprop_cli.dashboard.words import words_of
from tests.dashboard.runs_helper import in_app, make_run, until
from tests.dashboard.sweep_helper import Made, make_comparison, make_sweep


def a_screen(root, kind):
    """The app on a screen of this kind."""
    if kind == "comparison":
        return Dashboard(Runs(root), sweep=make_comparison(root, ("exact",), 2).id)
    if kind == "grid":
        return Dashboard(Runs(root), sweep=make_sweep(root, [("exact", 1.0, 0, Made())]).id)
    run = make_run(root)
    return Dashboard(Runs(root), [run.id] if kind in ("live", "diagnosis") else [])


KINDS = ["live", "list", "grid", "comparison", "diagnosis"]


async def ready(pilot, kind=""):
    await until(pilot, lambda: bool(pilot.app.screen.query("KeyLine")))
    await pilot.pause(0.2)
    if kind == "diagnosis":
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, DiagnosisScreen))
        await pilot.pause(0.2)
    return pilot.app.screen


@pytest.mark.parametrize("kind", KINDS)
def test_only_keys_of_this_screen_each_once_in_its_group(tmp_path, kind):
    async def script(pilot):
        screen = await ready(pilot, kind)
        for heading, rows in key_groups(screen):
            names = [name for row in rows for name in row.shown.split()]
            assert len({*names} - {"·"}) == len([n for n in names if n != "·"]), heading
            texts = [row.text for row in rows]
            assert len(set(texts)) == len(texts)
        headings = [heading for heading, _ in key_groups(screen)]
        panes = {"live": ["In 3 Layers", "In 5 Log"], "list": ["In the list"]}
        panes["grid"] = ["In the grid"]
        panes["comparison"] = ["In 3 Runs", "In 5 Log"]
        panes["diagnosis"] = ["In the list"]
        assert headings[-len(panes[kind]) :] == panes[kind]
        assert "Everywhere" in headings
        assert "More" not in headings  # whatever is new has a place
        text = str(key_table(screen, 70)).lower()
        assert "clipboard" not in text  # the field of the filter has keys of its own
        assert len(keys_of(screen)) < 32

    in_app(a_screen(tmp_path, kind), script)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(40, 12), (60, 20), (200, 60)])
def test_no_line_of_the_help_is_cut(tmp_path, kind, size):
    async def script(pilot):
        screen = await ready(pilot, kind)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HelpScreen)
        shown = pilot.app.screen.query_one("#keys")
        assert shown.size.height == len(str(shown.render()).splitlines())
        assert pilot.app.screen.query_one("VerticalScroll").max_scroll_x == 0
        lines = str(key_table(screen, shown.size.width)).splitlines()
        assert max(map(cell_len, lines)) <= shown.size.width
        words = " ".join(" ".join(lines).split())
        for _, text in keys_of(screen):
            assert text.split()[-1] in words

    in_app(a_screen(tmp_path, kind), script, size)


def test_every_word_of_the_diagnosis_is_explained(tmp_path):
    async def script(pilot):
        screen = await ready(pilot, "diagnosis")
        explained = " ".join(word for word, _ in words_of(screen))
        columns = [*SPECTRA[2:-1], *ANGLES[1:2], *ANGLES[3:]]
        for word in (*(column.title for column in columns), *HESSIANS.values()):
            assert word in explained

    in_app(a_screen(tmp_path, "diagnosis"), script)


def test_no_key_that_these_runs_have_nothing_for(tmp_path):
    async def script(pilot):
        screen = await ready(pilot)
        assert not {"b", "i", "v"} & {*dict(keys_of(screen))}
        assert {"c", "e", "x"} < {*dict(keys_of(screen))}

    in_app(a_screen(tmp_path, "live"), script)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "diagnosis"])
def test_commands_have_the_names_of_the_key_line(tmp_path, kind):
    async def script(pilot):
        screen = await ready(pilot)
        commands = list(pilot.app.get_system_commands(screen))
        names = [command.title for command in commands]
        assert "Export" in names
        assert len({(command.title, command.help) for command in commands}) == len(commands)
        assert all(command.title != command.help for command in commands)
        await pilot.press("ctrl+p", *"expo")
        listed = pilot.app.screen.query_one(CommandList)
        await until(pilot, lambda: listed.option_count > 0)
        await pilot.pause(0.2)
        assert "Export" in str(listed.get_option_at_index(0).prompt)

    in_app(a_screen(tmp_path, kind), script)
