"""What a training of change detection is: the objective on masks, and what is kept of the answers to judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from regraft.evaluation.change import BINS, PixelCounts, numbers
from regraft.losses.ignored import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from regraft.losses.pixels import PixelLoss
    from regraft.training.batches import Batch
    from regraft.training.objectives import Objective
    from regraft.training.plan import Digest


def change(loss: PixelLoss, weights: Tensor | None = None) -> Objective:
    """Learn masks: the loss of logits (B, K, H, W) and of the batch's targets (B, H, W).

    Args:
        loss: from `losses.pixels.parse_loss`.
        weights: (K,) of the classes, or None.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own = None if weights is None else weights.to(batch.inputs.device)
        return loss(model(batch.inputs), batch.targets.long(), own), {}

    return objective


def digest(classes: int) -> Digest:
    """What of the answers is kept: for each example its `PixelCounts` as one row of float64.

    Args:
        classes: K.
    """

    def counted(logits: Tensor, batch: Batch) -> Tensor:
        logits = logits.float()
        targets = batch.targets.to(logits.device).long()
        labelled = targets != IGNORED
        known = torch.where(labelled, targets, 0)
        losses = (functional.cross_entropy(logits, known, reduction="none") * labelled).double().sum((1, 2))
        changed = 1 - logits.softmax(1)[:, 0]
        bins = (changed * BINS).long().clamp(0, BINS - 1)
        pairs = _counts(known * classes + logits.argmax(1), labelled, classes * classes)
        curve = _counts((known > 0).long() * BINS + bins, labelled, 2 * BINS)
        return torch.cat([losses[:, None], pairs, curve], 1)

    return counted


def _counts(values: Tensor, counted: Tensor, width: int) -> Tensor:
    """How often each value from 0 to width - 1 stands at the counted pixels of each example: (B, width) float64."""
    examples = torch.arange(len(values), device=values.device)[:, None, None]
    found = torch.bincount((values + width * examples)[counted], minlength=width * len(values))
    return found.view(len(values), width).double()


def undigest(row: NDArray[np.float64], classes: int) -> PixelCounts:
    """The counts in a row of `digest`, or in the sum of several."""
    whole = np.rint(row[1:]).astype(np.int64)
    square = classes * classes
    return PixelCounts(whole[:square].reshape(classes, classes), whole[square:].reshape(2, BINS), float(row[0]))


def judge(classes: int) -> Callable[[NDArray[np.float32], NDArray[np.int64]], dict[str, float]]:
    """Rows of `digest` -> the numbers over all pixels at a threshold of 0.5."""

    def judged(rows: NDArray[np.float32], _targets: NDArray[np.int64]) -> dict[str, float]:
        return numbers(undigest(rows.astype(np.float64).sum(0), classes))

    return judged
