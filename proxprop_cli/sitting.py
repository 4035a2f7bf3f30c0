"""Training a run in this process, or in one of its own, for the commands that do so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from engine.errors import ConfigError, ProxPropError, StorageError
from engine.filesystems import in_home
from engine.memory_errors import describe_failure
from engine.own_files import open_own
from engine.parallel.team import ALONE, Team
from proxprop_cli import streams
from proxprop_cli.exit_codes import Exit
from proxprop_cli.output import Output
from proxprop_cli.progress import DataProgress, RunProgress

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.events import RunEnded
    from engine.file_control import FileControl
    from engine.run import Run
    from engine.session import Sitting
    from engine.store_reader import EventRow

_START_SECONDS = 120.0
_LOOK_SECONDS = 0.05
_LAST_BYTES = 4096


def check_started(team: Team, *, detach: bool) -> None:
    """See that what several processes are told to do can be done by them.

    :raises ConfigError: they are to go to the background, which torchrun is to be sent to.
    """
    if team.size > 1 and detach:
        raise ConfigError("--detach is for one process; send torchrun to the background instead")


def follow(team: Team, data_dir: Path | None) -> None:
    """Train here what rank 0 trains and keeps, until it ends.

    A SIGTERM here, on a machine that is taken away, stops all.

    :raises TeamError: another process has gone.
    """
    from engine.control import Desired, Word
    from engine.session import follow

    word = Word()
    signal.signal(signal.SIGTERM, lambda *_: word.hear(Desired.STOPPED, "SIGTERM"))
    follow(team, data_dir or default_data_dir(), word)


def prepare(config: RunConfig, data_dir: Path | None, output: Output, team: Team = ALONE) -> None:
    """Find, download and decode the data before there is a run.

    :raises ConfigError: the settings do not fit data or machine.
    :raises DataError: the data are not there.
    """
    from engine.session import prepare_run

    with DataProgress(output) as progress:
        shown = progress if team.rank == 0 else None
        prepare_run(config, data_dir or default_data_dir(), shown, team)


def train(
    run: Run,
    data_dir: Path | None,
    output: Output,
    *,
    fail_on_divergence: bool = False,
    allow_inexact: bool = False,
    limits: RunConfig | None = None,
    team: Team = ALONE,
) -> int:
    """Train a run here until it ends; gives the exit code.

    :param limits: new configuration of the run, kept once training can begin.
    :param team: the processes that train it, led by this one.
    """
    from engine.file_control import FileControl
    from engine.session import Sitting
    from engine.summary import summarize

    control = FileControl(run)
    config = limits or run.config()
    with (
        signals(control),
        DataProgress(output) as data_progress,
    ):
        ended = _sit(
            run,
            Sitting(
                control=control,
                listener=RunProgress(run.id, config, output),
                data_dir=data_dir or default_data_dir(),
                progress=data_progress,
                allow_inexact=allow_inexact,
                config=limits,
                notes=streams.take_notes,
                team=team,
            ),
        )
    summary = summarize(run)
    output.document({"run": summary.pop("id"), "epochs": summary.pop("epoch"), **summary})
    if ended.reason == "SIGINT":
        return Exit.INTERRUPTED
    if ended.reason == "SIGTERM":
        return Exit.TERMINATED
    if ended.status == "diverged" and fail_on_divergence:
        return Exit.DIVERGED
    return Exit.OK


def _sit(run: Run, sitting: Sitting) -> RunEnded:
    """As :func:`engine.session.sit`; the store tells of a failure, as that of a sweep's run."""
    from engine.pool import fail
    from engine.session import sit

    try:
        return sit(run, sitting)
    except ProxPropError:
        raise
    except Exception as error:
        fail(run, describe_failure(error))
        raise


def detach(run: Run, data_dir: Path | None, output: Output, *extra: str) -> None:
    """Train a run in a process and session of its own, which outlives this one.

    :param extra: more options of ``resume``.
    :raises typer.Exit: it did not begin.
    """
    earlier = latest_start(run)
    process, log = spawn(run, data_dir, *extra)
    wait_until_begun(run, process, log, output, earlier)
    output.line(f"run {run.id} trains in the background; its output goes to {log}")
    output.document({"run": run.id, "status": "running", "pid": process.pid, "log": str(log)})


def spawn(run: Run, data_dir: Path | None, *extra: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a trainer in a session of its own; gives the process and the file of its output.

    What a person wants of the run from now on holds, also before the trainer listens.

    :param run: the folder of a run or of a sweep.
    :param extra: more options of ``resume``.
    :raises StorageError: that file is none of ours, or can not be written.
    """
    command = [sys.executable, "-m", "proxprop_cli", "resume", run.id, "--plain", *extra]
    command += ["--as-told", "--dir", str(run.path.parent.resolve())]
    if data_dir is not None:
        command += ["--data-dir", str(data_dir.resolve())]
    log = run.path / "train.log"
    descriptor = open_own(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with os.fdopen(descriptor, "ab") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    return process, log


def wait_until_begun(
    run: Run,
    process: subprocess.Popen[bytes],
    log: Path,
    output: Output,
    earlier: EventRow | None = None,
) -> None:
    """Wait until a trainer has begun, or waits for room to do so.

    :param run: the folder of a run or of a sweep.
    :param earlier: :func:`latest_start` before it was started.
    :raises typer.Exit: it failed, with its exit code; the last line that it said was printed.
    """
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and not _has_begun(run, earlier):
        if time.monotonic() > end:
            output.note(f"not begun after {_START_SECONDS:.0f} s; {log} may say why")
            return
        time.sleep(_LOOK_SECONDS)
    if process.returncode not in (None, Exit.OK, Exit.DIVERGED):
        output.note(last_line(log))
        raise typer.Exit(process.returncode if process.returncode > 0 else Exit.ERROR)


def latest_start(run: Run) -> EventRow | None:
    """How the latest training of a run began; None where it never did, or nobody can tell."""
    from engine.store_reader import StoreReader

    with suppress(StorageError), StoreReader(run.database) as reader:
        starts = [event for event in reader.events() if event.kind == "RunStarted"]
        return starts[-1] if starts else None
    return None


def last_line(log: Path) -> str:
    """The last line of a trainer's output."""
    try:
        with os.fdopen(open_own(log), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LAST_BYTES))
            lines = stream.read(_LAST_BYTES).decode(errors="replace").split("\n")
    except (OSError, StorageError) as error:
        return str(error)
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else f"the trainer ended; see {log}"


def _has_begun(run: Run, earlier: EventRow | None) -> bool:
    if not run.is_live():
        return False
    # a sweep has no store of its own
    return not run.exists() or run.is_waiting() or latest_start(run) != earlier


@contextmanager
def signals(control: FileControl) -> Iterator[None]:
    """Handlers that only leave word; a second interrupt leaves at once."""

    interrupts = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
            os._exit(Exit.INTERRUPTED)
        control.request_stop("SIGINT")

    def terminate(number: int, frame: FrameType | None) -> None:
        control.request_stop("SIGTERM")

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_data_dir() -> Path:
    """Where data sets are kept unless told otherwise."""
    from engine.data import default_data_dir

    return in_home(default_data_dir, "--data-dir or PROXPROP_DATA_DIR")
