"""The table of reconstructions in the database of a run.

Stores of runs from before there were any do not have it: their writer makes it, their readers
find nothing.
"""

from __future__ import annotations

import json
from typing import Any

from engine.events import Reconstructed
from engine.reconstructions import lasts
from engine.store_format import RECONSTRUCTIONS
from engine.store_values import name_of, of_type

SCHEMA = RECONSTRUCTIONS
DROP_PASSING = "DELETE FROM reconstructions WHERE lasting = ?"
PUT = "INSERT OR REPLACE INTO reconstructions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
REWIND = "DELETE FROM reconstructions WHERE step > ?"
IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'reconstructions'"
READ = (
    "SELECT step, epoch, part, samples, channels, height, width, inputs, outputs"
    " FROM reconstructions WHERE step > ? ORDER BY step"
)
_MAX_SAMPLES = 1000

Row = tuple[str | int | float | bytes | None, ...]


def row_of(event: Reconstructed) -> Row:
    """The event as :data:`PUT` takes it."""
    return (
        event.step,
        event.epoch,
        event.part,
        json.dumps(event.samples),
        *event.shape,
        event.inputs,
        event.outputs,
        int(lasts(event.epoch)),
    )


def reconstructed_of(
    step: Any,
    epoch: Any,
    part: Any,
    samples: Any,
    channels: Any,
    height: Any,
    width: Any,
    inputs: Any,
    outputs: Any,
) -> Reconstructed:
    """The event of a row as :data:`READ` has it.

    :raises TypeError: it is not what :func:`row_of` makes.
    :raises ValueError: likewise.
    """
    places = tuple(of_type(place, int) for place in of_type(json.loads(samples), list))
    shape = of_type(channels, int), of_type(height, int), of_type(width, int)
    if not 1 <= len(places) <= _MAX_SAMPLES:
        raise ValueError(f"expected 1 to {_MAX_SAMPLES} pictures, found {len(places)}")
    size = len(places) * shape[0] * shape[1] * shape[2]
    for pixels in (of_type(inputs, bytes), of_type(outputs, bytes)):
        if min(shape) < 1 or len(pixels) != size:
            raise ValueError(f"{len(pixels)} pixels are no {len(places)} pictures of {shape}")
    if not 0 <= float(epoch) < float("inf"):
        raise ValueError(f"epoch is {epoch}")
    return Reconstructed(
        step=of_type(step, int),
        epoch=float(epoch),
        part=name_of(part),
        samples=places,
        shape=shape,
        inputs=inputs,
        outputs=outputs,
    )
