"""Which steps' metrics are kept: every one at first, then every 10th, every 100th and so on.

A store then grows with the logarithm of a very long run, and its curves, most of all on a log axis,
look the same. The rule depends on the step's number alone, so that a run that was killed and
resumed keeps the rows of one that was not.
"""

from __future__ import annotations

from dataclasses import replace

from engine.events import StepsDone


def stride(step: int, full_steps: int) -> int:
    """The distance of the steps that are kept around a step.

    :param full_steps: all steps up to this one are kept; up to ten times as many, every 10th.
    """
    distance = 1
    while step > full_steps * distance:
        distance *= 10
    return distance


def thin(event: StepsDone, full_steps: int) -> StepsDone:
    """The block with the steps that are kept, maybe none."""
    if not event.steps or event.steps[-1] <= full_steps:
        return event
    kept = [i for i, step in enumerate(event.steps) if step % stride(step, full_steps) == 0]
    values = {key: tuple(column[i] for i in kept) for key, column in event.values.items()}
    return replace(event, steps=tuple(event.steps[i] for i in kept), values=values)
