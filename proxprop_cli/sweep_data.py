"""The data of a sweep: made ready before anything else, and the same for all of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError, DataError
from proxprop_cli import engines, sitting
from proxprop_cli.progress import DataProgress

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.sweeps import Sweep
    from proxprop_cli.sweeping import How

_SHOWN = 3


def prepare_data(configs: Sequence[RunConfig], how: How) -> None:
    """See that the data and this machine fit every row; what there is to tell is told once.

    :raises ConfigError: the settings do not fit data or machine.
    :raises DataError: the data are not there.
    """
    from engine.session import prepare_run

    told: set[str] = set()
    with DataProgress(how.output) as shown:

        def progress(what: str, done: int, total: int | None) -> None:
            if total != 0 or what not in told:
                shown(what, done, total)
            if total == 0:
                told.add(what)

        for config in configs:
            here = engines.on_this_machine(config) if how.engine.on_ray else config
            prepare_run(here, _data_dir(how), progress)


def refuse_other_data(sweep: Sweep, how: How) -> None:
    """See that the runs that are there already were trained on the data as they are now.

    Runs are named by where their data lie; if that was changed, old results would stand beside new
    ones. What has not ended may go on with other data where that is allowed, and then has new ones.

    :raises DataError: some were not.
    """
    from engine.cells import data_source, read_cell

    now = _digests(sweep, how)
    changed: dict[str, str] = {}
    for cell in sweep.cells:
        state = read_cell(how.store.root, cell)
        digest = now.get(data_source(sweep, cell))
        is_reused = state.ended or not how.engine.allow_inexact
        if digest and state.data and state.data != digest and is_reused:
            changed[str(cell.run)] = f"SHA-256 {state.data[:8]}… then, {digest[:8]}… now"
    if changed:
        runs = list(changed)
        shown = ", ".join(runs[:_SHOWN]) + (", …" if len(runs) > _SHOWN else "")
        sweeps = _sweeps_of(runs, how.store.root) if len(runs) > _SHOWN else []
        raise DataError(
            f"{sweep.id}: {len(runs)} of its {len(sweep.cells)} runs ({shown}) were trained on "
            f"other data than there are now ({changed[runs[0]]}); put the old data back, or train "
            f"anew after 'proxprop runs delete {' '.join(sweeps or runs)}'"
        )


def _digests(sweep: Sweep, how: How) -> dict[tuple[str, ...], str]:
    """By source the hash of the data as they are now; empty where they can not be read on this
    machine: they may be on those of a cluster alone, and the runs say what is wrong."""
    from engine.cells import data_source
    from engine.data import digest_of
    from engine.sweep_plan import cell_config

    found: dict[tuple[str, ...], str] = {}
    with DataProgress(how.output) as progress:
        for cell in sweep.cells:
            source = data_source(sweep, cell)
            if source in found:
                continue
            found[source] = ""
            with suppress(ConfigError, DataError):
                data = cell_config(sweep, cell).data
                found[source] = digest_of(data, cache_dir=_data_dir(how), progress=progress)
    return found


def _data_dir(how: How) -> Path:
    return how.data_dir or sitting.default_data_dir()


def _sweeps_of(runs: Sequence[str], root: Path) -> list[str]:
    """Ids of the sweeps that have any of these runs."""
    from engine.sweeps import all_sweeps

    wanted = set(runs)
    return [one.id for one in all_sweeps(root) if any(cell.run in wanted for cell in one.cells)]
