"""Told numbers against true ones, as a drawing, and the images where they differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.evaluation.report.axes import Axis
from regraft.evaluation.report.confidence import HEIGHT, PLACES, WIDTH
from regraft.evaluation.report.text import file_name, value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.data.manifest import Item

__all__ = ["HEIGHT", "PLACES", "WIDTH", "Scatter", "describe"]
_ERRORS_SHOWN = 4
_MOST_POINTS = 1500


@dataclass(frozen=True, slots=True)
class Error:
    """An image whose number was told badly; numbers as text."""

    path: str
    file: str
    true: str
    said: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """The drawing: true numbers across, told numbers up.

    Attributes:
        points: x and y of each image.
        diagonal: ends of the line where both are equal: x, y, x, y.
        across: place and text of each mark below.
        ticks: likewise, of each line across.
        left_out: how many images are not drawn, as there are too many.
        errors: the images of largest error.
        told: the drawing in words.
    """

    points: tuple[tuple[float, float], ...]
    diagonal: tuple[float, float, float, float]
    across: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    left_out: int
    errors: tuple[Error, ...]
    told: str


def describe(items: Sequence[Item], truth: NDArray[np.float64], told: NDArray[np.float64]) -> Scatter:
    """Lay out the numbers (N,) of N images, of which at least one true one is known (NaN where not)."""
    rows = np.flatnonzero(np.isfinite(truth))
    left, right, top, bottom = PLACES
    drawn = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_POINTS)).astype(int)]
    spanned = [*truth[drawn].tolist(), *told[drawn].tolist()]
    up = Axis.over(spanned, bottom=bottom, top=top)
    over = Axis.over(spanned, bottom=left, top=right)  # the same values: the diagonal is where both are equal
    points = tuple((over.place(x), up.place(y)) for x, y in zip(truth[drawn], told[drawn], strict=True))
    order = rows[np.argsort(-np.abs(told[rows] - truth[rows]), kind="stable")][:_ERRORS_SHOWN]
    errors = tuple(
        Error(items[row].path, file_name(items[row].path), value_text(float(truth[row])), value_text(float(told[row])))
        for row in order
    )
    ends = (over.place(over.low), up.place(up.low), over.place(over.high), up.place(up.high))
    words = f"Told against true numbers of {len(drawn):,} images; on the dotted line they are equal."
    return Scatter(points, ends, over.ticks, up.ticks, len(rows) - len(drawn), errors, words)
