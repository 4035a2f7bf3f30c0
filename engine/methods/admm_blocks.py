"""The sub-problems of ADMM training, one closed form a function.

Each minimises, over one block of variables with the others fixed,

loss(z_L, y) + <z_L, lambda> + beta |z_L - W_L a_{L-1}|^2
  + sum_{l<L} gamma |a_l - h(z_l)|^2 + beta |z_l - W_l a_{l-1}|^2,

a sum over all samples, which are the rows of a, z, y and lambda (Taylor et al. 2016; theirs are
columns). h is ReLU. A bias is a last column of W, against a column of ones beside a.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.linear_maps import Dense, Direction
from engine.loss_prox import prox
from engine.solvers import Exact, Ladder, ProximalSystem, Rung, eigh, is_finite

_RIDGE = 1e-12
"""Of the mean diagonal of a Gram without eigenvectors, added to it."""


def fitted_weights(a: Tensor, z: Tensor, ladder: Ladder, *, bias: bool) -> Direction:
    """argmin |z - W a|^2, the shortest of them: z times the pseudo-inverse of a.

    Made in float64 from the Gram of a, where singular values of a below about 1e-7 of the largest,
    which is float32's rounding, count as zero. Where LAPACK finds no eigenvectors of the Gram, W
    minimises |z - W a|^2 + beta |W|^2 with a small beta.

    :param a: ``(samples, n)``.
    :param z: ``(samples, m)``.
    :param ladder: where a Gram without eigenvectors is counted, as :attr:`Rung.JITTER`.
    :returns: weight ``(m, n)`` and bias ``(m, 1)``; not finite where a or z is not.
    """
    double = _precise(a)
    inputs = Dense(a.to(double), bias=bias)
    gram = inputs.gram()
    found = eigh(gram, ladder)
    if found is None:
        if is_finite(gram):
            ladder.count(Rung.JITTER)
        beta = _RIDGE * inputs.trace() / inputs.columns
        system = ProximalSystem(inputs, z.to(double), beta)
        return Exact().solve(system, ladder, form="primal").direction.to(a.dtype)
    values, vectors = found
    least = values.abs().max() * (len(values) * torch.finfo(values.dtype).eps)
    inverse = (vectors * torch.where(values.abs() > least, 1 / values, 0.0)) @ vectors.mT
    right = inputs.adjoint(z.to(double)).joined()
    return inputs.split((right @ inverse).to(a.dtype))


def fitted_activations(
    above: Direction, z_above: Tensor, h: Tensor, beta: float, gamma: float, ladder: Ladder
) -> Tensor:
    """argmin_a beta |z_{l+1} - W_{l+1} a|^2 + gamma |a - h(z_l)|^2, ``(samples, n)``.

    :param above: W_{l+1}, ``(m, n)`` and its bias.
    :param z_above: z_{l+1}, ``(samples, m)``.
    :param h: h(z_l), ``(samples, n)``.
    :param ladder: where failures of the solver are counted.
    """
    assert above.weight is not None
    # from h on, so that what cancels is not computed: the residual of z_{l+1} moves a
    residual = z_above - h @ above.weight.mT
    if above.bias is not None:
        residual = residual - above.bias.mT
    double = _precise(h)
    rows = Dense(above.weight.to(double), bias=False)
    system = ProximalSystem(rows, residual.mT.to(double), gamma / beta)
    moved = Exact().solve(system, ladder).direction.weight
    assert moved is not None
    return h + moved.to(h.dtype)


def fitted_preactivations(a: Tensor, q: Tensor, beta: float, gamma: float) -> Tensor:
    """argmin_z gamma |a - max(0, z)|^2 + beta |z - q|^2, entry by entry: the better of the best
    z >= 0 and the best z <= 0.

    :param a: a_l, of any shape.
    :param q: W_l a_{l-1}, of the same shape.
    """
    active = ((gamma * a + beta * q) / (gamma + beta)).clamp_min(0.0)
    resting = q.clamp_max(0.0)
    of_active = gamma * (a - active).square() + beta * (active - q).square()
    of_resting = gamma * a.square() + beta * (resting - q).square()
    return torch.where(of_active <= of_resting, active, resting)


def fitted_outputs(
    loss: str, targets: Tensor, q: Tensor, multiplier: Tensor, beta: float
) -> Tensor:
    """argmin_z loss(z, y) + <z, lambda> + beta |z - q|^2 of every sample, ``(samples, outputs)``:
    the prox of the loss at q - lambda/(2 beta), with step size 1/(2 beta).

    :param loss: its name in the configuration.
    :param q: W_L a_{L-1}.
    :param multiplier: lambda.
    """
    return prox(loss, q - multiplier / (2 * beta), targets, 1 / (2 * beta))


def _precise(a: Tensor) -> torch.dtype:
    return a.dtype if a.device.type == "mps" else torch.float64
