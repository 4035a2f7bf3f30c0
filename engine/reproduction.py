"""Ours beside the paper's: a Markdown report from the runs of an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.comparison import Comparison, RowResult, Statistic
from engine.experiments import PAPER_EPOCHS, Experiment, Published
from engine.stability import Stability
from engine.store_reader import StoreReader
from engine.sweeps import Sweep

_FIGURES = {
    "train_loss": "final training loss",
    "test_accuracy": "final test accuracy",
    "best_val_accuracy": "best validation accuracy",
}
_FACTS = ("data", "device", "threads", "python", "torch", "numpy", "system")


@dataclass(frozen=True, slots=True)
class Beside:
    """A published figure and ours.

    :ivar row: ours.
    :ivar ours: None: no run has got that far.
    :ivar diverged: of our runs, how many did.
    """

    published: Published
    row: str
    ours: Statistic | None
    diverged: int

    @property
    def difference(self) -> float | None:
        """Ours minus published; None where one of the two has no number."""
        if self.ours is None or not math.isfinite(self.published.value):
            return None
        return self.ours.mean - self.published.value


def set_beside(experiment: Experiment, found: Comparison, sweep: Sweep) -> list[Beside]:
    """Every published figure with each of our rows it is meant for.

    :param found: our runs, summed up; for a grid one row per step size.
    """
    places = dict.fromkeys((cell.label, cell.tau) for cell in sweep.cells)
    rows = dict(zip(places, found.rows, strict=True))
    return [
        Beside(published, label, row.figures.get(published.figure), row.diverged)
        for published in experiment.published
        for (label, tau), row in rows.items()
        if label in published.rows and published.tau in (None, tau)
    ]


def environment(root: Path, sweep: Sweep) -> dict[str, Any]:
    """What the runs were made with, as the first one that was begun tells it."""
    for cell in sweep.cells:
        database = root / str(cell.run) / "run.db"
        if database.is_file():
            with StoreReader(database) as reader:
                found = reader.state().get("environment")
            if found:
                return dict(found)
    return {}


def title(experiment: Experiment, sweep: Sweep) -> str:
    """The experiment's title; where it was shortened, it says so."""
    data = _config(sweep).get("data", {})
    cuts = []
    if data.get("name") != "cifar10":
        cuts.append(f"on {data.get('label') or data.get('name')}")
    if sweep.epochs != PAPER_EPOCHS:
        cuts.append(f"{sweep.epochs} of {PAPER_EPOCHS} epochs")
    if data.get("train_samples"):
        cuts.append(f"{data['train_samples']:,} training samples")
    if data.get("normalize") != "unit":
        cuts.append("standardised inputs")
    shortened = f" ({', '.join(cuts)})" if cuts else ""
    return experiment.title + shortened


