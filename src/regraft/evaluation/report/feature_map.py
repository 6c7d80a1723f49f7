"""The features as a map: their two directions of largest variance, as points of a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.evaluation.report.text import file_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.evaluation.predictions import Predictions

MOST_POINTS = 1500
WIDTH, HEIGHT = 720, 480
_MARGIN = 14
_OVERSAMPLING, _ROUNDS = 8, 10
COLOURS, SHAPES = 8, 6  # 48 classes can be told apart; further ones share


@dataclass(frozen=True, slots=True)
class Point:
    """One image on the map.

    Attributes:
        x: from the left, in units of the drawing.
        y: from the top.
        target: true class index.
        title: what a pointing hand reads.
        mistake: whether the prediction is wrong.
    """

    x: float
    y: float
    target: int
    title: str
    mistake: bool


@dataclass(frozen=True)
class FeatureMap:
    """Points and what the map shows of the whole.

    Attributes:
        points: right ones first, so that mistakes lie on top.
        shares: share of the total variance along the two axes.
        images: how many images the points were drawn from.
    """

    points: tuple[Point, ...]
    shares: tuple[float, float]
    images: int


def marker(index: int, classes: int) -> tuple[int, int]:
    """Colour and shape of a class; shapes differ even where colours would do, for eyes that mix up hues."""
    return index % COLOURS, (index if classes <= COLOURS else index // COLOURS) % SHAPES


def principal_components(
    features: NDArray[np.floating], count: int = 2, *, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project rows on their directions of largest variance.

    The leading eigenvectors of the rows' inner products, by subspace iteration from a random start: many
    times faster than a full decomposition of wide features. Source: N. Halko, P.-G. Martinsson, J. Tropp,
    "Finding structure with randomness", SIAM Review 53 (2011), algorithm 4.4. The sign of each axis is
    chosen so that its largest coordinate is positive.

    Args:
        features: (N, D).
        count: number of axes, M, at most N.
        seed: of the starting subspace.

    Returns:
        Coordinates (N, M), zero along directions in which nothing varies; share of the total variance
        along each axis (M,).
    """
    centred = (features - features.mean(axis=0, dtype=np.float64)).astype(np.float32)
    products = (centred @ centred.T).astype(np.float64)
    basis = np.random.default_rng(seed).normal(size=(len(products), min(count + _OVERSAMPLING, len(products))))
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(products @ basis)[0]
    values, vectors = np.linalg.eigh(basis.T @ products @ basis)
    variances = values[::-1][:count].clip(0)
    coordinates = (basis @ vectors[:, ::-1])[:, :count] * np.sqrt(variances)
    largest = np.abs(coordinates).argmax(axis=0)
    coordinates *= np.where(coordinates[largest, np.arange(count)] < 0, -1.0, 1.0)
    total = float(np.trace(products))
    return coordinates, variances / total if total > 0 else np.zeros(count)


def _at_most_one(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Finite rows in units of their largest number, so that no square of theirs is beyond float32."""
    exact = features.astype(np.float64)
    largest = np.abs(exact).max()
    return exact / largest if largest > 0 else exact


def feature_map(features: NDArray[np.floating], predictions: Predictions) -> FeatureMap | None:
    """Draw the images of known class as points; at most 1,500 of them, drawn at random with a fixed seed.

    Args:
        features: (N, D), one row for each prediction. Rows that are not finite are left out.
        predictions: N of them.

    Returns:
        The map, or None where fewer than three images are left to show or the numbers allow no projection.
    """
    usable = np.flatnonzero((predictions.targets >= 0) & np.isfinite(features).all(axis=1))
    if len(usable) < 3 or not features.shape[1]:  # noqa: PLR2004 - two points are a line, not a map
        return None
    rows = usable
    if len(usable) > MOST_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(usable, MOST_POINTS, replace=False))
    try:
        with np.errstate(all="ignore"):
            coordinates, shares = principal_components(_at_most_one(features[rows]))
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(coordinates).all():
        return None
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    unit = (coordinates - low) / np.where(high > low, high - low, 1.0)
    x = _MARGIN + unit[:, 0] * (WIDTH - 2 * _MARGIN)
    y = HEIGHT - _MARGIN - unit[:, 1] * (HEIGHT - 2 * _MARGIN)
    said = predictions.predicted()[rows]
    points = []
    for i, row in enumerate(rows):
        target, wrong = int(predictions.targets[row]), bool(said[i] != predictions.targets[row])
        file = file_name(predictions.paths[row])
        title = f"{file}: {predictions.classes[target]}"
        title += f", taken for {predictions.classes[said[i]]}" if wrong else ""
        points.append(Point(round(float(x[i]), 1), round(float(y[i]), 1), target, title, wrong))
    points.sort(key=lambda point: point.mistake)
    return FeatureMap(tuple(points), (float(shares[0]), float(shares[1])), len(usable))
