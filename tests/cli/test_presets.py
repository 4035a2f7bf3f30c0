"""Bundled presets are found, complete and what the paper's experiments say."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import ConvNetConfig, MLPConfig, resolve
from engine.errors import ConfigError
from proxprop_cli import presets

METHODS = ("backprop", "exact", "cg1", "cg3", "cg10")


def test_names() -> None:
    expected = {
        "digits-mlp",
        "digits-convnet",
        "cifar-mlp",
        "cifar-mlp-table1",
        "cifar-convnet",
        "mnist-mlp",
        "usps-mlp",
    }
    assert expected <= set(presets.names())
    assert list(presets.names()) == sorted(presets.names())


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_resolves_for_every_method(name: str) -> None:
    document, source = presets.load(name)
    assert source == name
    assert presets.describe(name)
    assert "\n" not in presets.describe(name)
    for method in METHODS:
        assert resolve(document, method=method, source=source).method.name == method


def test_fig_2() -> None:
    document, _ = presets.load("cifar-mlp")
    config = resolve(document)
    assert config.model == MLPConfig(hidden=(4000, 1000, 4000))
    assert (config.batch_size, config.epochs, config.data.validation) == (500, 50, 5000)
    assert (config.method.name, config.method.tau, config.method.tau_theta) == ("exact", 1, 0.05)
    assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.95)
    assert config.optimizer.nesterov
    assert resolve(document, method="backprop").method.tau == 0.05
    assert resolve(document, method="cg3").method.tau == 1


def test_table_1() -> None:
    document, _ = presets.load("cifar-mlp-table1")
    assert resolve(document, method="cg3").method.tau_theta == 1
    assert resolve(document, method="cg3").method.tau == 1
    assert resolve(document, method="backprop").method.tau == 0.05


def test_fig_3() -> None:
    config = resolve(presets.load("cifar-convnet")[0])
    assert config.model == ConvNetConfig(channels=(16, 20, 20), kernel=5, pools=2)
    assert (config.optimizer.name, config.method.tau, config.method.tau_theta) == ("adam", 1e-3, 1)
    assert (config.method.name, config.method.eps) == ("cg3", None)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3")
    assert presets.load(str(path)) == ({"epochs": 3}, str(path))


def test_unknown_names_get_the_nearest_and_the_list() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown preset 'cifar-mlpp'; did you mean 'cifar-mlp'\?"
    ):
        presets.load("cifar-mlpp")
    with pytest.raises(ConfigError, match=r"presets: cifar-convnet, .*or a FILE\.yaml"):
        presets.load("zzz")
    with pytest.raises(ConfigError, match=r"none\.yaml: expected a YAML file, found no such file"):
        presets.load("none.yaml")
    with pytest.raises(ConfigError, match="unknown preset"):
        presets.load("")


def test_a_file_without_its_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("epochs: 3")
    with pytest.raises(ConfigError, match=r"for the file write '\./mine'"):
        presets.load("mine")
    assert presets.load("./mine")[0] == {"epochs": 3}
