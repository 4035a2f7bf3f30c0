"""The conditioning of a run, measured on demand by a process of its own."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Static

from engine.diagnosis.kept import read_kept
from engine.diagnosis.results import HESSIANS, Diagnosis, Figures, from_document
from engine.errors import StorageError
from engine.numbers import format_number
from engine.run import Run
from engine.store_reader import StoreReader
from proxprop_cli.dashboard.shorten import first_fitting
from proxprop_cli.dashboard.widgets.key_line import KeyLine
from proxprop_cli.dashboard.widgets.notice import Notice
from proxprop_cli.dashboard.widgets.table import Column, Row, Table
from proxprop_cli.output import duration, printable

SPECTRA = (
    Column("block", left=True),
    Column("", left=True),
    Column("order", rank=5),
    Column("rank", rank=4),
    Column("largest", rank=3),
    Column("least > 0", rank=2),
    Column("condition"),
    Column("damped", rank=1),
    Column("condition, a decade ━━━━", rank=6, left=True),
)
ANGLES = (
    Column("layer", left=True),
    Column("angle"),
    Column("cosine", rank=1),
    Column("at least", rank=2),
    Column("beta", rank=3),
)
_BAR, _PER_DECADE, _LONGEST = "━", 4, 60
_LOW = 16
"""Rows below which there is no room for the angles."""
_GRACE_SECONDS = 2.0
_MAX_WORDS = 4096
_NO_CHECKPOINT = "no checkpoint: i measures the initial weights"


class DiagnosisScreen(Screen[None]):
    """Local Hessians and descent angles of one run; leaving it ends the measurement.

    :param data_dir: folder of data sets; None: the default one.
    """

    DEFAULT_CSS = """
    DiagnosisScreen #title { height: 1; background: $panel; padding: 0 1; text-style: bold; }
    DiagnosisScreen Table { border: round $primary; padding: 0 1; }
    DiagnosisScreen Table:focus { border: round $accent; }
    DiagnosisScreen #spectra { height: 2fr; }
    DiagnosisScreen #angles { height: 1fr; }
    DiagnosisScreen.low #angles { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "measure", "Measure", tooltip="Measure the newest checkpoint"),
        Binding("i", "measure_start", "At start", tooltip="Measure the initial weights"),
        Binding("escape", "back", "Back", tooltip="Back; ends the measurement"),
        Binding("q,ctrl+c,ctrl+q", "back", "Back", show=False),
        Binding("question_mark", "app.show_help", "Help", tooltip="These keys"),
        Binding("f1", "app.show_help", "Help", show=False),
        Binding("tab,shift+tab", "app.focus_next", "The other table", show=False),
    ]

    def __init__(self, run: Run, data_dir: Path | None = None) -> None:
        super().__init__()
        self._run = run
        self._data_dir = data_dir
        self._process: asyncio.subprocess.Process | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._begun: float | None = None
        self._diagnosis: Diagnosis | None = None

    def compose(self) -> ComposeResult:
        """Title, what is to be said, two tables, keys."""
        yield Static(id="title", markup=False)
        yield Notice(whole=True, id="notice")
        yield Table("nothing measured yet", id="spectra")
        yield Table("", id="angles")
        yield KeyLine()

    def on_mount(self) -> None:
        """Show what was kept, else measure."""
        self.query_one("#spectra", Table).frame(
            ["local Hessians · sums over a mini-batch", "local Hessians"]
        )
        self.query_one("#angles", Table).frame(["direction and gradient"])
        self.query_one("#spectra").focus()
        self.set_interval(1.0, self._tell_time)
        try:
            kept = read_kept(self._run)
        except StorageError as error:
            self._say(str(error), grave=True)
            kept = None
        if kept is None:
            self.action_measure()
        else:
            self._show(kept)

    def on_resize(self, event: Resize) -> None:
        """Leave the angles out where there is no room."""
        self.set_class(event.size.height < _LOW, "low")
        self._draw_title()

    async def on_unmount(self) -> None:
        """End the measurement."""
        await self._end()

    def action_back(self) -> None:
        """To the run."""
        self.dismiss()

    def action_measure(self) -> None:
        """Measure the newest checkpoint."""
        self._begin("latest")

    def action_measure_start(self) -> None:
        """Measure the initial weights."""
        self._begin("initial")

    def _begin(self, checkpoint: str) -> None:
        """Measure, unless that is being done."""
        if self._begun is None:
            self._begun = time.monotonic()
            self._tell_time()
            self._measuring = asyncio.create_task(self._measure(checkpoint))

    async def _measure(self, checkpoint: str) -> None:
        root = str(self._run.path.parent.resolve())
        command = [sys.executable, "-m", "proxprop_cli", "diagnose", self._run.id]
        command += ["--checkpoint", checkpoint, "--json", "--dir", root]
        if self._data_dir is not None:
            command += ["--data-dir", str(self._data_dir.resolve())]
        try:
            if checkpoint == "latest" and not await asyncio.to_thread(_has_checkpoint, self._run):
                self._begun = None
                self._say(_NO_CHECKPOINT)
                return
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=1 << 20,
                env={**os.environ, "TERM": "dumb"},
            )
            out, said = await self._process.communicate()
        except (OSError, StorageError) as error:
            self._begun = None
            cause = error.strerror if isinstance(error, OSError) else error
            self._say(f"can not be measured: {cause}", grave=True)
            return
        self._begun = None
        if self._process.returncode:
            words = said[-_MAX_WORDS:].decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "")
            self._say(last or f"ended with code {self._process.returncode}", grave=True)
            return
        try:
            found = from_document(json.loads(out), "proxprop diagnose")
        except (StorageError, ValueError) as error:
            self._say(str(error), grave=True)
        else:
            self._say("")
            self._show(found)

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._measuring is not None:
            self._measuring.cancel()

    def _tell_time(self) -> None:
        if self._begun is not None:
            seconds = int(time.monotonic() - self._begun)
            self._say(f"measuring … {duration(seconds) if seconds else ''}".rstrip())

    def _say(self, text: str, *, grave: bool = False) -> None:
        self.query_one("#notice", Notice).show([text] if text else [], grave=grave)

    def _show(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis
        self.query_one("#spectra", Table).show(
            SPECTRA,
            [
                Row(
                    f"{one.block} {one.hessian}",
                    (f"{one.block}: {one.label}", HESSIANS[one.hessian], *_cells(one.figures)),
                )
                for one in diagnosis.spectra
            ],
        )
        angles = self.query_one("#angles", Table)
        angles.empty = next(iter(diagnosis.notes), "")
        angles.show(
            ANGLES,
            [
                Row(
                    one.layer,
                    (
                        one.layer,
                        _degrees(one.cosine),
                        _or_dash(one.cosine),
                        _or_dash(one.bound),
                        _or_dash(one.beta),
                    ),
                )
                for one in diagnosis.angles
            ],
        )
        self._draw_title()

    def _draw_title(self) -> None:
        found = self._diagnosis
        texts = [f"{self._run.id} · conditioning"]
        if found is not None:
            about = found.about
            at = "initial weights" if about.get("at") == "initial" else f"step {about.get('step')}"
            texts = [
                f"{texts[0]} · {at} · {about.get('method')} · {about.get('samples')} samples of "
                f"{about.get('data')}",
                f"{texts[0]} · {at}",
                self._run.id,
            ]
        shown = first_fitting([printable(text) for text in texts], max(self.size.width - 2, 1))
        self.query_one("#title", Static).update(Text(shown))


def _has_checkpoint(run: Run) -> bool:
    with StoreReader(run.database) as reader:
        return bool(reader.checkpoints())


def _cells(figures: Figures) -> tuple[str, ...]:
    least = figures.method == "lanczos"
    bound = "≥ " if least else ""
    return (
        str(figures.order),
        "-" if figures.rank is None else str(figures.rank),
        bound + format_number(figures.largest),
        ("≤ " if least else "") + _or_dash(figures.smallest_nonzero),
        bound + _or_dash(figures.condition),
        bound + format_number(figures.damped),
        _bar(figures.condition),
    )


def _bar(condition: float | None) -> str:
    """As long as the logarithm; a dot where that is 0."""
    if condition is None or not math.isfinite(condition):
        return ""
    return _BAR * min(round(_PER_DECADE * math.log10(max(condition, 1.0))), _LONGEST) or "·"


def _degrees(cosine: float) -> str:
    if not math.isfinite(cosine):
        return "-"
    return f"{math.degrees(math.acos(min(max(cosine, -1.0), 1.0))):.1f}°"


def _or_dash(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else format_number(value)
