"""The latest diagnosis of a run, kept in its folder."""

from __future__ import annotations

import json

from engine.diagnosis.results import Diagnosis, from_document
from engine.errors import StorageError
from engine.own_files import read_own, replace_own
from engine.run import Run

_NAME = "diagnosis.json"
_MAX_BYTES = 64 * 1024 * 1024


def keep(run: Run, diagnosis: Diagnosis) -> None:
    """Put it in the place of an older one, readable by its owner alone.

    :raises StorageError: there is something else in its place, or it can not be written; the older
        one is still there.
    """
    text = json.dumps(diagnosis.document(), allow_nan=False)
    replace_own(run.path / _NAME, text.encode())


def read_kept(run: Run) -> Diagnosis | None:
    """What was kept; None where nothing was.

    :raises StorageError: it can not be read.
    """
    path = run.path / _NAME
    source = f"{run.id}/{_NAME}"
    try:
        return from_document(json.loads(read_own(path, _MAX_BYTES)), source)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{source}: not a diagnosis: {error}") from None
