"""What the README shows, works."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from engine.config import resolve
from engine.strict_yaml import parse

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_examples_run():
    model, resnet, stats = blocks("python")
    names: dict[str, object] = {}
    exec(model, names)
    exec(resnet, names)
    names["loss"] = names["model"](torch.randn(8, 784)).square().mean()
    exec("from engine import solver_stats", names)
    exec(stats, names)
    assert names["found"].form == "dual"
    assert type(names["resnet"].conv1).__name__ == "ProxConv2d"


def test_the_preset_is_one():
    (text,) = blocks("yaml")
    document = parse(text, "README")
    assert resolve(document, method="backprop").method.tau == 0.05
    assert resolve(document, method="cg3").method.tau == 0.5
    assert resolve(document).model.hidden == (64,)


def test_every_command_of_the_program_is_in_the_table(cli):
    for line in cli("--help").out.split("Commands:")[1].splitlines():
        if line.strip():
            assert f"`{line.split()[0]}" in README


def test_every_file_it_points_to_is_there():
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
