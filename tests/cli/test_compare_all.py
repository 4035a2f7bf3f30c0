"""One command trains every method on digits, each with the settings that the preset has for it."""

import math

from engine.method_names import SYSTEMS
from engine.runs import Runs
from proxprop_cli import presets

METHODS = ("backprop", "exact", "cg3", *SYSTEMS)


def test_all_methods_in_one_command(cli, tmp_path):
    options = ["--preset", "digits-mlp", "--methods", ",".join(METHODS), "--seeds", "1"]
    small = ["--epochs", "1", "--set", "data.train_samples=300", "--set", "model.hidden=[32]"]
    answer = cli("compare", *options, *small, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["complete"]
    rows = {row["method"]: row for row in answer.json["methods"]}
    assert tuple(rows) == METHODS
    settings = presets.load("digits-mlp")[0]["methods"]
    for method, row in rows.items():
        assert row["statuses"] == ["finished"], method
        assert math.isfinite(row["train_loss"]["mean"]), method
        assert row["tau"] == settings.get(method, {"tau": 1.0})["tau"]
        config = Runs(tmp_path / "runs").find(row["runs"][0]).config()
        assert (config.method.name, config.method.tau) == (method, row["tau"])


def test_the_preset_has_a_step_size_for_every_method():
    assert {*SYSTEMS, "backprop"} <= presets.load("digits-mlp")[0]["methods"].keys()
