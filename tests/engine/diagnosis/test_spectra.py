from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.diagnosis.spectra import Spectrum, SpectrumError, lanczos, of_factors
from tests.engine.diagnosis.truth import nonzero


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4, 5), (1, 1, 7), (2, 6, 6)])
def test_union_of_parts(shape):
    factors = random(*shape)
    found = of_factors(factors).figures(0.5, 9)
    parts = [nonzero(part) for part in factors.numpy()]
    values = np.sort(np.concatenate(parts))
    order = shape[0] * shape[2]
    smallest = values[0] if len(values) == order else 0.0
    assert (found.order, found.rank, found.parts, found.samples) == (
        order,
        len(values),
        shape[0],
        9,
    )
    assert found.largest == pytest.approx(values[-1])
    assert found.smallest == pytest.approx(smallest)
    assert found.smallest_nonzero == pytest.approx(values[0])
    assert found.condition == pytest.approx(values[-1] / values[0])
    assert found.damped == pytest.approx((values[-1] + 0.5) / (smallest + 0.5))
    conditions = [part[-1] / part[0] for part in parts]
    expected = (min(conditions), np.median(conditions), max(conditions))
    assert found.part_conditions == pytest.approx(expected)
    assert found.quantiles[0] == pytest.approx(values[0])
    assert found.quantiles[-1] == pytest.approx(values[-1])
    assert list(found.quantiles) == sorted(found.quantiles)


def test_rounding_is_no_eigenvalue():
    low_rank = random(1, 40, 3) @ random(1, 3, 30, seed=1)
    found = of_factors(low_rank).figures(1.0, 1)
    assert found.rank == 3
    truth = nonzero(low_rank[0].numpy())
    assert found.condition == pytest.approx(truth[-1] / truth[0])
    assert found.smallest == 0.0


def test_each_part_has_a_zero_of_its_own():
    """What is small beside another part is not zero for that."""
    spectrum = Spectrum(np.array([[1e-20, 2e-20], [1.0, 1e-30]]), 2, 1e-14)
    found = spectrum.figures(0.0, 2)
    assert found.rank == 3
    assert found.condition == pytest.approx(1e20)
    assert found.part_conditions == pytest.approx((1.0, 1.5, 2.0))
    assert found.damped == math.inf


def test_copies_multiply_what_is_counted():
    one, three = (Spectrum(np.array([[1.0, 4.0]]), 3, 1e-14, n).figures(1.0, 1) for n in (1, 3))
    assert (three.order, three.rank, three.parts) == (9, 6, 3)
    assert (three.condition, three.damped) == (one.condition, one.damped) == (4.0, 5.0)


def test_nothing_but_zeros():
    found = of_factors(torch.zeros(2, 3, 3, dtype=torch.float64)).figures(2.0, 1)
    assert (found.rank, found.largest, found.smallest) == (0, 0.0, 0.0)
    assert found.condition is found.smallest_nonzero is found.part_conditions is None
    assert found.damped == 1.0
    assert found.quantiles == ()


@pytest.mark.parametrize(("rows", "columns"), [(30, 50), (50, 30), (20, 20)])
def test_lanczos_finds_both_ends(rows, columns):
    j = random(rows, columns)
    small_first = rows <= columns
    gram = j @ j.mT if small_first else j.mT @ j
    start = (j if small_first else j.mT) @ random(columns if small_first else rows, seed=1)
    found = lanczos(lambda v: gram @ v, start, order=columns, steps=100).figures(0.5, 1)
    truth = nonzero(j.numpy())
    assert found.largest == pytest.approx(truth[-1])
    assert found.smallest_nonzero == pytest.approx(truth[0], rel=1e-4)
    assert found.smallest == (pytest.approx(truth[0], rel=1e-4) if rows >= columns else 0.0)
    assert found.rank is None
    assert found.method == "lanczos"


