"""A process of a job of torchrun that says who it is, then runs the program.

``python -m tests.cli.job_member FOLDER ARGUMENTS``: its process id goes to ``FOLDER/RANK``. Each
process has a folder for runs of its own, as on machines of their own; rank 0 that of its job.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from proxprop_cli.__main__ import main

if __name__ == "__main__":
    _, folder, *arguments = sys.argv
    rank = os.environ["RANK"]
    if rank != "0":
        os.environ["PROXPROP_DIR"] = str(Path(folder, f"runs of {rank}"))
    draft = Path(folder, f"{rank}.draft")
    draft.write_text(str(os.getpid()))
    draft.replace(Path(folder, rank))
    sys.argv[1:] = arguments
    main()