def write_report(
    experiment: Experiment,
    sweep: Sweep,
    found: Comparison,
    grid: Stability,
    facts: Mapping[str, Any],
    *,
    command: str,
    figures: Sequence[str],
) -> str:
    """The report as Markdown.

    :param facts: see :func:`environment`.
    :param command: what makes it anew.
    :param figures: names of image files beside the report.
    """
    seeds = sorted({cell.seed for cell in sweep.cells})
    done = sum(state.status in ("finished", "diverged") for r in found.rows for state in r.states)
    lines = [f"# {title(experiment, sweep)}", ""]
    if done < len(sweep.cells):
        lines += [f"**Not complete: {done} of {len(sweep.cells)} runs have ended.**", ""]
    label = str(facts.get("data", _config(sweep).get("data", {}).get("name", "")))
    if "JPEG" in label:
        lines += [
            "The images are a JPEG copy: its pixels differ from those of the original files, so "
            "small differences to the paper are to be expected.",
            "",
        ]
    lines += [
        f"Made by `{command}`. Sweep `{sweep.id}`, seeds {', '.join(map(str, seeds))}.",
        "",
        "## Beside the paper",
        "",
        *_beside_table(set_beside(experiment, found, sweep)),
    ]
    if experiment.kind == "sweep":
        lines += ["", "## Step sizes", "", *_grid_table(grid)]
    else:
        lines += ["", "## At the end", "", *_end_table(found.rows), "", *_at_loss(found)]
    for name in figures:
        lines += ["", f"![{Path(name).stem}]({name})"]
    lines += ["", "## Environment", "", *_facts(facts), "", "## Settings", ""]
    for row, config in sweep.configs.items():
        lines += [f"### {_plain(row)}", "", "```yaml", *_settings(config), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _beside_table(beside: Sequence[Beside]) -> list[str]:
    grid = any(item.published.tau is not None for item in beside)
    head = ["method", *(["tau"] if grid else []), "figure", "paper", "ours", "difference", "where"]
    rows = []
    for item in beside:
        percent = "accuracy" in item.published.figure
        rows.append(
            [
                item.row,
                *([f"{item.published.tau:g}"] if grid else []),
                _FIGURES[item.published.figure],
                _value(item.published.value, percent),
                _ours(item, percent),
                _difference(item, percent),
                item.published.where,
            ]
        )
    return _table(head, rows)


def _ours(item: Beside, percent: bool) -> str:
    told = [] if item.ours is None else [_interval(item.ours, percent)]
    if item.diverged:
        told.append(f"{item.diverged} diverged")
    return ", ".join(told) or "-"


def _difference(item: Beside, percent: bool) -> str:
    difference = item.difference
    if difference is not None:
        return f"{100 * difference:+.1f} points" if percent else f"{difference:+.3g}"
    both = item.diverged and not math.isfinite(item.published.value)
    return "both diverge" if both else "-"


def _grid_table(grid: Stability) -> list[str]:
    head = ["method", *(f"{tau:g}" for tau in grid.taus), "best tau", "stable width (decades)"]
    rows = []
    for row in grid.rows:
        texts = []
        for tau in grid.taus:
            cell = grid.cells.get((row.label, tau))
            if cell is None:
                texts.append("")
            elif cell.diverged:
                texts.append(f"diverged {cell.diverged}/{cell.seeds}")
            else:
                texts.append("-" if cell.loss is None else f"{cell.loss:.3g}")
        best = "-" if row.best_tau is None else f"{row.best_tau:g}"
        width = "-" if row.width is None else f"{'≥' if row.at_edge else ''}{row.width:.1f}"
        rows.append([row.label, *texts, best, width])
    level = "" if grid.level is None else f" at or below {grid.level:.3g}"
    note = f"Final training loss, median over seeds. Stable: every seed{level}."
    return [*_table(head, rows), "", note]


def _end_table(rows: Sequence[RowResult]) -> list[str]:
    head = ["method", "tau", "n", "training loss", "validation", "test", "training time (s)"]
    return _table(
        head,
        [
            [
                row.label,
                f"{row.tau:g}",
                f"{len(row.runs) - row.diverged}/{len(row.runs)}",
                _interval(row.figures.get("train_loss"), False),
                _interval(row.figures.get("val_accuracy"), True),
                _interval(row.figures.get("test_accuracy"), True),
                _interval(row.figures.get("seconds"), False),
            ]
            for row in rows
        ],
    )


def _at_loss(found: Comparison) -> list[str]:
    if found.loss is None:
        return []
    head = ["method", "reached", "epochs", "training time (s)", "validation", "test"]
    rows = []
    for row in found.rows:
        figure = row.figures.get("seconds_at_loss")
        rows.append(
            [
                row.label,
                f"{figure.n if figure else 0}/{len(row.runs)}",
                _interval(row.figures.get("epochs_at_loss"), False),
                _interval(figure, False),
                _interval(row.figures.get("val_accuracy_at_loss"), True),
                _interval(row.figures.get("test_accuracy_at_loss"), True),
            ]
        )
    note = (
        f"Where the training loss is {found.loss:.4g}, the least that all have reached; "
        "interpolated between evaluations."
    )
    return ["## At an equal training loss", "", note, "", *_table(head, rows)]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    known = [f"- {key}: {_plain(str(facts[key]))}" for key in _FACTS if key in facts]
    return known or ["No run was begun yet."]


def _settings(config: Mapping[str, Any]) -> list[str]:
    import yaml

    text = yaml.safe_dump({**config, "seed": "see above"}, sort_keys=False, allow_unicode=True)
    return str(text).rstrip().splitlines()


def _config(sweep: Sweep) -> Mapping[str, Any]:
    return next(iter(sweep.configs.values()), {})


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(_plain, cells)) + " |" for cells in lines]


def _value(value: float, percent: bool) -> str:
    if not math.isfinite(value):
        return "diverged"
    return f"{100 * value:.1f} %" if percent else f"{value:.3g}"


def _interval(value: Statistic | None, percent: bool) -> str:
    if value is None:
        return "-"
    mean = _value(value.mean, percent)
    if not math.isfinite(value.ci95):
        return mean
    return f"{mean.removesuffix(' %')} ± {_value(value.ci95, percent)} (n={value.n})"


def _plain(text: str) -> str:
    """Without what would end a cell of a table or a line."""
    return " ".join(text.replace("|", "\\|").split())
