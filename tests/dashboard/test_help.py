"""The help and the palette: the keys of this screen, each told once and whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.command import CommandList

from engine.diagnosis.results import HESSIANS
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.keys import NAMES, key_groups
from proxprop_cli.dashboard.screens.diagnosis import ANGLES, SPECTRA, DiagnosisScreen
from proxprop_cli.dashboard.screens.help import HelpScreen, key_table, keys_of
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.widgets.log_pane import LogPane
from proxprop_cli.dashboard.widgets.table import Table
from proxprop_cli.dashboard.words import words_of
from tests.dashboard.runs_helper import in_app, live_screen, make_run, resize, screen_text, until
from tests.dashboard.sweep_helper import Made, make_comparison, make_sweep

PANES = {
    "live": ["In 3 Layers", "In 5 Log"],
    "list": ["In the list"],
    "grid": ["In the grid"],
    "comparison": ["In 3 Runs", "In 5 Log"],
    "diagnosis": ["In the list"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_run(root, id="run")
    make_comparison(root, ("exact",), 2, id="comparison")
    make_sweep(root, [("exact", 1.0, 0, Made())], id="grid")
    return root


def on_screen(root, kind, script, size=(120, 40)):
    """Run a script on a screen of this kind, once it knows its runs."""

    async def go(pilot):
        await until(pilot, lambda: pilot.app.screen.query("KeyLine"))
        if kind in ("live", "diagnosis", "comparison"):
            await live_screen(pilot)
        elif kind == "grid":
            await until(pilot, lambda: pilot.app.screen.status)
        else:
            await until(pilot, lambda: pilot.app.screen.query_one("#runs", Table).key)
        if kind == "diagnosis":
            await pilot.press("c")
            await until(pilot, lambda: isinstance(pilot.app.screen, DiagnosisScreen))
        await pilot.pause()
        await script(pilot, pilot.app.screen)

    shown = ["run"] if kind in ("live", "diagnosis") else []
    sweep = kind if kind in ("grid", "comparison") else None
    in_app(Dashboard(Runs(root), shown, sweep=sweep), go, size)


@pytest.mark.parametrize("kind", PANES)
def test_keys_and_commands_of_this_screen_each_once_and_whole(root, kind):
    async def script(pilot, screen):
        for heading, rows in key_groups(screen):
            names = [name for row in rows for name in row.shown.split()]
            assert len({*names} - {"·"}) == len([n for n in names if n != "·"]), heading
            texts = [row.text for row in rows]
            assert len(set(texts)) == len(texts)
        headings = [heading for heading, _ in key_groups(screen)]
        assert headings[-len(PANES[kind]) :] == PANES[kind]
        assert "Everywhere" in headings
        assert "More" not in headings  # whatever is new has a place
        text = str(key_table(screen, 70)).lower()
        assert "clipboard" not in text  # the field of the filter has keys of its own
        assert len(keys_of(screen)) < 32
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        shown = pilot.app.screen.query_one("#keys")
        for size in ((40, 12), (200, 60)):
            await resize(pilot, *size)
            await until(
                pilot, lambda: shown.size.height == len(str(shown.render()).splitlines()) > 0
            )
            assert pilot.app.screen.query_one("VerticalScroll").max_scroll_x == 0
            lines = str(key_table(screen, shown.size.width)).splitlines()
            assert max(map(cell_len, lines)) <= shown.size.width
            words = " ".join(" ".join(lines).split())
            for _, text in keys_of(screen):
                assert text.split()[-1] in words
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        if kind != "diagnosis":
            await check_commands(pilot, screen)

    on_screen(root, kind, script)


async def check_commands(pilot, screen):
    """The palette has the commands of the key line, by the same names."""
    commands = list(pilot.app.get_system_commands(screen))
    helps = {command.title: command.help for command in commands}
    assert helps["Export"].startswith("Export")
    assert len({(command.title, command.help) for command in commands}) == len(commands)
    assert all(command.title != command.help for command in commands)
    if isinstance(screen, LiveScreen):
        assert helps["Export"] == "Export: curves, metrics or the screen"
        assert helps["Quit"] == "Leave: detach, stop or cancel"
        assert "Pause" not in helps  # it is finished
    await pilot.press("ctrl+p", *"expo")
    listed = pilot.app.screen.query_one(CommandList)
    await until(pilot, lambda: listed.option_count > 0)
    await until(pilot, lambda: "Export" in str(listed.get_option_at_index(0).prompt))
    assert "Export" in screen_text(pilot.app)


def test_every_binding_of_the_live_screen_but_those_that_a_run_has_nothing_for(root):
    # one run of a classifier has no seeds, no losses to choose from, and no pictures
    nothing_for = {"b", "v", "i"}

    async def script(pilot, screen):
        listed = " ".join(keys for keys, _ in keys_of(screen)).split()
        for source in (LiveScreen, Table, LogPane):
            for binding in vars(source)["BINDINGS"]:
                for key in binding.key.split(","):
                    name = NAMES.get(key, key)
                    assert (name in listed) != (name in nothing_for) or name.isdigit(), name
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        shown = "\n".join(str(widget.render()) for widget in pilot.app.screen.query("Static"))
        assert "Pause: hold between two steps" in shown

    on_screen(root, "live", script)


def test_every_word_of_the_diagnosis_is_explained(root):
    async def script(pilot, screen):
        explained = " ".join(word for word, _ in words_of(screen))
        columns = [*SPECTRA[2:-1], *ANGLES[1:2], *ANGLES[3:]]
        for word in (*(column.title for column in columns), *HESSIANS.values()):
            assert word in explained

    on_screen(root, "diagnosis", script)
