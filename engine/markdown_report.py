"""The report of a reproduced experiment as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from engine.comparison import Comparison, RowResult, Statistic, knows_classes, score
from engine.experiments import Experiment
from engine.numbers import short_number
from engine.reproduction import Beside, data_of, flat, problems, set_beside, title
from engine.stability import Stability
from engine.sweeps import Sweep

_FIGURES = {
    "train_loss": "final training loss",
    "test_accuracy": "final test accuracy",
    "best_val_accuracy": "best validation accuracy",
}
_CAPTIONS = {
    "reconstructions": "Samples that were not trained on, and what each method makes of them in "
    "the run of its first seed: drawn once, the same for all.",
}
"""Below figures that do not speak for themselves, by the name of the file."""
_FACTS = ("data", "device", "threads", "python", "torch", "numpy", "system")
_MARKUP = re.compile(r"[\\|`*<\[&~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
"""What begins markup, an entity or a column of a table."""


def write_report(
    experiment: Experiment,
    sweep: Sweep,
    found: Comparison,
    grid: Stability,
    facts: Mapping[str, Any],
    *,
    command: str,
    figures: Sequence[str],
    changed: Sequence[str] = (),
) -> str:
    """The report as Markdown.

    :param facts: see :func:`environment`.
    :param command: what makes it anew.
    :param figures: names of image files beside the report.
    :param changed: see :func:`changes`.
    """
    seeds = sorted({cell.seed for cell in sweep.cells})
    done = sum(row.ended for row in found.rows)
    lines = [f"# {_plain(title(experiment, sweep, changed))}", ""]
    if done < len(sweep.cells):
        lines += [f"**Not complete: {done} of {len(sweep.cells)} runs have ended.**", ""]
    if listed := problems(found):
        lines += [*(f"- {_plain(line)}" for line in listed), ""]
    label = str(facts.get("data", data_of(sweep).get("name", "")))
    if "JPEG" in label:
        lines += [
            "The images are a JPEG copy: its pixels differ from those of the original files, so "
            "small differences to the paper are to be expected.",
            "",
        ]
    lines += [
        f"Made by {_code(command)}. Sweep `{sweep.id}`, seeds {', '.join(map(str, seeds))}.",
        "",
        "## Beside the paper",
        "",
    ]
    if experiment.published:
        lines += [*_beside_table(set_beside(experiment, found, sweep)), ""]
    if experiment.note:
        lines += [experiment.note, ""]
    lines += [
        "Ours: mean over the finished seeds, with the 95 % interval; k/n where not all n are in it"
        + ("." if done == len(sweep.cells) else ", … where runs are still to come."),
    ]
    if experiment.kind == "sweep":
        lines += ["", "## Step sizes", "", *_grid_table(grid)]
    else:
        lines += ["", "## At the end", "", *_end_table(found.rows), "", *_at_loss(found)]
    for name in figures:
        stem = Path(name).stem
        lines += ["", f"![{stem}]({name})"]
        lines += ["", _CAPTIONS[stem]] if stem in _CAPTIONS else []
    lines += ["", "## Environment", "", *_facts(facts), "", "## Settings", ""]
    lines += _settings(sweep)
    return "\n".join(lines).rstrip() + "\n"


def _beside_table(beside: Sequence[Beside]) -> list[str]:
    grid = any(item.published.tau is not None for item in beside)
    head = [
        "method",
        *(["tau"] if grid else []),
        "figure",
        "paper",
        "ours (mean)",
        "difference",
        "where",
    ]
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
    told = []
    if item.ours is not None:
        share = f" ({item.ours.n}/{item.seeds})" if item.ours.n < item.seeds else ""
        told.append(_interval(item.ours, percent) + share)
    if item.diverged:
        told.append(f"{item.diverged} diverged")
    return (", ".join(told) or "-") + ("" if item.complete else " …")


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
            elif cell.loss is None:
                texts.append("-")
            else:
                texts.append(short_number(cell.loss) + ("" if cell.final else " …"))
        best = "-" if row.best_tau is None else short_number(row.best_tau)
        width = "-" if row.width is None else f"{'≥' if row.at_edge else ''}{row.width:.1f}"
        more = "" if row.complete else " …"
        rows.append([row.label, *texts, best + more, width + more])
    level = "" if grid.level is None else f" at or below {short_number(grid.level)}"
    note = f"Final training loss, median over seeds. Stable: every seed{level}."
    if not grid.complete:
        note += " …: unfinished, runs are still to come; best, width and the level may change."
    return [*_table(head, rows), "", note]


def _end_table(rows: Sequence[RowResult]) -> list[str]:
    parts = [f"validation{_loss(rows)}", f"test{_loss(rows)}"]
    head = ["method", "tau", "n", "training loss", *parts, "training time (s)"]
    return _table(
        head,
        [
            [
                row.label,
                f"{row.tau:g}",
                _count(row),
                _interval(row.figures.get("train_loss"), False),
                _interval(*score(row.figures, "val_{}")),
                _interval(*score(row.figures, "test_{}")),
                _interval(row.figures.get("seconds"), False),
            ]
            for row in rows
        ],
    )


def _loss(rows: Sequence[RowResult]) -> str:
    """What is added to the heads of columns where there are no accuracies."""
    return "" if knows_classes(rows) else " loss"


def _count(row: RowResult) -> str:
    figure = row.figures.get("train_loss")
    text = f"{figure.n if figure else 0}/{len(row.runs)}"
    text += f", {row.diverged} diverged" if row.diverged else ""
    return text if row.complete else f"{text} …"


def _at_loss(found: Comparison) -> list[str]:
    if found.loss is None:
        return []
    parts = [f"validation{_loss(found.rows)}", f"test{_loss(found.rows)}"]
    head = ["method", "reached", "epochs", "training time (s)", *parts]
    rows = []
    for row in found.rows:
        figure = row.figures.get("seconds_at_loss")
        rows.append(
            [
                row.label,
                f"{figure.n if figure else 0}/{len(row.runs)}",
                _interval(row.figures.get("epochs_at_loss"), False),
                _interval(figure, False),
                _interval(*score(row.figures, "val_{}_at_loss")),
                _interval(*score(row.figures, "test_{}_at_loss")),
            ]
        )
    note = (
        f"Where the training loss is {found.loss:.4g}, the least that all finished runs have "
        "reached; "
        "interpolated between evaluations."
    )
    return ["## At an equal training loss", "", note, "", *_table(head, rows)]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    known = [f"- {key}: {_plain(str(facts[key]))}" for key in _FACTS if key in facts]
    return known or ["No run was begun yet."]


def _settings(sweep: Sweep) -> list[str]:
    """What all rows have in common as YAML, and a table of what differs."""
    import yaml

    of_cells = {"seed", "method.tau"} if sweep.kind == "sweep" else {"seed"}
    settings = {row: flat(config) for row, config in sweep.configs.items()}
    keys = [key for key in dict.fromkeys(chain(*settings.values())) if key not in of_cells]
    columns = {key: [config.get(key, "-") for config in settings.values()] for key in keys}
    shared = {
        key: values[0] for key, values in columns.items() if values.count(values[0]) == len(values)
    }
    text = yaml.safe_dump(shared, sort_keys=False, allow_unicode=True)
    fence = _fence(str(text), 3)
    lines = [f"{fence}yaml", *str(text).rstrip().splitlines(), fence]
    differing = [key for key in keys if key not in shared]
    if differing:
        rows = [
            [row, *(str(config.get(key, "-")) for key in differing)]
            for row, config in settings.items()
        ]
        lines += ["", *_table(["row", *differing], rows)]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(_plain, cells)) + " |" for cells in lines]


def _value(value: float, percent: bool) -> str:
    if not math.isfinite(value):
        return "diverged"
    return f"{100 * value:.1f} %" if percent else short_number(value)


def _interval(value: Statistic | None, percent: bool) -> str:
    if value is None:
        return "-"
    mean = _value(value.mean, percent)
    if not math.isfinite(value.ci95):
        return mean
    return f"{mean.removesuffix(' %')} ± {_value(value.ci95, percent)} (n={value.n})"


def _code(text: str) -> str:
    """As code, whatever is in it."""
    text = " ".join(text.split())
    if "`" not in text:
        return f"`{text}`"
    fence = _fence(text, 1)
    return f"{fence} {text} {fence}"


def _fence(text: str, least: int) -> str:
    """So many backticks that none of the text's own end the code."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _plain(text: str) -> str:
    """Without what would end a cell of a table or a line, or be markup."""
    return " ".join(_MARKUP.sub(r"\\\g<0>", text).split())
