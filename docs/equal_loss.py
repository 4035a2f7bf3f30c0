"""Makes the table "At equal training loss" of results.md: problems, each method tuned for itself.

python docs/equal_loss.py [--set KEY=VALUE] [--jobs N] [PROBLEM …]

Every step size is tried with seeds that the comparison does not use; the one whose worst seed ends
at the least training loss is compared, over other seeds. Where it is the first or the last of those
tried, another is tried beyond it. The runs are kept where proxprop keeps its
runs, so that the same command goes on where it was left.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

HEAD = """\
| problem | method | tau | final loss | common loss | epochs | s | val % | test % |
|---|---|---|---|---|---|---|---|---|
"""
TUNING_SEED = 1000
WIDER = 3
"""How often a grid is made wider, by a step size beyond that at its edge where that is the best."""
ADAM = (
    "method.name=backprop",
    "optimizer.name=adam",
    "optimizer.momentum=0.0",
    "optimizer.nesterov=false",
)
NESTEROV = (
    "method.name=backprop",
    "optimizer.name=sgd",
    "optimizer.momentum=0.95",
    "optimizer.nesterov=true",
)


@dataclass(frozen=True)
class Method:
    """A contender: what is set for it, and the step sizes it is tried at."""

    label: str
    settings: tuple[str, ...]
    taus: tuple[float, ...]


@dataclass(frozen=True)
class Problem:
    """An experiment, and over how many seeds step sizes are chosen and methods are compared.

    :ivar label: of its rows.
    """

    label: str
    preset: str
    settings: tuple[str, ...]
    methods: tuple[Method, ...]
    tuning_seeds: int
    seeds: int

    def normalised(self) -> Problem:
        """The same with batch normalisation."""
        settings = *self.settings, "model.batch_norm=true"
        return replace(self, label=f"{self.label} + BN", settings=settings)


def _sgd_methods(backprop: tuple[float, ...], prox: tuple[float, ...]) -> tuple[Method, ...]:
    return (
        Method("backprop", NESTEROV, backprop),
        Method("exact", ("method.name=exact",), prox),
        Method("cg3", ("method.name=cg3",), prox),
        Method("adam", ADAM, (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)),
    )


WIDE = _sgd_methods(
    (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005), (5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
)
ADAM_TAUS = (3e-2, 1e-2, 3e-3, 1e-3)
DEEP_TAUS = (1.0, 0.3, 0.1, 0.03)
_PLAIN = (
    Problem("digits-mlp", "digits-mlp", (), WIDE, 3, 5),
    Problem("usps-mlp", "usps-mlp", ("epochs=10",), WIDE, 3, 5),
    Problem(
        "cifar-mlp",
        "cifar-mlp",
        ("epochs=6", "data.train_samples=5000"),
        (
            Method("backprop", NESTEROV, (0.1, 0.05, 0.02, 0.008)),
            Method("exact", ("method.name=exact",), (5.0, 1.0, 0.2, 0.05)),
            Method("cg3", ("method.name=cg3",), (5.0, 1.0, 0.2, 0.05)),
            Method("adam", ADAM, (1e-3, 3e-4, 1e-4, 3e-5)),
        ),
        1,
        3,
    ),
    Problem(
        "cifar-convnet",
        "cifar-convnet",
        ("epochs=10", "batch_size=100", "data.train_samples=5000"),
        (
            Method("backprop adam", ("method.name=backprop",), ADAM_TAUS),
            Method("exact adam", ("method.name=exact",), ADAM_TAUS),
            Method("cg3 adam", ("method.name=cg3",), ADAM_TAUS),
            Method("backprop nesterov", NESTEROV, (0.05, 0.02, 0.01, 0.003)),
        ),
        1,
        3,
    ),
)
_DEEP = Problem(
    "cifar-resnet-small",
    "cifar-resnet-small",
    ("epochs=6", "batch_size=50", "data.train_samples=1000", "data.validation=250"),
    (
        Method("backprop", ("method.name=backprop",), (0.3, 0.1, 0.03, 0.01)),
        Method("exact", ("method.name=exact",), DEEP_TAUS),
        Method("cg3", ("method.name=cg3",), DEEP_TAUS),
        Method("adam", ADAM, (1e-2, 3e-3, 1e-3, 3e-4)),
    ),
    1,
    3,
)
"""With batch normalisation already."""
PROBLEMS = {problem.label: problem for problem in (*_PLAIN, _DEEP)}
PROBLEMS |= {f"{problem.label}-bn": problem.normalised() for problem in _PLAIN}


def proxprop(*arguments: str) -> dict[str, Any]:
    """Run a command of the program; gives its JSON document."""
    command = [sys.executable, "-m", "proxprop_cli", *arguments, "--json"]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def best_step_size(method: Method, problem: Problem, common: list[str]) -> tuple[float, bool]:
    """The best step size, and whether it is still the first or the last of those tried, after the
    grid was made wider there."""
    taus = sorted(method.taus)
    for _ in range(WIDER + 1):
        worst = worst_losses(method, taus, problem, common)
        best = min(taus, key=lambda tau: worst[tau])
        if best not in (taus[0], taus[-1]):
            return best, False
        inner = taus[1] if best == taus[0] else taus[-2]
        taus = sorted([*taus, float(f"{best * best / inner:.1g}")])
    return best, True


def worst_losses(
    method: Method, taus: list[float], problem: Problem, common: list[str]
) -> dict[float, float]:
    """The final training loss of the worst seed at each step size; infinite where one diverged."""
    settings = [argument for text in method.settings for argument in ("--set", text)]
    name = dict(text.split("=", 1) for text in method.settings)["method.name"]
    grid = ",".join(f"{tau:g}" for tau in taus)
    arguments = ["--methods", name, "--tau", grid]
    arguments += ["--seeds", str(problem.tuning_seeds), "--seed", str(TUNING_SEED)]
    worst = dict.fromkeys(taus, 0.0)
    for cell in proxprop("sweep-tau", *common, *settings, *arguments)["cells"]:
        loss = math.inf if cell["diverged"] else cell["train_loss"]
        worst[cell["tau"]] = max(worst[cell["tau"]], loss)
    return worst


def rows(name: str, extra: list[str], jobs: int) -> Iterator[str]:
    """The rows of one problem, as Markdown."""
    problem = PROBLEMS[name]
    common = ["--preset", problem.preset, "--jobs", str(jobs)]
    for text in (*problem.settings, *extra):
        common += ["--set", text]
    variants = []
    edges = set()
    for method in problem.methods:
        tau, at_edge = best_step_size(method, problem, common)
        if at_edge:
            edges.add(method.label)
        settings = " ".join(text.replace("method.name", "method") for text in method.settings)
        variants += ["--variant", f"{method.label}: {settings} tau={tau:g}"]
    found = proxprop("compare", *common, "--methods", "", *variants, "--seeds", str(problem.seeds))
    loss = found["common_train_loss"]
    for row in found["methods"]:
        cells = [
            problem.label,
            row["method"],
            f"{row['tau']:g}" + (" (edge)" if row["method"] in edges else ""),
            _figure(row["train_loss"]),
            "-" if loss is None else f"{loss:.2g}",
            _figure(row["epochs_at_loss"]),
            _figure(row["seconds_at_loss"]),
            _figure(row["val_accuracy_at_loss"], 100),
            _figure(row["test_accuracy_at_loss"], 100),
        ]
        yield "| " + " | ".join(cells) + " |"


def _figure(value: dict[str, float] | None, scale: float = 1) -> str:
    if value is None:
        return "-"
    mean, half = scale * value["mean"], scale * value["ci95"]
    if scale == 100:
        return f"{mean:.1f} ± {half:.1f}"
    return f"{mean:.3g} ± {half:.2g}"


def main() -> None:
    """Write the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", choices=[[], *PROBLEMS], metavar="PROBLEM")
    parser.add_argument("--set", action="append", default=[], help="as in proxprop")
    parser.add_argument("--jobs", type=int, default=1, help="as in proxprop")
    chosen = parser.parse_args()
    sys.stdout.write(HEAD)
    for name in chosen.problems or PROBLEMS:
        for row in rows(name, chosen.set, chosen.jobs):
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
