"""A command that torchrun has started several times at once: one process leads and speaks."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from engine.errors import ProxPropError
from engine.parallel.launch import launched
from engine.parallel.team import ALONE, Team
from proxprop_cli.exit_codes import Exit, exit_code
from proxprop_cli.output import Output

_RANK_0_FIRST = 0.5
"""Seconds: what rank 0 comes upon too, it is to say."""


@contextmanager
def job() -> Iterator[Team]:
    """The processes that carry out this command.

    What goes wrong is said once, by the first process it happens to, which is the one that knows
    why; the others then leave with the same exit code. So they do where rank 0 ends for another
    reason while they wait for it.
    """
    launch = launched()
    if launch.size == 1:
        yield ALONE
        return
    from engine.parallel.processes import Processes

    if launch.rank:
        # torchrun passes signals on to all; what is to be done about them rank 0 tells
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    team = Processes(launch)
    try:
        yield team
        if launch.rank == 0:
            team.conclude(Exit.OK)
    except typer.Exit as end:
        if launch.rank == 0:
            team.conclude(end.exit_code)
        raise
    except (Exception, KeyboardInterrupt) as error:
        if launch.rank:
            time.sleep(_RANK_0_FIRST)
        code = exit_code(error) if isinstance(error, ProxPropError) else Exit.ERROR
        first = team.conclude(code)
        if first is not None:
            raise typer.Exit(first) from error
        if launch.rank:
            kind = "" if isinstance(error, ProxPropError) else f"{type(error).__name__}: "
            Output().note(f"proxprop: process {launch.rank}: {kind}{error}")
            raise typer.Exit(code) from error
        raise
    finally:
        team.leave()
