"""What a diagnosis finds, as plain values: for tables, files and figures. Nothing here needs torch,
so that a dashboard can read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from engine.comparison import Statistic, statistic
from engine.errors import StorageError

FORMAT = 1
"""Of the document."""
HESSIANS: Mapping[str, str] = {"W": "H_W", "z": "H_z"}
"""Names of J_W^T J_W, with respect to a block's weights, and J_z^T J_z, to its input."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """A spectrum in numbers."""

    order: int
    """Of the matrix."""
    rank: int | None
    """Eigenvalues that are not zero but for rounding; None: not known."""
    largest: float
    smallest: float
    """0 where the rank is less than the order."""
    smallest_nonzero: float | None
    condition: float | None
    """Of the eigenvalues that are not zero; by Lanczos a lower bound."""
    damped: float
    """(largest + beta)/(smallest + beta), zeros included; by Lanczos a lower bound."""
    beta: float
    parts: int
    """Diagonal blocks: features, samples, or one."""
    part_conditions: tuple[float, float, float] | None
    """Least, median and greatest condition number of a part."""
    quantiles: tuple[float, ...]
    """0, 5, 25, 50, 75, 95 and 100 % of the eigenvalues that are not zero; by Lanczos none."""
    method: Literal["gram", "lanczos"]
    error: float
    """``gram``: what counts as zero, relative to the largest; ``lanczos``: residual norm of the
    ends, relative to each."""
    samples: int
    """On how many it was measured."""


@dataclass(frozen=True, slots=True)
class BlockSpectrum:
    """One local Hessian of one block of one network."""

    variant: str
    seed: int
    block: str
    """Name of the first module with weights in it."""
    label: str
    """What it is made of."""
    hessian: Literal["W", "z"]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Angle:
    """How far a layer's direction is from the gradient."""

    variant: str
    seed: int
    layer: str
    cosine: float
    """NaN where one of the two is zero."""
    bound: float | None
    """lambda_min/lambda_max of M^-1 = (A^T A + beta I)^-1, which the cosine of an exact step is not
    below (Frerix et al., Prop. 4); 1 for explicit layers, None for methods without that theory."""
    beta: float | None

    @property
    def degrees(self) -> float:
        """The angle itself."""
        if not math.isfinite(self.cosine):
            return math.nan
        return math.degrees(math.acos(min(max(self.cosine, -1.0), 1.0)))


@dataclass(frozen=True, slots=True)
class DataSpectrum:
    """Eigenvalues of X X^T, the sum of x x^T over samples, under one normalisation."""

    normalisation: str
    samples: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All of it.

    :ivar about: where it was measured: run and checkpoint, or preset; data, method, tau_theta.
    :ivar notes: what was left out, and why.
    """

    about: Mapping[str, Any]
    spectra: tuple[BlockSpectrum, ...] = ()
    angles: tuple[Angle, ...] = ()
    data: tuple[DataSpectrum, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """For JSON, NaN and infinities as None; :func:`from_document` turns it back."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "about": dict(self.about),
            "summary": [
                {
                    "variant": row.variant,
                    "block": row.block,
                    "hessian": row.hessian,
                    "beta": row.one.figures.beta,
                    **{key: asdict(value) for key, value in row.statistics.items()},
                }
                for row in summarise(self.spectra)
            ],
            "spectra": [asdict(one) for one in self.spectra],
            "angles": [asdict(one) for one in self.angles],
            "data": [asdict(one) for one in self.data],
            "notes": list(self.notes),
        }
        return {key: _finite(value) for key, value in found.items()}


def from_document(document: object, source: str) -> Diagnosis:
    """A diagnosis from what was read.

    :param source: named in the error.
    :raises StorageError: it is none, or of another version.
    """
    try:
        if not isinstance(document, Mapping) or document["format"] != FORMAT:
            raise StorageError(f"{source}: not a diagnosis of this version; measure it again")
        return Diagnosis(
            dict(document["about"]),
            tuple(_with_figures(BlockSpectrum, item) for item in document["spectra"]),
            tuple(_made(Angle, _with_cosine(item)) for item in document["angles"]),
            tuple(_with_figures(DataSpectrum, item) for item in document["data"]),
            tuple(map(str, document["notes"])),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise StorageError(f"{source}: not a diagnosis: {error}") from None


@dataclass(frozen=True, slots=True)
class Summary:
    """One Hessian of one block over seeds.

    :ivar one: of the first seed, for what does not depend on it.
    :ivar statistics: of ``largest``, ``smallest_nonzero``, ``rank``, ``log10_condition`` and
        ``log10_damped``, where every seed has one.
    :ivar bounds: whether condition numbers are lower bounds only.
    """

    variant: str
    block: str
    hessian: Literal["W", "z"]
    one: BlockSpectrum
    statistics: Mapping[str, Statistic]
    bounds: bool


def summarise(spectra: Sequence[BlockSpectrum]) -> list[Summary]:
    """Means and intervals over seeds, in the order of variants and blocks.

    Condition numbers are averaged as logarithms: they are ratios, and spread over decades.
    """
    groups: dict[tuple[str, str, Literal["W", "z"]], list[BlockSpectrum]] = {}
    for one in spectra:
        groups.setdefault((one.variant, one.block, one.hessian), []).append(one)
    rows = []
    for (variant, block, hessian), members in groups.items():
        found = [member.figures for member in members]
        values: dict[str, list[float | None]] = {
            "largest": [one.largest for one in found],
            "smallest_nonzero": [one.smallest_nonzero for one in found],
            "rank": [one.rank for one in found],
            "log10_condition": [_log10(one.condition) for one in found],
            "log10_damped": [_log10(one.damped) for one in found],
        }
        known = {
            key: statistic([value for value in column if value is not None])
            for key, column in values.items()
            if all(value is not None for value in column)
        }
        bounds = any(one.method == "lanczos" for one in found)
        rows.append(Summary(variant, block, hessian, members[0], known, bounds))
    return rows


@dataclass(frozen=True, slots=True)
class AngleSummary:
    """The angle of one layer over seeds.

    :ivar one: of the first seed, for what does not depend on it.
    """

    one: Angle
    degrees: Statistic
    cosine: Statistic
    bound: Statistic | None


def angle_summary(angles: Sequence[Angle]) -> list[AngleSummary]:
    """Means and intervals over seeds, by variant and layer."""
    groups: dict[tuple[str, str], list[Angle]] = {}
    for one in angles:
        groups.setdefault((one.variant, one.layer), []).append(one)
    rows = []
    for members in groups.values():
        bounds = [one.bound for one in members if one.bound is not None]
        rows.append(
            AngleSummary(
                members[0],
                statistic([one.degrees for one in members]),
                statistic([one.cosine for one in members]),
                statistic(bounds) if bounds else None,
            )
        )
    return rows


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and 0 < value < math.inf else None


def _with_figures(kind: type[T], item: Mapping[str, Any]) -> T:
    return _made(kind, {**item, "figures": _figures(item["figures"])})


def _figures(item: Mapping[str, Any]) -> Figures:
    three = item["part_conditions"]
    return _made(
        Figures,
        {
            **item,
            "part_conditions": None if three is None else tuple(map(float, three)),
            "quantiles": tuple(map(float, item["quantiles"])),
        },
    )


def _with_cosine(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**item, "cosine": math.nan if item["cosine"] is None else float(item["cosine"])}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _made(kind: type[T], item: Mapping[str, Any]) -> T:
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: item[name] for name in names})
