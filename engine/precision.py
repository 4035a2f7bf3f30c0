"""In what precision the products of a training step are made.

``float32``
    Every product is an IEEE one, on every device.
``tf32``
    CUDA only: tensor cores read 10 bits of the factors' mantissas in the forward pass, in the
    gradients passed on, and in the product A^T U a dual solver ends with.
``bf16``
    The forward pass and the gradients passed on are in bfloat16 (autocast), weights and directions
    in float32; on CUDA with TF32 for the product that ends a dual solver.

What is solved with (Grams, right-hand sides, factorisations, CG) is float32 or better always. The
flags of torch are those of the process: they are set for the time of a block, and put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch

from engine.config_sections import Precision

Around = Callable[[], AbstractContextManager[object]]
"""Makes a block in which the products are those of the code around a solver."""
_Flags = tuple[str, str]  # of matrix products and of convolutions: "ieee", "tf32" or "none"

_IEEE: _Flags = ("ieee", "ieee")
_TF32: _Flags = ("tf32", "tf32")


def of_step(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """For a whole training step: what CUDA may do with float32 products."""
    if device.type != "cuda":
        return nullcontext()
    return _flags(_IEEE if precision == "float32" else _TF32)


def of_forward(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """For the network's forward pass within that; the loss belongs outside, on float32 outputs."""
    if precision != "bf16":
        return nullcontext()
    # every weight is used once a step: there is nothing to cache, and a graph must not keep it
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


@contextmanager
def full(device: torch.device) -> Iterator[Around]:
    """No autocast and no TF32: squared condition numbers leave no digits to give away.

    Gives what makes a block with the flags from before.
    """
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield nullcontext
            return
        before = _read()
        with _flags(_IEEE):
            yield partial(_flags, before)


@contextmanager
def _flags(flags: _Flags) -> Iterator[None]:
    before = _read()
    _write(flags)
    try:
        yield
    finally:
        _write(before)


# Only by the settings per operation: those of old (allow_tf32, set_float32_matmul_precision) raise
# when read while the new ones say something else, and torch.backends.cudnn.flags reads them, and
# switches cuDNN itself off unless told not to.
def _read() -> _Flags:
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return torch.backends.cuda.matmul.fp32_precision, conv.fp32_precision


def _write(flags: _Flags) -> None:
    torch.backends.cuda.matmul.fp32_precision = flags[0]
    torch.backends.cudnn.conv.fp32_precision = flags[1]  # type: ignore[attr-defined]
