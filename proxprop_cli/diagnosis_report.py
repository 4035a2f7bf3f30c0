"""A diagnosis for a person: tables with a legend, and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.diagnosis.results import Diagnosis
    from proxprop_cli.output import Output


def tell(diagnosis: Diagnosis, output: Output) -> None:
    """Tables and what their columns are; with ``--json`` the notes alone."""
    from engine.diagnosis import tables

    for note in diagnosis.notes:
        output.note(note)
    if output.as_json:
        return
    about = diagnosis.about
    if diagnosis.data:
        from engine.diagnosis.data_spectrum import NORMALISATIONS

        meanings = [f"{name}: {meaning}" for name, meaning in NORMALISATIONS.items()]
        output.line(f"X X^T over {about['samples']:,} training samples of {about['data']}")
        output.table(tables.DATA_COLUMNS, tables.data_rows(diagnosis))
        _lines(output, (*meanings, *tables.DATA_LEGEND))
        return
    where = "at initialisation" if about["at"] == "initial" else f"at step {about['step']}"
    output.line(f"local Hessians {where}, {about['samples']} samples of {about['data']}")
    output.table(tables.SPECTRA_COLUMNS, tables.spectra_rows(diagnosis))
    _lines(output, tables.spectra_legend(diagnosis))
    if diagnosis.angles:
        output.line()
        output.line(f"directions of {about['method']} and the gradient")
        output.table(tables.ANGLE_COLUMNS, tables.angle_rows(diagnosis))
        _lines(output, tables.ANGLE_LEGEND)


def _lines(output: Output, texts: Sequence[str]) -> None:
    for text in texts:
        output.line(text)


def write(diagnosis: Diagnosis, csv: Path | None, figure: Path | None, output: Output) -> None:
    """The files that were asked for."""
    if csv is not None:
        from engine.diagnosis.tables import write_csv

        output.line(f"wrote {write_csv(csv, diagnosis):,} rows to {csv}")
    if figure is not None:
        from engine.figures.conditioning import draw_conditioning
        from engine.figures.style import file_format, render, styled, write_figure

        with styled():
            content = render(draw_conditioning(diagnosis), file_format(figure))
        write_figure(figure, content)
        output.line(f"wrote {figure}")
