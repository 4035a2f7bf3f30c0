"""True means of loss and accuracy over a whole part of the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.data.dataset import Dataset, Split
from engine.losses import Loss, correct

_BATCH = 1000


@torch.no_grad()
def evaluate(model: nn.Module, dataset: Dataset, split: Split, loss: Loss) -> tuple[float, float]:
    """Mean loss and fraction of correct answers, over all samples of a split, in evaluation mode.

    :returns: loss and accuracy; NaN both for an empty split.
    """
    count = len(split)
    if count == 0:
        return float("nan"), float("nan")
    was_training = model.training
    model.eval()
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    for indices in torch.arange(count, device=split.labels.device).split(_BATCH):
        inputs, labels = dataset.batch(split, indices)
        outputs = model(inputs)
        losses.append(loss(outputs, labels).sum())
        hits.append(correct(outputs, labels))
    model.train(was_training)
    # sums of batches on the host in float64: a mean over all samples, whatever their number
    total = torch.stack(losses).cpu().double().sum().item()
    return total / count, int(torch.stack(hits).sum()) / count
