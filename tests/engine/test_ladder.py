"""The failure ladder: every rung is reached by a system that needs it, and counted."""

from __future__ import annotations

import pytest
import torch

from engine import Exact, Prox, ProxLinear, solver_stats
from engine.linear_maps import Dense
from engine.solvers import Ladder, ProximalSystem, Rung


def nearly_singular(rows=40, n=30, dtype=torch.float32):
    """Large, nearly collinear inputs: a float32 Gram of them is not positive definite."""
    torch.manual_seed(0)
    base = torch.randn(rows, 1, dtype=torch.float64)
    a = base + 1e-5 * torch.randn(rows, n, dtype=torch.float64)
    return (1e3 * a).to(dtype), torch.randn(rows, 3, dtype=dtype)


@pytest.mark.parametrize(("rows", "columns", "form"), [(10, 40, "dual"), (40, 10, "primal")])
def test_the_side_of_fewer_products_is_factorised(rows, columns, form):
    a, outputs = Dense(torch.randn(rows, columns), bias=False), 5
    system = ProximalSystem(a, torch.randn(rows, outputs), 1.0)
    assert Exact().products(system) == {
        "primal": a.gram_products + columns**2 * (columns + outputs),
        "dual": a.outer_products + rows**2 * (rows + outputs),
    }
    stats = Exact().solve(system, Ladder(), record=True).stats
    assert (stats.form, stats.size) == (form, 10)


def test_healthy_systems_count_nothing():
    ladder = Ladder()
    system = ProximalSystem(Dense(torch.randn(8, 3)), torch.randn(8, 2), 1.0)
    Exact().solve(system, ladder)
    assert ladder.take_counts() == {}


@pytest.mark.parametrize("n", [30, 60])  # primal, dual
def test_float64_rescues_what_float32_can_not_factorise(n):
    a, G = nearly_singular(40, n)
    system = ProximalSystem(Dense(a), G, 1e-6)
    ladder = Ladder()
    V = Exact().solve(system, ladder).direction.joined()
    assert ladder.take_counts() == {Rung.FLOAT64: 1}
    assert ladder.take_counts() == {}
    truth = Exact().solve(system.to(torch.float64), Ladder()).direction.joined()
    assert (V.double() - truth).norm() < 1e-4 * truth.norm()


@pytest.mark.parametrize("outputs", [2, 5])  # substitutions, explicit inverse
def test_jitter_answers_where_float64_fails(outputs):
    # all columns are the same, and the root of 16 * 4^20 is exact: after the first column the
    # diagonal of the factorisation is exactly zero
    a = torch.full((16, 5), 2.0**20, dtype=torch.float64)
    G = torch.randn(16, outputs, dtype=torch.float64)
    system = ProximalSystem(Dense(a, bias=False), G, 1e-9)
    ladder = Ladder()
    V = Exact().solve(system, ladder).direction.joined()
    assert ladder.take_counts() == {Rung.JITTER: 1}
    assert (V * system.gradient()).sum() > 0


def test_eigh_answers_where_no_jitter_helps(monkeypatch):
    monkeypatch.setattr(torch.linalg, "cholesky_ex", _fails)
    system = ProximalSystem(
        Dense(torch.randn(9, 4).double()), torch.randn(9, 2, dtype=torch.float64), 0.1
    )
    ladder = Ladder()
    V = Exact().solve(system, ladder).direction.joined()
    assert ladder.take_counts() == {Rung.EIGH: 1}
    torch.testing.assert_close(system.normal(V), system.gradient())


def _fails(matrix):
    """LAPACK's answer for a matrix that is not positive definite."""
    return matrix, torch.tensor(1)


def test_the_last_rung_is_a_gradient_that_can_not_overshoot(monkeypatch):
    monkeypatch.setattr(torch.linalg, "cholesky_ex", _fails)
    no_vectors = lambda matrix: (matrix.diagonal(), torch.full_like(matrix, torch.nan))  # noqa: E731
    monkeypatch.setattr(torch.linalg, "eigh", no_vectors)
    system = ProximalSystem(
        Dense(torch.randn(9, 4).double()), torch.randn(9, 2, dtype=torch.float64), 0.1
    )
    ladder = Ladder()
    V = Exact().solve(system, ladder).direction.joined()
    assert ladder.take_counts() == {Rung.GRADIENT: 1}
    gradient = system.gradient()
    torch.testing.assert_close(V / V.norm(), gradient / gradient.norm())
    largest = torch.linalg.eigvalsh(system.map.gram())[-1] + 0.1
    assert V.norm() <= gradient.norm() / largest


