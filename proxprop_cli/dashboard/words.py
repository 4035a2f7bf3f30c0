"""What the words in the panes mean, for the help."""

from __future__ import annotations

from textual.screen import Screen

from proxprop_cli.dashboard.screens.diagnosis import DiagnosisScreen
from proxprop_cli.dashboard.screens.live_base import RunsScreen

Words = tuple[tuple[str, str], ...]
_OF_RUNS: Words = (
    ("system", "order of the linear system, and its form"),
    ("residual", "|(A'A + beta I)V - A'G| / |A'G| of the step taken"),
    ("recurrence", "what CG believes it to be, iteration by iteration"),
    ("angle", "between step and gradient; below 90 degrees descends"),
    ("fallbacks", "solver failures that another method answered"),
    ("x work", "multiplications of a step, in steps of BackProp"),
)
_OF_CONDITIONING: Words = (
    ("H_W", "J'J, where J are the derivatives of a block's output by its weights"),
    ("H_z", "the same by its input: how the block hands gradients on"),
    ("order", "rows of that matrix"),
    ("rank", "eigenvalues that are not zero but for rounding; -: not known"),
    ("largest", "eigenvalue"),
    ("least > 0", "the least eigenvalue that is not zero"),
    ("condition", "largest / least > 0: 1 is best, large is slow for gradient steps"),
    ("damped", "(largest + beta) / (least + beta), zeros included: what a proximal step sees"),
    ("≥ ≤", "bounds, where the matrix is too large for all its eigenvalues"),
    ("angle", "between a layer's direction and the gradient; below 90 degrees descends"),
    ("at least", "what theory keeps the cosine of an exact step above"),
    ("beta", "damping of a proximal step, made of tau_theta"),
)


def words_of(screen: Screen[object]) -> Words:
    """Those of a screen."""
    if isinstance(screen, DiagnosisScreen):
        return _OF_CONDITIONING
    return _OF_RUNS if isinstance(screen, RunsScreen) else ()
