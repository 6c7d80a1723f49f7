"""Focal loss: cross-entropy in which pixels that are told surely and rightly count little.

Lin et al. 2017, arXiv 1708.02002, equation 4, in the form for K classes with softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from regraft.losses.ignored import IGNORED, labelled_mean

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 1e-12  # for gamma below 1 the power's gradient at 0 would be infinite


def focal(logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Mean of (1 - p)^gamma * -log p, p being the probability of the true class; in nats, computed in float32.

    With weights it is the weighted mean, so that gamma 0 is cross-entropy. Without a labelled pixel it is 0.

    Args:
        logits: (B, K, H, W).
        targets: (B, H, W) int64, 255 where a pixel does not count.
        weights: (K,) of the classes, or None.
        gamma: 0 or more; the larger, the less sure pixels count.
    """
    surprise = functional.cross_entropy(logits.float(), targets, reduction="none", ignore_index=IGNORED)
    doubt = (-torch.expm1(-surprise)).clamp(min=_LEAST)
    return labelled_mean(doubt.pow(gamma) * surprise, targets, weights)
