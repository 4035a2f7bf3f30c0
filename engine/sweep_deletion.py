"""Deleting sweeps."""

from __future__ import annotations

import shutil

from engine.atomic_files import storage_errors, sync_folder
from engine.errors import BusyError
from engine.run import Run
from engine.runs import Runs
from engine.sweeps import Sweep, all_sweeps


def own_runs(runs: Runs, sweep: Sweep) -> list[Run]:
    """Runs of a sweep that are there and that no other sweep has.

    :raises StorageError: the folder can not be listed.
    """
    others = {
        cell.run for other in all_sweeps(runs.root) if other.id != sweep.id for cell in other.cells
    }
    own = {str(cell.run): None for cell in sweep.cells if cell.run and cell.run not in others}
    return [run for run in (Run(runs.root / id) for id in own) if run.exists()]


def delete_sweep(runs: Runs, sweep: Sweep) -> int:
    """Delete a sweep and its own runs; gives how many runs.

    The sweep goes last: what a process that died here has left can be deleted again.

    :raises BusyError: it or one of the runs is being trained; the runs before that one are gone.
    :raises StorageError: something can not be deleted.
    """
    folder = Run(runs.root / sweep.id)
    if folder.is_live():
        raise BusyError(f"{sweep.id} is being trained; stop it first")
    own = own_runs(runs, sweep)
    live = next((run for run in own if run.is_live()), None)
    if live is not None:
        raise BusyError(f"run {live.id} of {sweep.id} is being trained; stop it first")
    with folder.lock(), storage_errors(folder.path):
        for run in own:
            runs.delete(run)
        shutil.rmtree(folder.path)
        sync_folder(runs.root)
    return len(own)
