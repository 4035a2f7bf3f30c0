"""One line on standard error for what is accepted and was hardly meant."""

from __future__ import annotations

import pytest

SMALL = ["--set", "model.hidden=[8]", "--set", "data.train_samples=100", "--epochs", "1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--method", "backprop", "--tau-theta", "3"],
            ["method.tau_theta has no effect with method 'backprop'"],
        ),
        (
            ["--method", "exact", "--set", "method.mac.mu=5"],
            ["method.mac.mu has no effect with method 'exact'"],
        ),
        (["--method", "exact", "--tau-theta", "3"], []),
        (["--method", "kfac", "--tau", "0.01"], []),
    ],
)
def test_train(cli, arguments, said):
    answer = cli("train", "--plain", *SMALL, *arguments)
    assert answer.code == 0, answer.err
    assert [line for line in answer.err.splitlines() if "has no" in line] == said


def test_a_preset_that_has_no_step_size_for_the_method(cli):
    answer = cli("presets", "show", "digits-autoencoder", "--method", "kfac")
    assert answer.code == 0
    expected = "digits-autoencoder has no step size for kfac; tau 0.5 is that of exact"
    assert answer.err.splitlines() == [expected]
    tau = ["--set", "method.tau=1"]
    assert cli("presets", "show", "digits-autoencoder", "--method", "kfac", *tau).err == ""


def test_a_setting_that_one_of_several_heeds_is_meant(cli):
    compare = ["compare", *SMALL, "--seeds", "1", "--plain", "--methods", "backprop,exact"]
    heeded = cli(*compare, "--tau-theta", "3")
    assert heeded.code == 0, heeded.err
    assert "has no effect" not in heeded.err
    idle = cli(*compare, "--set", "method.tol=0.1")
    said = [line for line in idle.err.splitlines() if "has no effect" in line]
    assert said == ["method.tol has no effect with method 'backprop' or method 'exact'"]
