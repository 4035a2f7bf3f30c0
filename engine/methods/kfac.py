"""K-FAC: the gradient times the inverse of a Kronecker-factored curvature of the mini-batch.

Martens & Grosse (ICML 2015), for convolutions Grosse & Martens (ICML 2016); the factors are those
of curvlinops. Per layer, with the rows a of A (a 1 for the bias) and g the gradients of every
sample's loss at the layer's output,

    V = (A (x) B + damping I)^{-1} grad,    A = mean of a a^T,    B = mean of g g^T,

where for a convolution A is the mean over samples and positions, B that over samples of the sum
over positions. Of what the paper adds to this nothing is here: factors are not averaged over steps,
the damping is a constant added to the eigenvalues, neither split between the factors nor adapted,
and the step size is the optimiser's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine import precision
from engine.errors import CheckpointError, ConfigError
from engine.linear_layers import LinearLayer, linear_layers
from engine.methods.base import Batch, Found, Position, Problem
from engine.methods.batch_norm import statistics_kept
from engine.solvers import Ladder, Rung, eigh, is_finite

_FIELDS = ("input_basis", "output_basis", "inverse")


@dataclass(frozen=True, slots=True)
class Block:
    """(A (x) B + damping I)^{-1} of one layer, in the eigenvectors of both factors.

    :ivar input_basis: eigenvectors of A in columns, ``(n, n)``.
    :ivar output_basis: those of B, ``(m, m)``.
    :ivar inverse: 1/(lambda_B lambda_A + damping), ``(m, n)``.
    """

    input_basis: Tensor
    output_basis: Tensor
    inverse: Tensor

    def solve(self, gradient: Tensor) -> Tensor:
        """V ``(m, n)`` of a gradient ``(m, n)``."""
        turned = self.output_basis.T @ gradient @ self.input_basis
        return self.output_basis @ (turned * self.inverse) @ self.input_basis.T


def block(a: Tensor, b: Tensor, damping: float, ladder: Ladder) -> Block | None:
    """Return the inverse from the factors A ``(n, n)`` and B ``(m, m)``; None: one is not finite.

    A factor whose eigenvectors LAPACK does not find is replaced by its diagonal. Its trace, and so
    the length of V, stays what it was, and V a direction of descent. The eigenvectors of the step
    before would be those of another mini-batch, and a resumed run would not have them.

    :param ladder: where such a replacement is counted, and eigenvectors that took float64.
    """
    if not (is_finite(a) and is_finite(b)):
        ladder.count(Rung.GRADIENT)
        return None
    a_values, a_vectors = _eigenvectors(a, ladder)
    b_values, b_vectors = _eigenvectors(b, ladder)
    # both are sums of squares: what is below zero is rounding
    products = torch.outer(b_values.clamp_min(0), a_values.clamp_min(0))
    return Block(a_vectors, b_vectors, 1 / (products + damping))


def _eigenvectors(factor: Tensor, ladder: Ladder) -> tuple[Tensor, Tensor]:
    found = eigh(factor, ladder)
    if found is not None:
        return found
    ladder.count(Rung.OTHER_BASIS)
    return factor.diagonal(), torch.eye(len(factor), dtype=factor.dtype, device=factor.device)


class Kfac:
    """Directions of all linear and convolution layers; of batch normalisation the gradient.

    A curvature costs a forward pass and a backward pass more (``type-2``: one for every output of
    the network), and the eigenvectors of all factors, for which an accelerator waits for the host.
    Batch normalisation makes samples depend on one another, which the curvature does not see. Where
    a factor is not finite, the step is one of gradients; see also :func:`block`.

    :raises ConfigError: the package curvlinops is not installed.
    """

    def __init__(self, problem: Problem) -> None:
        _operator()
        self._problem = problem
        self._settings = problem.config.method.kfac
        self._layers = dict(linear_layers(problem.model))
        self._ladders = {name: Ladder() for name in self._layers}
        self._blocks: dict[str, Block] = {}
        self._age = 0

    def directions(self, batch: Batch, at: Position, *, record: bool) -> Found:
        """V of the mini-batch, with the curvature of this one or of one before it."""
        problem = self._problem
        outputs, loss = problem.evaluate(batch)
        loss.backward()
        with precision.full(problem.device):
            if not self._blocks or self._age >= self._settings.update_every:
                self._blocks, self._age = self._curvature(batch, outputs.detach()), 0
            self._age += 1
            for name, found in self._blocks.items():
                _precondition(self._layers[name], found)
        return Found(loss.detach())

    def ladders(self) -> Mapping[str, Ladder]:
        """Of the eigenvectors of every layer's factors."""
        return self._ladders

    def tensors(self) -> dict[str, Tensor]:
        """The curvature in use and the steps it has had, where it outlives a step."""
        if self._settings.update_every == 1 or not self._blocks:
            return {}
        found = {
            f"blocks/{name}/{field}": getattr(block, field)
            for name, block in self._blocks.items()
            for field in _FIELDS
        }
        return found | {"age": torch.tensor(self._age)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the curvature back.

        :raises CheckpointError: it is of other layers.
        """
        self._blocks, self._age = {}, 0
        if not tensors:
            return
        expected = {f"blocks/{name}/{field}" for name in self._layers for field in _FIELDS}
        if tensors.keys() != expected | {"age"}:
            raise CheckpointError("the checkpoint's curvature is of another network or method")
        for name in self._layers:
            own = (tensors[f"blocks/{name}/{field}"] for field in _FIELDS)
            self._blocks[name] = Block(*(value.to(self._problem.device).clone() for value in own))
        self._age = int(tensors["age"])

    def _curvature(self, batch: Batch, outputs: Tensor) -> dict[str, Block]:
        problem, fisher = self._problem, self._settings.fisher
        of_labels = problem.config.loss == "cross-entropy"
        operator = _operator()(
            problem.model,
            nn.CrossEntropyLoss(reduction="sum") if of_labels else nn.MSELoss(reduction="sum"),
            [parameter for layer in self._layers.values() for parameter in layer.parameters()],
            [(batch.inputs, self._targets(batch, outputs))],
            # the library draws labels with a generator of its own, ours are drawn already
            fisher_type="type-2" if fisher == "type-2" else "empirical",
            check_deterministic=False,
            num_per_example_loss_terms=1,
            num_data=len(outputs),
            separate_weight_and_bias=False,
        )
        with statistics_kept(problem.model):
            operator.compute_kronecker_factors()
        factors = operator.state_dict()
        # B as a mean of 1/2 |output - target|^2, which has no 1/2 there: its Hessian is half
        # theirs, its gradients' products a quarter
        scale = 1.0 if of_labels else 0.5 if fisher == "type-2" else 0.25
        blocks = {}
        for name, ladder in self._ladders.items():
            a = factors["input_covariances"][name]
            b = factors["gradient_covariances"][name] * (scale / len(outputs))
            found = block(a, b, self._settings.damping, ladder)
            if found is None:
                return {}
            blocks[name] = found
        return blocks

    def _targets(self, batch: Batch, outputs: Tensor) -> Tensor:
        """What the curvature compares the outputs with: drawn from the model for ``mc``, else as
        they are."""
        drawn = self._settings.fisher == "mc"
        match self._problem.config.loss:
            case "cross-entropy" if drawn:
                # as multinomial does it, which stops the program where a probability is NaN
                waits = torch.empty_like(outputs).exponential_()
                return (outputs.softmax(dim=1) / waits).argmax(dim=1)
            case "cross-entropy":
                return batch.targets
            case _ if drawn:
                return outputs + torch.randn_like(outputs)
            case "mse":
                return F.one_hot(batch.targets, outputs.shape[1]).to(outputs.dtype)
            case _:
                return batch.targets


def _operator() -> Any:
    """Class of the curvature; the library has no types."""
    try:
        from curvlinops import KFACLinearOperator
    except ImportError:
        raise ConfigError(
            "K-FAC needs the package curvlinops-for-pytorch; "
            "install it with: pip install 'proxprop[baselines]'"
        ) from None
    return KFACLinearOperator


def _precondition(layer: LinearLayer, found: Block) -> None:
    """Put V in place of the gradient of a layer."""
    weight, bias = layer.weight.grad, None if layer.bias is None else layer.bias.grad
    assert weight is not None
    parts = [weight.flatten(1)] if bias is None else [weight.flatten(1), bias.unsqueeze(1)]
    direction = found.solve(torch.cat(parts, dim=1))
    n = parts[0].shape[1]
    weight.copy_(direction[:, :n].reshape(weight.shape))
    if bias is not None:
        bias.copy_(direction[:, n])
