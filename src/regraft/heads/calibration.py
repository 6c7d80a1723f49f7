"""One temperature makes logits say how sure the head may be (Guo et al., ICML 2017, arXiv:1706.04599)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 100
_CLOSE = 1e-12
_SHARPEST = 1e8
_FLATTEST = 1e-3  # in units of the logits: probabilities that differ by a part in a thousand are equal


def temperature(logits: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    """The temperature T > 0 for which softmax(logits / T) has the least mean log loss.

    One imaginary image, spread evenly over the classes, joins the N real ones: where every held-out image
    was classified rightly, the data alone would ask for T = 0 and boundless confidence. Dividing by T
    never changes which class is first. Where no T is large enough, as the logits are worse than none, T is a
    thousand times their mean distance from the largest: all classes are equally probable then.

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
    low, high, sharpness = _FLATTEST, _SHARPEST, 1.0
    for _ in range(_STEPS):
        slope, curve = _slope_and_curve(exact, sharpness)
        slope -= wanted
        low, high = (sharpness, high) if slope < 0 else (low, sharpness)
        newton = sharpness - slope / max(curve, np.finfo(np.float64).tiny * abs(slope))
        # Where Newton's step leaves the bracket, halve the bracket instead.
        step = newton if low < newton < high else float(np.sqrt(low * high))
        if abs(step - sharpness) <= _CLOSE * sharpness:
            break
        sharpness = step
    return float(unit / sharpness)


def _slope_and_curve(exact: NDArray[np.float64], sharpness: float) -> tuple[float, float]:
    """First (but for a constant) and second derivative of the log loss, times N + 1, by the sharpness 1 / T."""
    probability = exact * sharpness  # at most 0: no overflow
    np.exp(probability, out=probability)
    probability /= probability.sum(axis=1, keepdims=True)
    probability *= exact
    expected = probability.sum(axis=1)
    slope = expected.sum() + expected.mean()
    spread = np.einsum("nk,nk->n", probability, exact) - np.square(expected)
    return float(slope), float(spread.sum() + spread.mean())
