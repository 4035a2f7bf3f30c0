"""Eigenvectors that LAPACK does not find: a second attempt, then what the caller falls back to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from engine import CG
from engine.linear_maps import Dense
from engine.solvers import Ladder, ProximalSystem, Rung, eigh, eigvalsh
from tests.reliability.report import MORE, promise

ENGINE = Path(__file__).parents[2] / "engine"
FACTORISATIONS = re.compile(
    r"(?:linalg|torch|np|numpy|scipy)\.(?:linalg\.)?"
    r"(eigh|eigvalsh|eigvals|eig|svd|svdvals|svd_lowrank|pca_lowrank|lobpcg|cholesky\w*|qr|lu\w*"
    r"|ldl\w*|solve\w*|lstsq|inv\w*|inverse|pinv\w*|pinverse|matrix_exp|matrix_power|matrix_rank"
    r"|cond|slogdet|logdet|det|polyfit)\b"
)
KNOWN = {
    "benchmark.py": {"cholesky", "eigh"},  # loads the library, uses no result
    "solvers/eigen.py": {"eigh", "eigvalsh"},
    "solvers/exact.py": {"cholesky_ex", "cholesky_solve", "cholesky_inverse"},
}
"""Who may ask LAPACK: all others go through these."""


def gram(order=12, dtype=torch.float32, groups=()):
    a = torch.randn(*groups, 3 * order, order, generator=torch.Generator().manual_seed(0))
    return (a.mT @ a).to(dtype)


def rebuilt(values, vectors):
    return vectors @ (values.unsqueeze(-1) * vectors.mT)


class Lapack:
    """``torch.linalg.eigh`` and ``eigvalsh`` whose first answers are none.

    :param failures: how many.
    :param error: raised in the place of giving NaN.
    """

    def __init__(self, monkeypatch, failures, error=None):
        self.calls = []
        self._failures, self._error = failures, error
        for name in ("eigh", "eigvalsh"):
            monkeypatch.setattr(torch.linalg, name, self._failing(getattr(torch.linalg, name)))

    def _failing(self, function):
        def decompose(matrix):
            self.calls.append(matrix)
            if len(self.calls) > self._failures:
                return function(matrix)
            if self._error is not None:
                raise self._error
            found = function(matrix)
            nan = lambda part: torch.full_like(part, torch.nan)  # noqa: E731
            return nan(found) if isinstance(found, torch.Tensor) else tuple(map(nan, found))

        return decompose


DID_NOT_CONVERGE = torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")
ERRORS = [None, DID_NOT_CONVERGE, RuntimeError("cusolver error: CUSOLVER_STATUS_EXECUTION_FAILED")]


def test_what_succeeds_is_lapack_s_to_the_bit_and_counts_nothing():
    matrix, ladder = gram(), Ladder()
    values, vectors = eigh(matrix, ladder)
    expected = torch.linalg.eigh(matrix)
    assert torch.equal(values, expected[0])
    assert torch.equal(vectors, expected[1])
    assert torch.equal(eigvalsh(matrix, ladder), torch.linalg.eigvalsh(matrix))
    assert ladder.take_counts() == {}


@promise(
    MORE,
    "LAPACK fails on a finite matrix",
    "tried again in float64, then replaced as the method says; counted, training goes on",
)
@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("groups", [(), (3,)])
def test_the_second_attempt_is_in_float64_and_counted(monkeypatch, error, groups):
    matrix, ladder = gram(groups=groups), Ladder()
    truth = torch.linalg.eigvalsh(matrix.double())
    lapack = Lapack(monkeypatch, 1, error)
    values, vectors = eigh(matrix, ladder)
    assert [call.dtype for call in lapack.calls] == [torch.float32, torch.float64]
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close(values.double(), truth, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(rebuilt(values, vectors), matrix, rtol=1e-4, atol=1e-4)
    assert ladder.take_counts() == {Rung.FLOAT64: 1}
    lapack.calls.clear()
    torch.testing.assert_close(eigvalsh(matrix, ladder), values)
    assert ladder.take_counts() == {Rung.FLOAT64: 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_of_one_sample_have_eigenvectors(dtype):
    """LAPACK fails on some of them, with NaN or an error, in either precision."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    for _ in range(200):
        size = 10 + int(150 * uniform(1))
        active = (uniform(size) < uniform(1)) * torch.exp(-60 * uniform(1) * uniform(size))
        active[-1] = 1.0
        matrix = torch.outer(active, active).to(dtype)
        values, vectors = eigh(matrix)
        error = (rebuilt(values.double(), vectors.double()) - matrix.double()).norm()
        assert error < 100 * torch.finfo(dtype).eps * matrix.double().norm()


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e37])
def test_the_second_attempt_is_of_a_scaled_symmetric_matrix(monkeypatch, size):
    matrix = gram() / gram().abs().max() * size
    lapack = Lapack(monkeypatch, 1)
    values, vectors = eigh(matrix)
    assert float(lapack.calls[1].abs().max()) == pytest.approx(1.0)
    assert torch.equal(lapack.calls[1], lapack.calls[1].mT)
    again = rebuilt(values.double(), vectors.double())
    assert (again - matrix.double()).abs().max() < 1e-5 * size + 1e-44


def test_a_matrix_that_is_not_finite_is_not_decomposed(monkeypatch):
    lapack = Lapack(monkeypatch, 0)
    for value in (torch.nan, torch.inf):
        matrix = gram()
        matrix[3, 3] = value
        assert eigh(matrix) is None
        assert eigvalsh(matrix) is None
    assert lapack.calls == []


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_there_are_two_attempts(monkeypatch, error):
    lapack, ladder = Lapack(monkeypatch, 2, error), Ladder()
    assert eigh(gram(), ladder) is None
    assert len(lapack.calls) == 2
    assert ladder.take_counts() == {}


def test_other_errors_stay_what_they_are(monkeypatch):
    for error in (
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        with monkeypatch.context() as patch:
            lapack = Lapack(patch, 9, error)
            with pytest.raises(type(error), match="memory"):
                eigh(gram())
            assert len(lapack.calls) == 1


@pytest.mark.parametrize("failures", [1, 2])
def test_conjugate_gradients_without_eigenvectors_go_by_products(monkeypatch, failures):
    torch.manual_seed(0)
    system = ProximalSystem(
        Dense(torch.randn(6, 40).double()), torch.randn(6, 90, dtype=torch.float64), 0.5
    )
    solver = CG(4, tol=0.0)
    assert solver._diagonalises(system)
    expected = solver.solve(system, Ladder(), form="dual").direction.joined()
    Lapack(monkeypatch, failures)
    ladder = Ladder()
    found = solver.solve(system, ladder, form="dual").direction.joined()
    torch.testing.assert_close(found, expected)
    rung = Rung.FLOAT64 if failures == 1 else Rung.PRODUCTS
    assert ladder.take_counts() == {rung: 1}


def test_nobody_else_asks_lapack():
    """A factorisation whose result nobody checks is a new one of these faults."""
    found = {}
    for path in ENGINE.rglob("*.py"):
        names = set(FACTORISATIONS.findall(path.read_text(encoding="utf-8")))
        if names:
            found[path.relative_to(ENGINE).as_posix()] = names
    assert found == KNOWN
