"""What each threshold on the probability of change gives, as two drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.change import average_precision, best_threshold, precision_recall
from regraft.evaluation.report.axes import Axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 36
PLACES = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)  # left, right, top and bottom of what is drawn


@dataclass(frozen=True, slots=True)
class Drawing:
    """One curve, in units of the drawing.

    Attributes:
        name: what is up.
        x_name: what is across.
        line: as an SVG polyline.
        mark: where the threshold is, or None where the curve has no such point.
        dotted: height of a level to compare with.
        dotted_is: what that level is.
        across: place and text of each mark below.
        ticks: likewise, of each line across.
        told: the drawing in words.
    """

    name: str
    x_name: str
    line: str
    mark: tuple[float, float] | None
    dotted: float
    dotted_is: str
    across: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    told: str


def describe(histogram: NDArray[Any], threshold: float) -> tuple[Drawing, ...]:
    """Precision against recall, and F1 against the threshold; nothing where nothing truly changed.

    Args:
        histogram: (2, BINS) as in `change.PixelCounts`.
        threshold: the edge of a bin that is marked.
    """
    changed, pixels = int(histogram[1].sum()), int(histogram.sum())
    if not changed:
        return ()
    curve = precision_recall(histogram)
    at = int(np.searchsorted(curve.thresholds, threshold))
    share, best = changed / pixels, best_threshold(histogram)
    precision, recall, f1 = (float(values[at]) for values in (curve.precision, curve.recall, curve.f1))
    found = float(average_precision(histogram))
    told = f"Average precision {found:.3f}; at the threshold, precision {_told(precision)} and recall {_told(recall)}."
    level = f"calling everything changed: precision {share:.3f}"
    first = _drawing("precision", "recall", curve.recall, curve.precision, at, share, level, told)
    constant = 2 * share / (1 + share)
    told = f"F1 {f1:.3f} at the threshold {threshold:.3g}; the best here would be {best.f1:.3f} at {best.value:.3g}."
    level = f"calling everything changed: F1 {constant:.3f}"
    return first, _drawing("F1", "threshold", curve.thresholds, curve.f1, at, constant, level, told)


def _drawing(
    name: str,
    x_name: str,
    across: NDArray[np.float64],
    up: NDArray[np.float64],
    at: int,
    level: float,
    level_is: str,
    told: str,
) -> Drawing:
    rising = Axis.over([0.0, 1.0], bottom=HEIGHT - BOTTOM, top=TOP, share=True)
    right = Axis.over([0.0, 1.0], bottom=LEFT, top=WIDTH - RIGHT, share=True)
    points = [
        (right.place(x), rising.place(y)) if np.isfinite(y) else None
        for x, y in zip(across.tolist(), up.tolist(), strict=True)
    ]
    drawn = dict.fromkeys(point for point in points if point is not None)  # many bins share a place
    line = " ".join(f"{x},{y}" for x, y in drawn)
    return Drawing(name, x_name, line, points[at], rising.place(level), level_is, right.ticks, rising.ticks, told)


def _told(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "not defined"