def test_lanczos_stays_in_the_range():
    """The null space does not come in as a small eigenvalue."""
    j = random(60, 10) @ random(10, 40, seed=1)
    gram = j.mT @ j
    start = j.mT @ random(60, seed=2)
    found = lanczos(lambda v: gram @ v, start, order=40, steps=40).figures(1.0, 1)
    truth = nonzero(j.numpy())
    assert found.smallest_nonzero == pytest.approx(truth[0], rel=1e-6)
    assert found.condition == pytest.approx(truth[-1] / truth[0], rel=1e-6)


def test_few_steps_give_bounds_from_within():
    j = random(200, 200)
    gram = j @ j.mT
    truth = nonzero(j.numpy())
    found = lanczos(lambda v: gram @ v, j @ random(200, seed=1), order=200, steps=20)
    assert truth[0] < found.least < found.largest <= truth[-1] * (1 + 1e-12)
    assert found.largest == pytest.approx(truth[-1], rel=0.1)
    assert found.error > 1e-6
    # each end is within its residual of an eigenvalue
    assert np.abs(truth - found.least).min() <= found.error * found.least


def test_lanczos_of_zero():
    found = lanczos(lambda v: 0 * v, torch.zeros(5, dtype=torch.float64), order=5, steps=5)
    figures = found.figures(1.0, 1)
    assert figures.condition is None
    assert figures.damped == 1.0


def test_lanczos_looks_seldom_at_how_far_it_is(monkeypatch):
    """Eigenvectors of the small matrix once took most of the time."""
    factor = random(300, 200)
    looks = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: looks.append(1) or eigh(matrix))
    found = lanczos(lambda v: factor.mT @ (factor @ v), random(200), order=200, steps=40)
    truth = nonzero(factor.numpy())
    assert found.largest == pytest.approx(truth[-1], rel=1e-3)
    assert 0 < len(looks) <= 40 / 8 + 1


def answering(monkeypatch, name, answer):
    """LAPACK answers every first attempt (``once``) or all of them with NaN."""
    function, calls = getattr(torch.linalg, name), []

    def failing(matrix):
        calls.append(matrix)
        found = function(matrix)
        if answer == "once" and len(calls) % 2 == 0:
            return found
        return found * torch.nan if name == "eigvalsh" else (found[0] * torch.nan, found[1])

    monkeypatch.setattr(torch.linalg, name, failing)


def test_eigenvalues_at_the_second_attempt_are_counted(monkeypatch):
    factors = random(3, 5, 4)
    expected = of_factors(factors)
    assert expected.fallbacks == 0
    answering(monkeypatch, "eigvalsh", "once")
    found = of_factors(factors)
    assert found.fallbacks == 1
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues)


def test_eigenvalues_that_are_not_found_are_an_error_in_one_line(monkeypatch):
    """NaN among them were left out as if they were zero."""
    answering(monkeypatch, "eigvalsh", "never")
    with pytest.raises(SpectrumError, match="not found"):
        of_factors(random(3, 5, 4))


def test_a_matrix_that_is_not_finite_has_no_spectrum():
    factors = random(3, 5, 4)
    factors[1, 2, 2] = torch.inf
    with pytest.raises(SpectrumError, match="not finite"):
        of_factors(factors)
    with pytest.raises(SpectrumError, match="not finite"):
        lanczos(lambda v: v * torch.nan, random(9), order=9, steps=5)


@pytest.mark.parametrize("answer", ["once", "never"])
def test_ritz_values_are_checked(answer, monkeypatch):
    factor = random(30, 20)
    truth = nonzero(factor.numpy())
    answering(monkeypatch, "eigh", answer)

    def measured():
        return lanczos(lambda v: factor.mT @ (factor @ v), random(20), order=20, steps=20)

    if answer == "never":
        with pytest.raises(SpectrumError, match="not found"):
            measured()
        return
    found = measured()
    assert found.largest == pytest.approx(truth[-1])
    assert found.fallbacks > 0
