"""``proxprop plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError
from engine.run import Run
from engine.sweeps import Sweep
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output
from proxprop_cli.targets import check_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from engine.figures.style import Look
    from engine.stability import Stability

KINDS = ("curves", "stability", "heatmap", "residuals", "reconstructions")

_ALL_X = ("epoch", "wall", "work")
_ACCURACIES = ("val_accuracy", "test_accuracy", "train_accuracy")
_LOSSES = ("val_loss", "test_loss")
_MAX_PANELS = 12
_MAX_RESIDUAL_RUNS = 8


def plot(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Ids, unique beginnings of them, names, or 'latest'; also sweeps and comparisons.",
            autocompletion=opt.complete_runs,
        ),
    ],
    output_path: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            parser=opt.parse_path,
            metavar="FILE",
            help="File to write: .png, .svg or .pdf.",
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(KINDS),
            help="What to draw; default: stability for a sweep unless an option is for curves, "
            "else curves.",
        ),
    ] = None,
    x: Annotated[
        str,
        typer.Option(
            "--x",
            metavar="epoch|wall|train|work|step|all",
            help="Axis of curves; all: epoch, wall time and work side by side.",
        ),
    ] = "epoch",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="What curves show, such as train_loss, test_accuracy, batch_loss; repeatable. "
            "Default: training loss and validation accuracy, or loss where there is none.",
        ),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Curves of a sweep: the best step size of each row.")
    ] = False,
    log_y: Annotated[
        bool | None,
        typer.Option(
            "--log-y/--linear-y", help="Default: logarithmic for losses.", show_default=False
        ),
    ] = None,
    log_x: Annotated[bool, typer.Option("--log-x", help="Logarithmic x axis of curves.")] = False,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Above the figure.")] = "",
    width: Annotated[
        float, typer.Option(metavar="INCHES", min=2, max=40, help="Of the figure.")
    ] = 6.9,
    height: Annotated[
        float | None,
        typer.Option(
            metavar="INCHES", min=1, max=40, help="Of the figure; default: what it needs."
        ),
    ] = None,
    force: opt.ForceOption = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
) -> None:
    """Draw a figure for a paper: curves, step-size stability, the grid, CG residuals, or what
    autoencoders make of the same samples.

    Runs that differ by seed only are one line, the mean, with a band: the 95 % interval of the
    mean for three seeds or more, least to greatest for two.
    """
    store = opt.open_runs(runs_dir)
    found = opt.find_all(store, runs)
    of_curves = bool(best or metric or log_x or x != "epoch")
    if kind is None:
        is_grid = len(found) == 1 and _is_grid(found[0])
        kind = "stability" if is_grid and not of_curves else "curves"
    if kind not in KINDS:
        raise ConfigError(f"--kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    if kind != "curves" and of_curves:
        raise ConfigError(f"--kind {kind}: --x, --metric, --best and --log-x are for curves alone")
    # matplotlib takes a second to load
    from engine.figures.style import Look, file_format, render, styled, write_figure

    format_ = file_format(output_path)
    check_target(output_path, force=force)
    look = Look(title, width, height)
    root = store.root
    with styled():
        figure: Figure
        if kind == "curves":
            figure, drawn = _curves(found, root, x, metric or [], best, log_x, log_y, look)
        elif kind == "residuals":
            figure, drawn = _residuals(found, root, log_y, look)
        elif kind == "reconstructions":
            figure, drawn = _reconstructions(found, root, look)
        else:
            figure, drawn = _grid(found, root, kind, log_y, look)
        content = render(figure, format_)
    write_figure(output_path, content)
    output = Output(as_json=as_json)
    output.line(f"wrote {output_path}")
    output.document({"path": str(output_path), "kind": kind, "runs": drawn})


def _curves(
    found: list[Run | Sweep],
    root: Path,
    x: str,
    metrics: list[str],
    best: bool,
    log_x: bool,
    log_y: bool | None,
    look: Look,
) -> tuple[Figure, list[str]]:
    from engine.figures.curves import Scales, draw_curves
    from engine.figures.read_curves import X_AXES, available, read_groups

    if x not in (*X_AXES, "all"):
        raise ConfigError(f"--x: expected one of {', '.join(X_AXES)} or all, found {x!r}")
    xs = list(_ALL_X) if x == "all" else [x]
    metrics = list(dict.fromkeys(metrics))
    if len(metrics) * len(xs) > _MAX_PANELS:
        raise ConfigError(f"{len(metrics) * len(xs)} panels; expected at most {_MAX_PANELS}")
    taus = _best_taus(found, root) if best else None
    skipped: list[str] = []
    wanted = metrics or ["train_loss", *_ACCURACIES, *_LOSSES]
    groups = read_groups(found, root, xs, wanted, taus=taus, skipped=skipped)
    for line in skipped:
        Output().note(line)
    if not metrics:
        others = available(groups, _ACCURACIES) or available(groups, _LOSSES)
        metrics = ["train_loss", *others[:1]]
    figure = draw_curves(groups, xs, metrics, scales=Scales(log_x, log_y), look=look)
    return figure, [run.run for group in groups for run in group.runs]


def _best_taus(found: list[Run | Sweep], root: Path) -> dict[str, float | None]:
    if len(found) != 1 or not isinstance(found[0], Sweep):
        raise ConfigError("--best: expected one sweep")
    taus = {row.label: row.best_tau for row in _summary(found[0], root).rows}
    if all(tau is None for tau in taus.values()):
        raise ConfigError("--best: no row has a step size that was trained to its end")
    return taus


def _grid(
    found: list[Run | Sweep], root: Path, kind: str, log_y: bool | None, look: Look
) -> tuple[Figure, list[str]]:
    sweep = found[0]
    if len(found) != 1 or not isinstance(sweep, Sweep) or not _is_grid(sweep):
        given = "several" if len(found) > 1 else f"{sweep.id!r}, which is none"
        raise ConfigError(f"--kind {kind}: expected one sweep of step sizes, found {given}")
    summary = _summary(sweep, root)
    figure: Figure
    if kind == "heatmap":
        from engine.figures.heatmap import draw_heatmap

        figure = draw_heatmap(summary, look=look)
    else:
        from engine.figures.stability import draw_stability

        figure = draw_stability(summary, log_y=log_y is not False, look=look)
    return figure, [run for cell in summary.cells.values() for run in cell.runs]


def _residuals(
    found: list[Run | Sweep], root: Path, log_y: bool | None, look: Look
) -> tuple[Figure, list[str]]:
    from engine.figures.residuals import draw_residuals, read_residuals
    from engine.store_reader import StoreReader

    runs: list[Run] = []
    for one in found:
        if isinstance(one, Sweep):
            raise ConfigError(
                "--kind residuals: expected runs, found a sweep; name some of its runs"
            )
        runs.append(one)
    if len(runs) > _MAX_RESIDUAL_RUNS:
        raise ConfigError(f"--kind residuals: expected at most {_MAX_RESIDUAL_RUNS} runs")
    layers: list[Any] = []
    for run in runs:
        with StoreReader(run.database) as reader:
            label = "" if len(runs) == 1 else run.name or run.id
            read = read_residuals(reader, label)
        if not read:
            raise ConfigError(
                f"run {run.id} has no traces of CG; methods cgN leave them, every log.trace_every "
                "steps"
            )
        layers += read
    figure = draw_residuals(layers, log_y=log_y is not False, look=look)
    return figure, [run.id for run in runs]


def _reconstructions(found: list[Run | Sweep], root: Path, look: Look) -> tuple[Figure, list[str]]:
    from engine.figures.reconstructions import draw_reconstructions, one_of_each, read_rows

    rows: dict[str, Run] = {}
    for one in found:
        if isinstance(one, Run):
            rows[_unused(one.name or one.config().method.name, one, rows)] = one
        elif _is_grid(one):
            raise ConfigError(
                "--kind reconstructions: expected runs or a comparison, found a sweep; name some "
                "of its runs"
            )
        else:
            for label, run in one_of_each(one, root).items():
                rows[_unused(label, run, rows)] = run
    return draw_reconstructions(read_rows(rows), look=look), [run.id for run in rows.values()]


def _unused(label: str, run: Run, taken: dict[str, Run]) -> str:
    return f"{label} [{run.id}]" if label in taken else label


def _summary(sweep: Sweep, root: Path) -> Stability:
    from engine.cells import read_cells
    from engine.stability import summarize_sweep
    from proxprop_cli.sweep_tables import left_out

    states = read_cells(root, sweep)
    for line in left_out(sweep, states):
        Output().note(line)
    return summarize_sweep(sweep, states)


def _is_grid(one: Run | Sweep) -> bool:
    return isinstance(one, Sweep) and one.kind == "sweep"
