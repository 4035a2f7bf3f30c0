"""The benchmark measures what it says; how fast it is, is no test."""

from __future__ import annotations

import pytest
import torch

from engine import benchmark
from engine.benchmark import METHODS, MODELS, make_step, peak_bytes
from engine.config import ConvNetConfig, MLPConfig


@pytest.fixture
def small_models(monkeypatch):
    """Networks of milliseconds in the place of the paper's."""
    monkeypatch.setitem(MODELS, "mlp", MLPConfig(hidden=(16, 8)))
    monkeypatch.setitem(MODELS, "convnet", ConvNetConfig(channels=(3, 4), kernel=3, pools=1))


@pytest.mark.usefixtures("small_models")
def test_bench_reports_every_method_beside_backprop(cli):
    answer = cli(
        "bench", "--model", "convnet", "--rounds", "3", "--batch-size", "4", "--no-memory", "--json"
    )
    assert answer.code == 0, answer.err
    results = answer.json["results"]
    assert [result["method"] for result in results] == list(METHODS)
    assert {result["model"] for result in results} == {"convnet"}
    for result in results:
        assert result["seconds_per_step"] > 0
        low, middle, high = (
            result[key] for key in ("ratio_low", "ratio_to_backprop", "ratio_high")
        )
        assert low <= middle <= high
    assert results[0]["ratio_to_backprop"] == results[0]["predicted_ratio"] == 1.0
    assert all(result["predicted_ratio"] > 1.0 for result in results[1:])
    assert {"torch", "threads", "device"} <= set(answer.json["environment"])


@pytest.mark.usefixtures("small_models")
def test_bench_prints_a_table(cli, monkeypatch):
    bytes_of = {"backprop": 2 << 20, "cg1": 5 << 20}
    monkeypatch.setattr(benchmark, "peak_bytes", lambda model, method, *_: bytes_of[method])
    answer = cli("bench", "--model", "mlp", "--method", "cg1", "--rounds", "1", "--batch-size", "2")
    assert answer.code == 0, answer.err
    assert "backprop" in answer.out
    assert "cg1" in answer.out
    assert "2 MiB" in answer.out
    assert "5 MiB" in answer.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "vgg"],
        ["--method", "cgx"],
        ["--rounds", "0"],
        ["--batch-size", "x"],
        ["--preset", "digits-mlp"],
        ["--time-to-loss", "1", "--rounds", "3"],
        ["--time-to-loss", "1", "--inputs", "pixels"],
        ["--time-to-loss", "1", "--method", "cg7"],
        ["--time-to-loss", "1", "--patience", "0.5"],
    ],
)
def test_bad_input(cli, arguments):
    answer = cli("bench", *arguments)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1


def test_the_race_reports_families_and_step_sizes(cli):
    race = ["bench", "--time-to-loss", "2.0", "--preset", "digits-mlp", "--max-epochs", "3"]
    race += ["--set", "model.hidden=[16]", "--set", "data.train_samples=300"]
    answer = cli(*race, "--method", "backprop", "--method", "exact", "--json")
    assert answer.code == 0, answer.err
    results = answer.json["results"]
    assert {result["inputs"] for result in results} == {"unit", "standardize"}
    assert len(results) == 2 * 4  # three optimisers of BackProp, one of exact
    assert all(len(result["outcomes"]) == 3 for result in results)
    assert answer.json["target"] == 2.0
    table = cli(*race, "--method", "exact", "--inputs", "unit")
    assert table.code == 0, table.err
    assert "exact Nesterov" in table.out
    assert "training loss 2, digits-mlp" in table.out


@pytest.mark.usefixtures("small_models")
def test_every_step_trains():
    for model in MODELS:
        for method in METHODS:
            step = make_step(model, method, 4, torch.device("cpu"))
            losses = [step().item() for _ in range(3)]
            assert losses[2] < losses[0]


@pytest.mark.system
def test_memory_counts_the_weights_at_least():
    # 20.3 million parameters, their directions and momenta in float32
    assert peak_bytes("mlp", "backprop", 2, torch.device("cpu")) > 3 * 20_300_000 * 4
