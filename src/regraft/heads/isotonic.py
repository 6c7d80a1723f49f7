"""Isotonic calibration: for each class, the rising step curve that takes its probability to how often it is true.

Sources: R. E. Barlow et al., "Statistical inference under order restrictions" (1972), for the pooling of adjacent
violators; B. Zadrozny and C. Elkan, "Transforming classifier scores into accurate multiclass probability estimates",
KDD 2002, for one curve a class, normalised; J. Platt, "Probabilistic outputs for support vector machines" (1999), for
targets that are never quite 0 or 1, so that a class never seen at a probability is unlikely there and not impossible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OWN = 1e-6  # share of the uncalibrated probabilities: decides between classes that the steps make equal


@dataclass(frozen=True)
class Steps:
    """One rising curve a class, of straight lines between its corners, level beyond them.

    Attributes:
        x: (M,) float64, corners of all classes one after the other: the probability as the head gives it.
        y: (M,) float64, the share that is true there.
        ends: (K,) int64, where each class's corners end; a class without corners keeps its probability.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    ends: NDArray[np.int64]

    def __call__(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrate probabilities (N, K); rows sum to one."""
        raised = probabilities.copy()
        start = 0
        for position, end in enumerate(self.ends.tolist()):
            if end > start:
                raised[:, position] = np.interp(probabilities[:, position], self.x[start:end], self.y[start:end])
            start = end
        mixed: NDArray[np.float64] = (1 - _OWN) * raised / raised.sum(axis=1, keepdims=True) + _OWN * probabilities
        return mixed

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For safetensors, inside a head's arrays."""
        return {"steps_x": self.x, "steps_y": self.y, "steps_ends": self.ends}


def learn_steps(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> Steps:
    """Learn each class's curve against all others; a class without an image here gets none.

    Args:
        probabilities: (N, K) of images that the head had not learnt from.
        targets: (N,) true class indices.
    """
    xs, ys, ends = [np.zeros(0)], [np.zeros(0)], []
    for position in range(probabilities.shape[1]):
        hit = targets == position
        count = int(hit.sum())
        if count:
            smoothed = np.where(hit, (count + 1) / (count + 2), 1 / (len(hit) - count + 2))
            x, y = isotonic_curve(probabilities[:, position], smoothed)
            xs.append(x)
            ys.append(y)
        ends.append(sum(map(len, xs)))
    return Steps(np.concatenate(xs), np.concatenate(ys), np.array(ends, np.int64))


def isotonic_curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the rising curve nearest to points (x, y) in squared distance, by pooling adjacent violators.

    Args:
        x: (N,), at least one; equal ones count as one point at their mean y.
        y: (N,).

    Returns:
        Corners x and y, both rising; between them the curve is straight.
    """
    places, position, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(position, y) / counts
    level: list[float] = []  # of each block so far
    weight: list[int] = []
    first: list[int] = []  # its first place
    for i, (mean, count) in enumerate(zip(means.tolist(), counts.tolist(), strict=True)):
        level.append(mean)
        weight.append(count)
        first.append(i)
        while len(level) > 1 and level[-2] >= level[-1]:
            total = weight[-2] + weight[-1]
            level[-2:] = [(level[-2] * weight[-2] + level[-1] * weight[-1]) / total]
            weight[-2:] = [total]
            first.pop()
    last = [*(start - 1 for start in first[1:]), len(places) - 1]
    corners = sorted({*first, *last})
    heights = np.repeat(level, np.array(last) - np.array(first) + 1)
    return places[corners], heights[corners]
