"""Pixels that nobody has labelled: they take no part in a loss or its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = 255
"""The target of pixels that do not count."""


def labelled_mean(losses: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of losses over labelled pixels, each times its class's weight, over the sum of the weights.

    0 where no pixel is labelled, or those that are have classes of weight 0.

    Args:
        losses: (B, H, W), 0 at ignored pixels.
        targets: (B, H, W) int64, `IGNORED` or a class.
        weights: (K,) of the classes, or None for 1 each.
    """
    labelled = targets != IGNORED
    if weights is None:
        total = labelled.sum().to(losses)
    else:
        own = weights.to(losses)[torch.where(labelled, targets, 0)] * labelled
        losses, total = losses * own, own.sum()
    return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))
