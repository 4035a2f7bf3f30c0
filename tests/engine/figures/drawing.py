"""Made-up curves, and what is read off a drawn figure."""

from __future__ import annotations

import numpy as np

from engine.figures.curves import draw_curves
from engine.figures.seeds import RunCurves
from engine.figures.style import artists, styled


def curves(y, x=(0.0, 1.0, 2.0), *, diverged=False, metric="train_loss", axis="epoch", run="r"):
    arrays = (np.array(x, float), np.array(y, float))
    return RunCurves(run, {(axis, metric): arrays}, diverged)


def draw(groups, **options):
    with styled():
        return draw_curves(groups, ["epoch"], ["train_loss"], **options)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def edges(axes, name="band"):
    """Lowest and highest y of a band at each x."""
    (collection,) = artists(axes, name)
    points = collection.get_paths()[0].vertices
    xs = sorted(set(points[:, 0]))
    return {x: (points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max()) for x in xs}
