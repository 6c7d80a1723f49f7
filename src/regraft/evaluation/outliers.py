"""Images that are far from every other image of their class, by their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regraft.data.neighbours import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEIGHBOURS = 5
_FEWEST = 10  # images of a class from which "usual" means something
_LIMIT = 3.5  # robust standard deviations: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993
_PER_SIGMA = 1.4826  # of a normal distribution's median absolute deviation
_NARROWEST = 0.05  # of the logarithm: differences of 5 % are none


def outliers(
    features: NDArray[np.float32], targets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Images whose mean cosine distance to the 5 nearest others of their class is unusual for the class.

    The logarithms of the distances are compared with their median, in robust standard deviations (median absolute
    deviation times 1.4826); above 3.5 is unusual. Classes of fewer than 10 images are not looked at. The scale of the
    features does not matter.

    Args:
        features: (N, D).
        targets: (N,) class indices; -1 for none, and these are one class.

    Returns:
        (M,) positions, the most unusual first, and how unusual each is.
    """
    scores = np.zeros(len(targets))
    for label in np.unique(targets):
        rows = np.flatnonzero(targets == label)
        if len(rows) < _FEWEST:
            continue
        _, similar = nearest(features[rows], _NEIGHBOURS)
        far = np.log(np.maximum(1.0 - similar.mean(axis=1, dtype=np.float64), 1e-6))
        usual = np.median(far)
        spread = max(_PER_SIGMA * float(np.median(np.abs(far - usual))), _NARROWEST)
        scores[rows] = (far - usual) / spread
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > _LIMIT]
    return order, scores[order]
