"""A series in few numbers: per bucket of steps its range, so that no spike is ever lost."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Values of steps, gathered in buckets of ``width`` steps (step // width); all arrays (n,).

    :ivar width: steps a bucket.
    :ivar first: least step of the bucket that has a value; ``last`` the largest.
    :ivar low: least finite value; NaN where there is none; ``high`` the largest.
    :ivar total: sum of the finite values.
    :ivar count: how many values are finite.
    :ivar broken: how many are not.
    """

    width: int
    first: Integers
    last: Integers
    low: Floats
    high: Floats
    total: Floats
    count: Integers
    broken: Integers

    @classmethod
    def of(cls, steps: Integers, values: Floats, width: int = 1) -> Buckets:
        """Buckets of single values, the steps ascending."""
        finite = np.isfinite(values)
        known = np.where(finite, values, np.nan)
        total = np.where(finite, values, 0.0)
        count = finite.astype(np.int64)
        single = cls(1, steps, steps, known, known, total, count, 1 - count)
        return single.coarser(width)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def mean(self) -> Floats:
        """Mean of the finite values of every bucket; NaN where it has none."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean = self.total / self.count
            # a sum of values near 1e308 overflows
            middle = self.low / 2 + self.high / 2
            return np.where((self.count > 0) & ~np.isfinite(mean), middle, mean)

    def coarser(self, width: int) -> Buckets:
        """The same in wider buckets; ``width`` is a multiple of the present one."""
        if not len(self) or (width == self.width == 1):
            return _with_width(self, width)
        ids = self.first // width
        starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        with np.errstate(over="ignore", invalid="ignore"):
            return Buckets(
                width=width,
                first=self.first[starts],
                last=np.maximum.reduceat(self.last, starts),
                low=np.fmin.reduceat(self.low, starts),
                high=np.fmax.reduceat(self.high, starts),
                total=np.add.reduceat(self.total, starts),
                count=np.add.reduceat(self.count, starts),
                broken=np.add.reduceat(self.broken, starts),
            )

    def extended(self, steps: Integers, values: Floats, limit: int) -> Buckets:
        """With later values, in buckets so wide that there are at most ``limit``."""
        if not len(steps):
            return self
        later = Buckets.of(steps, values, self.width)
        joined = Buckets(
            self.width,
            *(
                np.concatenate((getattr(self, field.name), getattr(later, field.name)))
                for field in fields(self)[1:]
            ),
        )
        found = joined.coarser(self.width)
        while len(found) > limit:
            found = found.coarser(2 * found.width)
        return found


def _with_width(buckets: Buckets, width: int) -> Buckets:
    arrays = (getattr(buckets, field.name) for field in fields(buckets)[1:])
    return Buckets(width, *arrays)


def width_for(steps: int, limit: int) -> int:
    """The least power of two that puts so many steps into at most ``limit`` buckets."""
    width = 1
    while steps // width >= limit:
        width *= 2
    return width
