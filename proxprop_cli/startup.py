"""What the program makes of the process it was started in, before anything else."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from engine.errors import StorageError
from proxprop_cli import streams


def prepare_process() -> None:
    """Set streams and variables so that nothing around the program disturbs it or its children."""
    streams.install()
    set_variables()
    protect_children()


def set_variables() -> None:
    """Correct what the environment says."""
    # Arrays of a layer's size are made anew in every step; with huge pages the kernel has 500
    # times fewer of them to hand out. Read by torch when it is imported, on Linux only.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # a notebook's, which matplotlib would refuse to load without the notebook's packages
    os.environ.pop("MPLBACKEND", None)
    if not os.environ.get("HOME", "none"):
        del os.environ["HOME"]  # an empty one would make '~/x' the folder '/x'
    if any(map(_has_size, (0, 1, 2))):
        # exported by a shell whose window has another size by now
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)


def protect_children() -> None:
    """Have Python processes of ours import our modules and Python's own, not those of the same
    names that lie in the working folder."""
    os.environ["PYTHONSAFEPATH"] = "1"
    checkout = str(Path(__file__).parents[1])
    if sys.path[0] == checkout and checkout not in sys.path[1:]:
        # not installed: 'python -m' has found it in the working folder, where they do not look
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{checkout}{os.pathsep}{others}" if others else checkout


def require_working_folder() -> None:
    """See that there is a working folder: much of what is done later asks for it.

    :raises StorageError: it was deleted, or can not be entered.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise StorageError(
            f"the working folder: {error.strerror}; change to a folder that exists"
        ) from None


def _has_size(descriptor: int) -> bool:
    """Whether it is a terminal that knows its size."""
    with suppress(OSError):
        return all(os.get_terminal_size(descriptor))
    return False
