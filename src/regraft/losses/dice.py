"""Soft dice loss: one less the overlap of what is told and what is true, which does not mind how rare a class is.

Sudre et al. 2017, arXiv 1707.03237, after Milletari et al. 2016, arXiv 1606.04797, who square the terms of the
denominator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from regraft.losses.ignored import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def dice(
    logits: Tensor, targets: Tensor, *, classes: Literal["changed", "all"] = "changed", smooth: float = 1.0
) -> Tensor:
    """Mean over classes of 1 - (2 sum p t + smooth) / (sum p + sum t + smooth), in float32.

    The sums go over all labelled pixels of the batch: p is the probability of the class, t is 1 where it is true. A
    class that is nowhere true adds to the loss as far as it is told. Without a labelled pixel the loss is 0.

    Args:
        logits: (B, K, H, W).
        targets: (B, H, W) int64, 255 where a pixel does not count.
        classes: "changed" takes the classes from 1 on, "all" class 0 too.
        smooth: above 0, in pixels.
    """
    labelled = (targets != IGNORED).unsqueeze(1)
    first = 1 if classes == "changed" else 0
    told = logits.float().softmax(1)[:, first:] * labelled
    numbers = torch.arange(first, logits.shape[1], device=logits.device)
    true = (targets.unsqueeze(1) == numbers[:, None, None]) & labelled
    overlap = (told * true).sum((0, 2, 3))
    both = told.sum((0, 2, 3)) + true.sum((0, 2, 3))
    return (1 - (2 * overlap + smooth) / (both + smooth)).mean()
