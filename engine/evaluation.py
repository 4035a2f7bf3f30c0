"""True means of loss and accuracy over a whole part of the data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.data.dataset import Dataset, Split
from engine.losses import LOSSES, correct, targets
from engine.parallel.team import ALONE, Team

_BATCH = 1000


class Evaluation(NamedTuple):
    """Means over all samples of a part.

    ``accuracy`` is the fraction of correct answers; None where the loss knows no classes.
    """

    loss: float
    accuracy: float | None


@torch.no_grad()
def evaluate(
    model: nn.Module, dataset: Dataset, split: Split, loss: str, team: Team = ALONE
) -> Evaluation:
    """Mean loss and accuracy over all samples of a split, in evaluation mode.

    :param loss: name of the loss.
    :param team: the processes that share the samples.
    :returns: NaN for an empty split.
    """
    count = len(split)
    has_classes = loss != "reconstruction"
    if count == 0:
        return Evaluation(float("nan"), float("nan") if has_classes else None)
    was_training = model.training
    model.eval()
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    own = team.part(torch.arange(count, device=split.labels.device))
    for indices in own.split(_BATCH):
        inputs, labels = dataset.batch(split, indices)
        outputs = model(inputs)
        losses.append(LOSSES[loss](outputs, targets(loss, inputs, labels)).sum())
        if has_classes:
            hits.append(correct(outputs, labels))
    model.train(was_training)
    # sums of batches on the host in float64: a mean over all samples, whatever their number
    total = torch.stack(losses).cpu().double().sum()
    right = torch.stack(hits).sum().cpu().double() if has_classes else torch.zeros_like(total)
    (sums,) = team.sum([torch.stack((total, right))])
    return Evaluation(float(sums[0]) / count, int(sums[1]) / count if has_classes else None)
