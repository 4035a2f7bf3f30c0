"""Takes a run in and dies at the n-th sub-step of it, for all n.

python -m tests.reliability.arriving HOME PARCEL, with a run in HOME and one that came in the file
PARCEL. Every death is that of a forked process, on a copy of the run. Prints a line of JSON for
each: what it died before, what was left, and what is there once the same is taken in again.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import count
from pathlib import Path

from engine.cluster.arrivals import take_in
from engine.run import Run
from tests.reliability.substeps import DIED, Death, apart, say
from tests.reliability.trainings import outcome


def take_in_or_die(run: Run, parcel: bytes, death: Death | None) -> None:
    with run.lock():
        sys.setprofile(death)
        take_in(run, parcel)
        sys.setprofile(None)


def main(home: Path, parcel: bytes) -> None:
    for number in count():
        copy = Run(home.parent / f"copy{number}")
        shutil.copytree(home, copy.path)
        code, call = apart(lambda: take_in_or_die(copy, parcel, Death(number)))  # noqa: B023
        if code == 0:
            return
        assert code == DIED, call
        _, left = apart(lambda: outcome(copy))  # noqa: B023
        again, why = apart(lambda: take_in_or_die(copy, parcel, None))  # noqa: B023
        assert again == 0, why
        _, after = apart(lambda: outcome(copy))  # noqa: B023
        names = sorted(path.name for path in copy.path.iterdir())
        document = {"before": call, "left": json.loads(left), "after": json.loads(after)}
        say(json.dumps({**document, "names": names}))
        shutil.rmtree(copy.path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes())
