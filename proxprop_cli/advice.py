"""Notes on a configuration that is accepted and is probably not what was meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config import RunConfig
    from proxprop_cli.output import Output


@dataclass(frozen=True, slots=True)
class Given:
    """One configuration and what a person gave for it.

    :ivar preset: its name or file.
    :ivar keys: dotted, of options and ``--set``.
    """

    preset: str
    config: RunConfig
    keys: Collection[str]


def advise(given: Sequence[Given], output: Output, *, step_sizes: bool = True) -> None:
    """Tell, a line each, of settings that have no effect in any configuration they were given for,
    and of step sizes that a preset has for another method.

    :param step_sizes: leave out the latter where step sizes do not come from presets.
    """
    from engine.advice import idle_because

    for key in dict.fromkeys(key for one in given for key in one.keys):
        causes = [idle_because(one.config, key) for one in given if key in one.keys]
        if all(causes):
            output.note(f"{key} has no effect with {' or '.join(dict.fromkeys(map(str, causes)))}")
    if step_sizes:
        lines = (_of_another(one) for one in given if "method.tau" not in one.keys)
        for line in dict.fromkeys(filter(None, lines)):
            output.note(line)


def _of_another(given: Given) -> str:
    from engine.advice import step_size_is_of
    from proxprop_cli.presets import load

    method = given.config.method
    chosen_for = step_size_is_of(load(given.preset)[0], method)
    if chosen_for is None:
        return ""
    origin = f"that of {chosen_for}" if chosen_for else "the default"
    return f"{given.preset} has no step size for {method.name}; tau {method.tau:g} is {origin}"
