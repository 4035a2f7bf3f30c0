"""Reports of reproduced experiments: files in a folder, and what is said of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.atomic_files import storage_errors
from engine.errors import ConfigError, StorageError
from engine.experiments import Experiment
from engine.markdown_report import write_report
from engine.reproduction import Beside, changes, environment, problems, set_beside, title
from engine.sweeps import Sweep
from proxprop_cli.output import number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from engine.stability import Stability
    from proxprop_cli.sweeping import How

_COLUMNS = ["method", "tau", "figure", "paper", "ours (mean)", "difference"]
_X_AXES = ("epoch", "train", "work")
_ACCURACIES = ("val_accuracy", "test_accuracy")
_LOSSES = ("val_loss", "test_loss")
_USER_FILE = 0o666
_REPORT = "report.md"
_TABLES = ("runs.csv", "grid.csv", "means.csv", "published.csv")
_FIGURES = ("stability", "heatmap", "curves", "reconstructions")
_PICTURES = ("png", "svg")
_MADE_BY = re.compile(r"^Made by `+ ?proxprop\b.*Sweep `", re.MULTILINE)


def check_targets(folder: Path, *, force: bool) -> None:
    """See, before anything is trained, that the files of a report can be written, and do not take
    the place of others; an older report is ours.

    :param force: they may.
    :raises ConfigError: one would, or of what is no file.
    :raises StorageError: nobody can tell.
    """
    pictures = [f"{name}.{kind}" for name in _FIGURES for kind in _PICTURES]
    with storage_errors(folder):
        there = [name for name in (_REPORT, *_TABLES, *pictures) if (folder / name).exists()]
        for name in there:
            if not (folder / name).is_file():
                raise ConfigError(f"{folder / name}: expected a file, found something else")
        if force or not there:
            return
        report = folder / _REPORT
        if report.is_file() and _MADE_BY.search(report.read_text(errors="replace")):
            return
    raise ConfigError(
        f"{folder} holds no report of 'reproduce', but a {there[0]}; give another folder "
        "with --output, or --force to replace it"
    )


def write(experiment: Experiment, sweep: Sweep, how: How, folder: Path, *, command: str) -> None:
    """Write ``report.md``, the runs and the grid as CSV, and the figures; print ours beside the
    paper's.

    :param command: what makes it anew.
    :raises StorageError: a file can not be written.
    """
    from engine.atomic_files import replacing
    from engine.cells import read_cells
    from engine.comparison import compare
    from engine.stability import summarize_sweep
    from engine.sweep_export import export_means, export_sweep
    from proxprop_cli.sweep_tables import comparison_document
    from proxprop_cli.sweeping import print_comparison

    root, output = how.store.root, how.output
    states = read_cells(root, sweep)
    found = compare(root, sweep)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    runs, grid_file, means, published = (folder / name for name in _TABLES)
    export_sweep(sweep, states, runs)
    if sweep.kind == "sweep":
        export_sweep(sweep, states, grid_file, grid=True)
    else:
        _remove(grid_file)
    export_means(found, means)
    grid = summarize_sweep(sweep, states)
    figures, notes = _figures(sweep, root, folder, grid)
    changed = changed_settings(experiment, sweep)
    heading = title(experiment, sweep, changed)
    text = write_report(
        experiment,
        sweep,
        found,
        grid,
        environment(root, sweep),
        command=command,
        figures=figures,
        changed=changed,
    )
    path = folder / _REPORT
    with storage_errors(path), replacing(path, mode=_USER_FILE) as stream:
        stream.write(text)
    beside = set_beside(experiment, found, sweep)
    if beside:
        _write_beside(beside, published)
    else:
        _remove(published)
    ended = sum(row.ended for row in found.rows)
    for note in [*problems(found), *notes]:
        output.note(note)
    output.line(heading)
    if beside:
        output.table(_COLUMNS, [_row(item) for item in beside])
    if experiment.note:
        output.line(experiment.note)
    if not beside and sweep.kind == "comparison":
        print_comparison(found, output)
    if ended < len(states):
        output.line(f"not complete: {ended} of {len(states)} runs have ended")
    output.line(f"wrote {path}")
    output.document(
        {
            "experiment": experiment.name,
            "sweep": sweep.id,
            "title": heading,
            "runs": len(states),
            "ended": ended,
            "complete": ended == len(states),
            "report": str(path),
            "figures": [_document(item) for item in beside],
            "methods": comparison_document(sweep, found)["methods"],
        }
    )


def _row(item: Beside) -> list[str]:
    fraction = "accuracy" in item.published.figure
    form = percent if fraction else number
    ours = []
    if item.ours is not None:
        share = f" ({item.ours.n}/{item.seeds})" if item.ours.n < item.seeds else ""
        ours.append(form(item.ours.mean) + share)
    if item.diverged:
        ours.append(f"✖ {item.diverged}")
    difference = "-"
    if item.difference is not None:
        # of two per cents, a difference is in points
        points = f"{100 * item.difference:+.1f} points"
        difference = points if fraction else f"{item.difference:+.4g}"
    return [
        item.row,
        "-" if item.published.tau is None else f"{item.published.tau:g}",
        item.published.figure.replace("_", " "),
        "diverged" if item.published.value != item.published.value else form(item.published.value),
        (" ".join(ours) or "-") + ("" if item.complete else "…"),
        difference,
    ]


def _remove(path: Path) -> None:
    """Take away what an older report had and this one has not."""
    with storage_errors(path):
        path.unlink(missing_ok=True)


def _write_beside(beside: Sequence[Beside], path: Path) -> None:
    """Ours beside the published figures, as CSV; a published ``nan`` is a run that diverged."""
    from engine.export import csv_text, csv_writer, writing

    documents = [_document(item) for item in beside]
    with writing(path) as stream:
        writer = csv_writer(stream)
        writer.writerow(documents[0])
        for document in documents:
            writer.writerow(csv_text(x) if isinstance(x, str) else x for x in document.values())


def _document(item: Beside) -> dict[str, Any]:
    return {
        "method": item.row,
        "tau": item.published.tau,
        "figure": item.published.figure,
        "published": item.published.value,
        "mean": None if item.ours is None else item.ours.mean,
        "ci95": None if item.ours is None or math.isnan(item.ours.ci95) else item.ours.ci95,
        "n": 0 if item.ours is None else item.ours.n,
        "seeds": item.seeds,
        "complete": item.complete,
        "diverged": item.diverged,
        "difference": item.difference,
    }


def changed_settings(experiment: Experiment, sweep: Sweep) -> list[str]:
    """What the title is to say of settings that are not those of the experiment's preset."""
    from engine.config import resolve
    from proxprop_cli import presets

    document, source = presets.load(experiment.preset)
    rows: dict[str, dict[str, Any]] = {method: {} for method in experiment.methods}
    rows |= {label: dict(settings) for label, settings in experiment.extra.items()}
    found = {}
    for label, settings in rows.items():
        method = str(settings.pop("method.name", label))
        config = resolve(document, method=method, overrides=settings, source=source)
        found[label] = config.model_dump(mode="json")
    return changes(sweep, found)


