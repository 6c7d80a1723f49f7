"""LogME: the evidence that labels lend to a linear model on features.

Source: K. You et al., "LogME: practical assessment of pre-trained models for transfer learning", ICML 2021,
arXiv:2102.11005. For one class, y in {0, 1}^N is modelled as F w + noise, with w ~ N(0, I / alpha) and noise
~ N(0, I / beta); the score is the greatest value of log p(y | F, alpha, beta) over alpha and beta, divided by N, and
averaged over classes.

How it is found here: with weights integrated out, y ~ N(0, (I + F F' / t) / beta), t = alpha / beta. Let s_i be
the squared singular values of F, z the coordinates of y along its left singular vectors, and

    q(t) = |y|^2 - sum z_i^2 + sum z_i^2 t / (t + s_i).

Then the best beta is N / q(t), and what is left is a curve in t alone, the same for any N and D:

    log p = -N / 2 (log(2 pi q(t) / N) + 1) - 1 / 2 sum log(1 + s_i / t).

Axes that F does not have add log(1 + 0) = 0. That is where the fixed point of the authors' code goes wrong for fewer
images than features: its prior counts all D axes, its determinant only the N that there are, so (D - N) / 2 log(alpha)
stays over. A search along one curve also cannot stop early, as a fixed point with at most 11 rounds does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.transfer.spectrum import SMALLEST, along_axes, one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTS, _ZOOMS = 49, 6
_LARGEST = 1e6  # times the sum of squares: there the features explain nothing


def logme(features: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    """LogME, nats an image: higher is better. Unchanged by rotation and by scale of the features.

    Args:
        features: (N, D), as they are: there is no intercept, as in the paper.
        targets: (N,) class indices.
    """
    wanted = one_hot(targets)
    squares, components = along_axes(features, wanted)
    if not len(squares):  # features that are all zero explain nothing
        squares, components = np.ones(1), np.zeros((1, wanted.shape[1]))
    along = np.square(components)
    evidence = [_evidence(squares, z, float(y.sum()), len(targets)) for z, y in zip(along.T, wanted.T, strict=True)]
    return float(np.mean(evidence)) / len(targets)


def _evidence(squares: NDArray[np.float64], along: NDArray[np.float64], length: float, total: int) -> float:
    """Greatest log p(y): a grid over log t, then ever finer ones about its best point."""
    # With as many axes as images nothing lies outside them, and a difference would be rounding alone.
    outside = max(length - float(along.sum()), 0.0) if len(squares) < total else 0.0
    least = length * SMALLEST  # labels that features explain without rest would be infinitely likely

    def curve(log_t: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = squares * np.exp(-log_t)[:, None]
        rest = np.maximum(outside + (along / (1 + ratio)).sum(axis=1), least)
        likely = -0.5 * total * (np.log(2 * np.pi * rest / total) + 1)
        result: NDArray[np.float64] = likely - 0.5 * np.log1p(ratio).sum(axis=1)
        return result

    low, high = np.log(squares.max() * SMALLEST), np.log(squares.sum() * _LARGEST)
    best = -np.inf
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _POINTS)
        values = curve(grid)
        peak = int(values.argmax())
        best = max(best, float(values[peak]))
        low, high = grid[max(peak - 1, 0)], grid[min(peak + 1, _POINTS - 1)]
    return best
