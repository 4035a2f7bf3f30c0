"""Numbers as short as they go: for grids, tables and labels."""

from __future__ import annotations

import math


def format_number(value: float, width: int = 7) -> str:
    """Three significant digits in at most ``width`` columns, fewer where they do not fit."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    size = int(f"{value:.2e}".partition("e")[2])  # of what is shown: 9.996 is 10.0
    tries = [f"{value:.{2 - size}f}"] if -3 <= size <= 2 else []
    for digits in (2, 1, 0):
        mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
        tries.append(f"{mantissa}e{int(exponent)}")
    return next((text for text in tries if len(text) <= width), tries[-1])


def short_number(value: float) -> str:
    """Three significant digits as short as it goes: ``0.05``, ``1e-5``, ``2.5e10``."""
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