def _figures(
    sweep: Sweep, root: Path, folder: Path, grid: Stability
) -> tuple[list[str], list[str]]:
    """Draw what there is, as PNG and SVG; gives the names of the PNG files, and what could not be
    drawn."""
    from engine.figures.curves import draw_curves
    from engine.figures.heatmap import draw_heatmap
    from engine.figures.read_curves import available, read_groups
    from engine.figures.stability import draw_stability
    from engine.figures.style import render, styled, write_figure

    if not any((root / str(cell.run)).exists() for cell in sweep.cells):
        return [], []
    drawings: dict[str, Callable[[], Figure]]
    if sweep.kind == "sweep":
        drawings = {
            "stability": lambda: draw_stability(grid),
            "heatmap": lambda: draw_heatmap(grid),
        }
    else:

        def curves() -> Figure:
            wanted = ["train_loss", *_ACCURACIES, *_LOSSES]
            groups = read_groups([sweep], root, _X_AXES, wanted)
            others = available(groups, _ACCURACIES) or available(groups, _LOSSES)
            return draw_curves(groups, _X_AXES, ["train_loss", *others])

        drawings = {"curves": curves}
        if any(config.get("loss") == "reconstruction" for config in sweep.configs.values()):
            drawings["reconstructions"] = lambda: _reconstructions(sweep, root)
    names, notes = [], []
    with styled():
        for name, draw in drawings.items():
            try:
                figure = draw()
            except (ConfigError, StorageError) as error:
                notes.append(f"no figure {name!r}: {error}")
                continue
            for format_ in _PICTURES:
                write_figure(folder / f"{name}.{format_}", render(figure, format_))
            names.append(f"{name}.png")
    return names, notes


def _reconstructions(sweep: Sweep, root: Path) -> Figure:
    from engine.figures.reconstructions import draw_reconstructions, one_of_each, read_rows

    return draw_reconstructions(read_rows(one_of_each(sweep, root)))
