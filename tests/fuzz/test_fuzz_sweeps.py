"""A sweep that can not be read says so in its list, and hides no run and no other sweep."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.fuzz.common import SWEEP, assert_decent
from tests.fuzz.junk import JSON_JUNK, forms, other
from tests.reliability.report import tries

pytestmark = pytest.mark.timeout(60)  # what waits for a pipe waits for ever


@tries(4, 250)
def test_sweep_files(looked_at, cli, root, rng):
    """Values of other types, or a part of the text."""
    shutil.copytree(root / SWEEP, root / "sweep-b")
    path = root / "sweep-b" / "sweep.json"
    document = json.loads(path.read_text())
    for _ in range(rng.randint(1, 2)):
        section = rng.choice([document, document, *document["cells"]])
        key = rng.choice(list(section))
        section[key] = rng.choice([*JSON_JUNK, {key: section[key]}, [section[key]]])
        if not isinstance(document.get("cells"), list) or not document["cells"]:
            break
    text = json.dumps(document)
    if rng.random() < 0.3:
        text = text[: rng.randrange(len(text))]
    path.write_text(text)
    looked_at()
    answer = cli("runs", "sweeps", "--json")
    found = {one["id"]: one for one in answer.json["sweeps"]}
    assert found[SWEEP]["runs"] == 2
    assert "sweep-b" in found
    assert_decent(cli("runs", "show", "sweep-b"), (0, 2, 6))
    assert_decent(cli("runs", "show", "sweep-b", "--json"), (0, 2, 6))


@pytest.mark.parametrize("name", ["sweep.json", "lock", "desired.json"])
@forms()
def test_files_of_a_sweep_that_are_something_else(looked_at, cli, root, name, form):
    shutil.copytree(root / SWEEP, root / "sweep-b")
    path = root / "sweep-b" / name
    path.unlink(missing_ok=True)
    if form is other:
        path.symlink_to(f"../{SWEEP}/sweep.json")
    else:
        form(path)
    looked_at()
    found = {one["id"]: one for one in cli("runs", "sweeps", "--json").json["sweeps"]}
    assert found[SWEEP]["runs"] == 2
