"""Networks at initialisation: what the theory says of them, in numbers; angles and their bound."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from engine.diagnosis.descent import descent_angles
from engine.diagnosis.networks import Subject, check_variant, diagnose, variant_of, vary
from engine.diagnosis.results import HESSIANS, summarise
from engine.errors import CheckpointError, ConfigError
from engine.methods import Batch
from engine.models import build_model
from tests.engine.small import CPU, config, dataset

DATA = {"data__validation": 0, "data__train_samples": 200}


def diagnosed(variants, seeds=3, samples=10, width=64):
    base = config("exact", model__hidden=[width] * 3, **DATA)
    subjects = [
        Subject(name, vary(base, name).model_copy(update={"seed": seed}))
        for name, seed in itertools.product(variants, range(seeds))
    ]
    return diagnose(subjects, dataset(base), samples=samples, device=CPU, about={})


@pytest.fixture(scope="module")
def found():
    return diagnosed(["plain", "batch-norm", "skip", "orthogonal"])


def conditions(found, variant, hessian, key="log10_condition"):
    return [
        row.statistics[key].mean
        for row in summarise(found.spectra)
        if (row.variant, row.hessian) == (variant, hessian)
    ]


def test_skip_blocks_are_better_conditioned_in_z(found):
    plain, skip = conditions(found, "plain", "z"), conditions(found, "skip", "z")
    assert all(
        with_skip < without - 0.1 for with_skip, without in zip(skip[:3], plain, strict=False)
    )
    # and have full rank, where half of the plain ones' eigenvalues are zero
    ranks = {
        one.variant: one.figures.rank / one.figures.order
        for one in found.spectra
        if (one.seed, one.hessian) == (0, "z") and one.label != "64 → 10"
    }
    assert ranks["skip"] == 1.0
    assert ranks["plain"] < 0.7


def test_batch_norm_blocks_are_better_conditioned_in_w():
    """From the second on: the first one's input is the data in both. In mean over seeds; H_z is not
    better conditioned with it, nor is anything damped, since it makes inputs larger."""
    found = diagnosed(["plain", "batch-norm"], samples=32, width=32)
    plain, norm = conditions(found, "plain", "W"), conditions(found, "batch-norm", "W")
    assert all(with_norm < without for with_norm, without in zip(norm[1:], plain[1:], strict=True))


def test_orthonormal_blocks_have_condition_one_in_z(found):
    assert conditions(found, "orthogonal", "z") == pytest.approx([0.0] * 4, abs=1e-4)


def test_first_block_has_the_data_alone_in_w(found):
    """H_W of the first block of plain and of skip is the same: the skip has no weights."""
    ours = conditions(found, "plain", "W")[0], conditions(found, "skip", "W")[0]
    assert ours[0] == pytest.approx(ours[1], abs=0.3)


def test_same_seed_same_numbers(found):
    again = diagnosed(["plain"], seeds=1)
    assert again.spectra == tuple(
        one for one in found.spectra if (one.variant, one.seed) == ("plain", 0)
    )


def test_angles_are_at_least_the_bound(found):
    assert len(found.angles) == 4 * 3 * 4
    for one in found.angles:
        last = one.layer in ("4", "7", "10")
        if one.beta is None:
            assert one.bound == 1.0
            assert one.cosine == pytest.approx(1.0, abs=1e-6)
        else:
            assert 0 < one.bound <= one.cosine < 1, one
            assert one.beta == pytest.approx(10.0)
        assert last or one.beta is not None


def network(method, kind=None):
    torch.manual_seed(5)
    settings = {"model__hidden": [6]} if kind is None else {"model": kind}
    run_config = config(method, **settings, method__tau_theta=0.5)
    shape = (1, 8, 8) if kind is None else (1, 6, 6)

    def build(method):
        torch.manual_seed(5)
        return build_model(run_config.model, method, shape, 3)

    plain = build(run_config.method.model_copy(update={"name": "backprop"}))
    inputs = torch.rand(5, *shape)
    batch = Batch(torch.arange(5), inputs, torch.tensor([0, 1, 2, 0, 1]))
    return run_config, build(run_config.method), plain, batch


def test_cosine_and_bound_from_the_formulas():
    run_config, model, plain, batch = network("exact")
    found, _ = descent_angles(run_config, model, plain, batch, 5)
    A = np.concatenate([batch.inputs.flatten(1).double().numpy(), np.ones((5, 1))], axis=1)
    layer = plain[1]
    gradient = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1).double().numpy()
    inverse = np.linalg.inv(A.T @ A + 2.0 * np.eye(65))
    direction = gradient @ inverse
    expected = (direction * gradient).sum() / np.linalg.norm(direction) / np.linalg.norm(gradient)
    values = np.linalg.eigvalsh(inverse)
    name, cosine, bound, beta = found[0]
    assert (name, beta) == ("1", pytest.approx(2.0))
    assert cosine == pytest.approx(expected, rel=1e-5)
    assert bound == pytest.approx(values[0] / values[-1], rel=1e-6)
    assert found[1] == ("3", pytest.approx(1.0), 1.0, None)


def test_bound_of_a_convolution():
    kind = {"kind": "convnet", "channels": [2, 3], "kernel": 3, "pools": 1}
    run_config, model, plain, batch = network("exact", kind)
    found, fallbacks = descent_angles(run_config, model, plain, batch, 5)
    (_, first, bound, _), (_, second, _, _), last = found
    assert fallbacks == []
    patches = nn.functional.unfold(batch.inputs.double(), 3, padding=1).mT.reshape(-1, 9).numpy()
    A = np.concatenate([patches, np.ones((len(patches), 1))], axis=1)
    values = np.linalg.eigvalsh(A.T @ A + 2.0 * np.eye(10))
    assert bound == pytest.approx(values[0] / values[-1], rel=1e-5)
    assert bound <= first < 1
    assert second < 1
    assert last[1] == pytest.approx(1.0)


def test_methods_without_the_theory_have_no_bound():
    for method, settings in {"backprop": {}, "exact": {"order": "gauss-seidel"}}.items():
        run_config, model, plain, batch = network(method)
        changed = run_config.method.model_copy(update=settings)
        run_config = run_config.model_copy(update={"method": changed})
        found, _ = descent_angles(run_config, model, plain, batch, 5)
        bounds = [bound for _, _, bound, _ in found]
        assert bounds == ([1.0, 1.0] if method == "backprop" else [None, None])


def test_a_dead_layer_has_no_angle():
    run_config, model, plain, batch = network("exact")
    for one in (model, plain):
        with torch.no_grad():
            one[1].weight.zero_()
            one[1].bias.fill_(-1.0)
    found, _ = descent_angles(run_config, model, plain, batch, 5)
    assert math.isnan(found[0][1])


def test_methods_on_all_samples_have_no_angles():
    run_config = config("admm", optimizer__momentum=0.0, optimizer__nesterov=False, **DATA)
    found = diagnose(
        [Subject("plain", run_config)], dataset(run_config), samples=5, device=CPU, about={}
    )
    assert found.angles == ()
    assert found.notes == ("no angles: method 'admm' steps on all samples at once",)
    assert found.spectra


def test_variants():
    base = config("exact", **DATA)
    assert variant_of(base.model) == "plain"
    assert variant_of(vary(base, "batch-norm").model) == "batch-norm"
    both = vary(base, "skip").model.model_copy(update={"batch_norm": True})
    assert variant_of(both) == "batch-norm+skip"
    # one at a time
    assert variant_of(vary(base.model_copy(update={"model": both}), "orthogonal").model) == (
        "orthogonal"
    )
    with pytest.raises(ConfigError, match="expected any of plain, batch-norm, skip, orthogonal"):
        vary(base, "dropout")
    convnet = config(model={"kind": "convnet", "channels": [2], "kernel": 3, "pools": 0})
    with pytest.raises(ConfigError, match="'convnet' has no skip"):
        vary(convnet, "skip")
    with pytest.raises(ConfigError, match="no layer is as wide"):
        check_variant(vary(base, "skip"), "skip", dataset(base))
    wide = vary(config(model__hidden=[64], **DATA), "skip")
    check_variant(wide, "skip", dataset(base))


def test_weights_of_another_network():
    base = config("exact", **DATA)
    other = build_model(config(model__hidden=[3]).model, base.method, (1, 8, 8), 10)
    subject = Subject("plain", base, other.state_dict())
    with pytest.raises(CheckpointError, match="another network"):
        diagnose([subject], dataset(base), samples=4, device=CPU, about={})


def test_generators_are_left_alone():
    base = config("exact", **DATA)
    samples = dataset(base)
    state = torch.get_rng_state()
    found = diagnose([Subject("plain", base)], samples, samples=10_000, device=CPU, about={})
    assert torch.equal(torch.get_rng_state(), state)
    assert found.about["samples"] == 200


@pytest.mark.parametrize("damping", ["sum", "mean", "trace"])
def test_the_damping_of_weights_is_that_of_the_method(damping):
    run = config("exact", method__damping=damping, **DATA)
    samples = 10
    found = diagnose([Subject("plain", run)], dataset(run), samples=samples, device=CPU, about={})
    pixels = dataset(run).batch(dataset(run).train, torch.arange(samples))[0].double().flatten(1)
    gram_trace = float(pixels.square().sum()) + samples  # and the bias's ones
    tau_theta = run.method.tau_theta
    expected = {
        "sum": 1 / tau_theta,
        "mean": samples / tau_theta,
        "trace": gram_trace / ((pixels.shape[1] + 1) * tau_theta),
    }
    first = next(one for one in found.spectra if one.hessian == "W")
    assert first.figures.beta == pytest.approx(expected[damping])
    assert found.angles[0].beta == pytest.approx(expected[damping], rel=1e-5)


def test_the_damping_of_inputs_is_that_of_back_matching():
    run = config("exact", method__back_matching__target_tau=0.25, **DATA)
    found = diagnose([Subject("plain", run)], dataset(run), samples=5, device=CPU, about={})
    assert {one.figures.beta for one in found.spectra if one.hessian == "z"} == {4.0}


@pytest.mark.parametrize("method", ["muon", "soap"])
def test_optimisers_have_no_angles_of_their_own(method):
    run = config(method, **DATA)
    found = diagnose([Subject("plain", run)], dataset(run), samples=5, device=CPU, about={})
    assert found.angles == ()
    assert found.notes == (f"no angles: {method} turns gradients in the optimiser",)


@pytest.mark.parametrize(
    "option", [{"order": "gauss-seidel"}, {"last_layer": "prox"}, {"envelope": "sample"}]
)
def test_angles_outside_of_the_papers_theory_have_no_bound(option):
    run = config("exact", **{f"method__{key}": value for key, value in option.items()}, **DATA)
    found = diagnose([Subject("plain", run)], dataset(run), samples=5, device=CPU, about={})
    assert [angle.bound for angle in found.angles] == [None, None]


def test_blocks_whose_eigenvalues_fail_are_named(monkeypatch):
    run_config = config("exact", **DATA)
    subject = Subject("plain", run_config)
    whole = diagnose([subject], dataset(run_config), samples=5, device=CPU, about={})
    assert whole.notes == ()
    eigvalsh, calls = torch.linalg.eigvalsh, []

    def failing(matrix):
        calls.append(matrix)
        # the first spectrum never, the second one at the second attempt
        return eigvalsh(matrix) * torch.nan if len(calls) <= 3 else eigvalsh(matrix)

    monkeypatch.setattr(torch.linalg, "eigvalsh", failing)
    found = diagnose([subject], dataset(run_config), samples=5, device=CPU, about={})
    first, second = found.notes
    where = f"plain, seed {run_config.seed}: "
    names = [(one.block, HESSIANS[one.hessian]) for one in whole.spectra[:2]]
    assert first == (
        f"{where}{names[0][1]} of block {names[0][0]}: "
        "no spectrum: the eigenvalues of the matrix were not found"
    )
    assert second == (
        f"{where}{names[1][1]} of block {names[1][0]}: "
        "eigenvalues found at the second attempt, scaled"
    )
    assert [(one.block, one.hessian) for one in found.spectra] == [
        (one.block, one.hessian) for one in whole.spectra[1:]
    ]


def test_a_bound_without_eigenvalues_is_none_and_told(monkeypatch):
    run_config, model, plain, batch = network("exact")
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda matrix: matrix.diagonal() * torch.nan)
    found, fallbacks = descent_angles(run_config, model, plain, batch, 5)
    assert found[0][2] is None
    assert math.isfinite(found[0][1])
    assert fallbacks == ["layer 1: no bound, the eigenvalues were not found"]


def test_a_solver_that_falls_back_is_told(monkeypatch):
    run_config, model, plain, batch = network("exact")
    failed = torch.tensor(1)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda matrix: (matrix, failed))
    _, fallbacks = descent_angles(run_config, model, plain, batch, 5)
    assert fallbacks == ["layer 1: solver fell back (1x eigh)"]
