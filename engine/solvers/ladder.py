"""The failure ladder: what is tried when a factorisation fails, and how often that happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor


class Rung(IntEnum):
    """Ways to solve the damped system, each slower and more robust than the one before."""

    CHOLESKY = 0
    """Cholesky of the Gram in the working precision."""
    FLOAT64 = 1
    """The Gram, or its eigenvectors, in float64."""
    JITTER = 2
    """More damping: 1e-6 of the mean diagonal, times 10 until it works."""
    EIGH = 3
    """Eigendecomposition with negative eigenvalues of the Gram taken as zero."""
    PRODUCTS = 4
    """CG by products with the Gram, of which there are no eigenvectors: the same iterates."""
    OTHER_BASIS = 5
    """A Kronecker factor without eigenvectors: its diagonal (K-FAC), or the basis that SOAP had."""
    GRADIENT = 6
    """No solution at all: the gradient at a length that is safe, grad/(tr(A^T A) + beta)."""

    @property
    def label(self) -> str:
        """Name for people."""
        return self.name.lower().replace("_", " ")


@dataclass(slots=True)
class Ladder:
    """One layer's failures. On the host they are counted and climbed within the step; on a device
    a failed step falls back to the gradient there, and :meth:`poll` climbs afterwards, so that no
    step waits for the device.
    """

    start: Rung = Rung.CHOLESKY
    """Where a step begins."""
    counts: dict[Rung, int] = field(default_factory=dict)
    """How often each rung above the first had to answer."""
    pending: Tensor | None = None
    """Failed steps since the last poll, counted on the device (0-d, int64)."""

    def count(self, rung: Rung, times: int = 1) -> None:
        """A rung answered."""
        if rung is not Rung.CHOLESKY and times:
            self.counts[rung] = self.counts.get(rung, 0) + times

    def defer(self, failed: Tensor) -> None:
        """Note on the device whether this step failed (0-d boolean tensor)."""
        if self.pending is None:
            self.pending = torch.zeros((), dtype=torch.long, device=failed.device)
        # in place, here and below: a recorded step counts at the same address at every replay
        self.pending += failed

    def poll(self) -> None:
        """Bring deferred failures to the host; after any, later steps begin one rung higher."""
        if self.pending is None:
            return
        failures = int(self.pending)
        if failures:
            self.pending.zero_()
            self.count(Rung.GRADIENT, failures)
            self.start = Rung(min(self.start + 1, Rung.EIGH))

    def take_counts(self) -> dict[Rung, int]:
        """The counts since the last call."""
        self.poll()
        counts, self.counts = self.counts, {}
        return counts
