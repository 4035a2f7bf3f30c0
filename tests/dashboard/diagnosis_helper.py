"""Something that was measured, and runs to measure."""

from __future__ import annotations

from dataclasses import replace

from engine.diagnosis.results import Angle, BlockSpectrum, Diagnosis, Figures
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.diagnosis import DiagnosisScreen
from proxprop_cli.dashboard.widgets.notice import Notice
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, live_screen, make_run, until

FIGURES = Figures(
    order=8320,
    rank=2005,
    largest=378.0,
    smallest=0.0,
    smallest_nonzero=0.0648,
    condition=5833.0,
    damped=19.9,
    beta=20.0,
    parts=128,
    part_conditions=(2.0, 600.0, 5833.0),
    quantiles=(0.0648, 0.1, 1.0, 3.0, 9.0, 60.0, 378.0),
    method="gram",
    error=1e-14,
    samples=32,
)
BOUNDS = replace(FIGURES, rank=None, method="lanczos", part_conditions=None, quantiles=())
ONE = replace(FIGURES, largest=1.0, smallest_nonzero=1.0, condition=1.0, damped=2.0)
DIAGNOSIS = Diagnosis(
    {"at": "latest", "step": 640, "method": "exact", "samples": 32, "data": "digits"},
    (
        BlockSpectrum("plain", 0, "1", "64 → 128, relu", "W", FIGURES),
        BlockSpectrum("plain", 0, "1", "64 → 128, relu", "z", BOUNDS),
        BlockSpectrum("plain", 0, "3", "128 → 10", "W", replace(FIGURES, condition=None)),
        BlockSpectrum("plain", 0, "3", "128 → 10", "z", ONE),
    ),
    (
        Angle("plain", 0, "1", 0.5, 0.0503, 20.0),
        Angle("plain", 0, "3", float("nan"), None, None),
    ),
)


def measurable(root, **options):
    """A run with something to measure."""
    run = make_run(root, **options)
    with StoreWriter(run.database) as writer:
        row = {"reason": "end", "epoch": 4, "best": True}
        writer.add_checkpoint(40, tensors_sha256="0" * 64, json_sha256="0" * 64, **row)
    return run


def opened(run, script, size=(100, 30), data_dir=None):
    """The screen on a run, opened by its key."""

    async def go(pilot):
        await live_screen(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, DiagnosisScreen))
        await script(pilot, pilot.app.screen)

    in_app(Dashboard(Runs(run.path.parent), [run.id], data_dir=data_dir), go, size)


def said(screen):
    return str(screen.query_one("#notice", Notice).render())


def is_measured(screen):
    """Whether all that was measured is in the table."""
    return len(screen.query_one("#spectra", Table).keys) == len(DIAGNOSIS.spectra)
