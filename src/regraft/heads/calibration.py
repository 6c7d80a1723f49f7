"""One temperature makes logits say how sure the head may be (Guo et al., ICML 2017, arXiv:1706.04599)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.head import log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HALVINGS = 80
_RANGE = 1e8


def temperature(logits: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    """The temperature T > 0 for which softmax(logits / T) has the least mean log loss.

    One imaginary image, spread evenly over the classes, joins the N real ones: where every held-out image
    was classified rightly, the data alone would ask for T = 0 and boundless confidence. Dividing by T
    never changes which class is first.

    Args:
        logits: (N, K) of images that the head had not learnt from.
        targets: (N,) true class indices.
    """
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    unit = np.abs(exact).sum() / max(1, exact.size)
    if unit == 0:
        return 1.0
    exact /= unit
    wanted = exact[np.arange(len(exact)), targets].sum() + exact.mean()

    def slope(sharpness: float) -> float:
        """Derivative of the log loss, times N + 1, by the sharpness 1 / T."""
        expected = (np.exp(log_softmax(exact * sharpness)) * exact).sum(axis=1)
        return float(expected.sum() + expected.mean() - wanted)

    low, high = 1 / _RANGE, _RANGE
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(unit / np.sqrt(low * high))