def test_not_finite_inputs_reach_the_last_rung_without_an_exception():
    a = torch.randn(9, 4)
    a[0, 0] = float("nan")
    ladder = Ladder()
    Exact().solve(ProximalSystem(Dense(a), torch.randn(9, 2), 1.0), ladder)
    assert ladder.take_counts() == {Rung.GRADIENT: 1}


def test_what_is_not_finite_is_not_tried_again_and_again(monkeypatch):
    tried = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda m: tried.append(m) or cholesky(m))
    for a, G in ((torch.full((9, 4), torch.inf), torch.randn(9, 2)), (torch.randn(9, 4), None)):
        tried.clear()
        ladder = Ladder()
        right = torch.full((9, 2), torch.nan) if G is None else G
        Exact().solve(ProximalSystem(Dense(a), right, 1.0), ladder)
        assert ladder.take_counts() == {Rung.GRADIENT: 1}
        assert len(tried) == 1


@pytest.mark.parametrize("outputs", [2, 5])  # substitutions, explicit inverse
def test_a_factor_that_is_not_finite_is_no_success(outputs, monkeypatch):
    """LAPACK says that all went well."""
    system = ProximalSystem(Dense(torch.randn(9, 4)), torch.randn(9, outputs), 0.1)
    truth = Exact().solve(system, Ladder()).direction.joined()
    well = torch.tensor(0)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda matrix: (matrix * torch.nan, well))
    ladder = Ladder()
    found = Exact().solve(system, ladder).direction.joined()
    assert ladder.take_counts() == {Rung.EIGH: 1}
    torch.testing.assert_close(found, truth)


def test_a_factorisation_that_raises_has_failed(monkeypatch):
    system = ProximalSystem(Dense(torch.randn(9, 4)), torch.randn(9, 5), 0.1)
    truth = Exact().solve(system, Ladder()).direction.joined()
    for error, expected in (
        (torch.linalg.LinAlgError("cholesky_inverse: The diagonal element 1 is zero"), None),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError),
    ):

        def failing(factor, error=error):
            raise error

        monkeypatch.setattr(torch, "cholesky_inverse", failing)
        ladder = Ladder()
        if expected is not None:
            with pytest.raises(expected, match="memory"):
                Exact().solve(system, ladder)
            continue
        found = Exact().solve(system, ladder).direction.joined()
        assert ladder.take_counts() == {Rung.EIGH: 1}
        torch.testing.assert_close(found, truth)


def test_a_layer_counts_and_reports_its_rung():
    a, _ = nearly_singular()
    layer = ProxLinear(30, 3, prox=Prox(1e6))
    with solver_stats(layer) as stats:
        layer(a).square().mean().backward()
    assert stats[""].to_host().rung == Rung.FLOAT64
    assert stats[""].to_host().stop_reason == "float64"
    assert layer.ladder.take_counts() == {Rung.FLOAT64: 1}


def test_on_a_device_failures_are_deferred_and_climbed_at_the_next_poll():
    ladder = Ladder()
    ladder.defer(torch.tensor(False))
    ladder.poll()
    assert ladder.start is Rung.CHOLESKY
    ladder.defer(torch.tensor(True))
    ladder.defer(torch.tensor(True))
    assert ladder.start is Rung.CHOLESKY  # nothing waited
    assert ladder.take_counts() == {Rung.GRADIENT: 2}
    assert ladder.start is Rung.FLOAT64


def test_a_climbed_ladder_starts_above_the_first_rung():
    ladder = Ladder(start=Rung.FLOAT64)
    system = ProximalSystem(Dense(torch.randn(8, 3)), torch.randn(8, 2), 1.0)
    V = Exact().solve(system, ladder).direction.joined()
    assert V.dtype == torch.float32
    assert ladder.take_counts() == {Rung.FLOAT64: 1}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_steps_do_not_wait_and_fall_back_on_the_device():
    a, G = nearly_singular()
    system = ProximalSystem(Dense(a.cuda()), G.cuda(), 1e-6)
    ladder = Ladder()
    torch.cuda.set_sync_debug_mode("error")
    try:
        V = Exact().solve(system, ladder).direction.joined()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    gradient = system.gradient()
    torch.testing.assert_close(V / V.norm(), gradient / gradient.norm())
    assert ladder.take_counts() == {Rung.GRADIENT: 1}
    Exact().solve(system, ladder)
    assert ladder.start is Rung.FLOAT64
