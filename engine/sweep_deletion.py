"""Deleting sweeps."""

from __future__ import annotations

from engine.errors import BusyError, ConfigError, StorageError
from engine.own_files import RUN, SWEEP, refuse_foreign
from engine.run import Run
from engine.runs import Runs
from engine.sweeps import Sweep, read_sweeps


def own_runs(runs: Runs, sweep: Sweep) -> list[Run]:
    """Runs of a sweep that are there, that no other sweep has, and that are what it names.

    A sweep that was received may name any run. Its own are those whose configuration gives their
    name, see :func:`engine.sweep_plan.run_id`.

    :raises StorageError: the folder can not be listed, or another sweep can not be read: it may
        have the same runs.
    """
    sweeps, unreadable = read_sweeps(runs.root)
    unreadable.pop(sweep.id, None)
    for id, problem in unreadable.items():
        raise StorageError(
            f"{sweep.id} may share runs with {id}, which can not be read ({problem});"
            f" mend it, or delete it first with 'proxprop runs delete {id}'"
        )
    others = {cell.run for other in sweeps if other.id != sweep.id for cell in other.cells}
    own = {str(cell.run): None for cell in sweep.cells if cell.run and cell.run not in others}
    found = [Run(runs.root / id) for id in own]
    return [run for run in found if run.exists() and _is_named_by_content(run)]


def delete_sweep(runs: Runs, sweep: Sweep) -> int:
    """Delete a sweep and its own runs; gives how many runs.

    The sweep goes last: what a process that died here has left can be deleted again.

    :raises BusyError: it or one of the runs is being trained; the runs before that one are gone.
    :raises StorageError: something can not be deleted, or another sweep can not be read.
    :raises ConfigError: its folder is that of a run too.
    """
    folder = _idle_folder(runs, sweep.id)
    own = own_runs(runs, sweep)
    live = next((run for run in own if run.is_live()), None)
    if live is not None:
        raise BusyError(f"run {live.id} of {sweep.id} is being trained; stop it first")
    refuse_foreign(folder.path, SWEEP)
    for run in own:
        refuse_foreign(run.path, RUN)
    with folder.lock():
        for run in own:
            runs.delete(run)
        runs.remove(folder.path, SWEEP)
    return len(own)


def delete_unreadable_sweep(runs: Runs, id: str) -> None:
    """Delete the folder of a sweep that can not be read; which runs it has nobody knows.

    :raises BusyError: it is being trained.
    :raises StorageError: it can not be deleted.
    :raises ConfigError: its folder is that of a run too.
    """
    folder = _idle_folder(runs, id)
    with folder.lock():
        runs.remove(folder.path, SWEEP)


def _is_named_by_content(run: Run) -> bool:
    from engine.config_sections import LogConfig
    from engine.sweep_plan import run_id

    try:
        if run.path.is_symlink():
            return False
        config = run.config()
        # threads that were left to the program, and which checkpoints are kept, are in a run's
        # configuration, but were not when it was named
        usual = LogConfig()
        log = config.log.model_copy(update={"keep": usual.keep, "keep_best": usual.keep_best})
        named = [config.model_copy(update={"log": one}) for one in (config.log, log)]
        named += [one.model_copy(update={"threads": None}) for one in named]
        return run.id in map(run_id, named)
    except (ConfigError, StorageError):
        return False


def _idle_folder(runs: Runs, id: str) -> Run:
    folder = Run(runs.root / id)
    if folder.exists():
        raise ConfigError(f"{folder.path} holds a run and a sweep.json; move the latter away first")
    if folder.is_live():
        raise BusyError(f"{id} is being trained; stop it first")
    return folder
