"""Cross-entropy with what classification of images adds to it: class weights, smoothing, mixed pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.nn import functional

from regraft.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    other: Tensor | None = None,
    share: float = 1.0,
) -> Tensor:
    """Mean cross-entropy in nats, computed in float32 whatever the logits are.

    With weights it is torch's weighted mean: the sum of weighted losses over the sum of the targets' weights.

    Args:
        logits: (B, K).
        targets: (B,) int64.
        weights: (K,) of the classes, or None.
        smoothing: the share of the truth that is spread evenly over all K classes (Szegedy et al. 2016,
            arXiv 1512.00567).
        other: (B,) second targets of mixed images (Zhang et al. 2018, arXiv 1710.09412), or None.
        share: how much of each mixed image is of `targets`; the rest is of `other`.
    """
    exact = logits.float()
    own = None if weights is None else weights.to(exact)

    def loss(of: Tensor) -> Tensor:
        return functional.cross_entropy(exact, of, weight=own, label_smoothing=smoothing)

    if other is None or share == 1:
        return loss(targets)
    return share * loss(targets) + (1 - share) * loss(other)


def class_weights(counts: ArrayLike) -> NDArray[np.float64]:
    """Weights by which every class that has images counts the same.

    Args:
        counts: (K,) number of training images of each class.

    Returns:
        (K,) proportional to 1 / count, with mean 1 over the images; 0 for a class without images.

    Raises:
        DataError: no class has an image.
    """
    numbers: NDArray[Any] = np.asarray(counts, dtype=np.float64)
    present = numbers > 0
    if not present.any():
        raise DataError(f"none of {numbers.size} classes has a training image: class weights need at least one.")
    weights = np.zeros(numbers.shape)
    weights[present] = numbers.sum() / (present.sum() * numbers[present])
    return weights
