"""How well changed pixels are found: counts of pixels that add, and the numbers that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from regraft.errors import DataError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 256  # of the probability of change, equally wide; a power of two, so that each edge is an exact float
IGNORED = 255  # the label of pixels that count for nothing
CHANGE = ("precision", "recall", "f1", "iou")  # of the change class
SCORES = (*CHANGE, "accuracy", "mean_f1", "mean_iou", "kappa", "average_precision", "loss")
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Sums over labelled pixels, of one tile or of many: they add.

    Attributes:
        confusion: (K, K) pixels, rows truth, columns the most probable class.
        histogram: (2, BINS) pixels by whether they truly changed (row 1) and P(changed) = 1 - P(class 0), in bins
            of equal width; the last one holds 1 too.
        loss: sum of the cross-entropy, nats.
    """

    confusion: NDArray[np.int64]
    histogram: NDArray[np.int64]
    loss: float

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(self.confusion + other.confusion, self.histogram + other.histogram, self.loss + other.loss)

    @property
    def pixels(self) -> int:
        """How many pixels were counted."""
        return int(self.histogram.sum())

    @property
    def changed(self) -> int:
        """How many of them truly changed."""
        return int(self.histogram[1].sum())

    @classmethod
    def empty(cls, classes: int) -> PixelCounts:
        """No pixel of K classes, to begin a sum with."""
        return cls(np.zeros((classes, classes), np.int64), np.zeros((2, BINS), np.int64), 0.0)


class Threshold(NamedTuple):
    """From which P(changed) on a pixel is called changed, and the F1 that this gave where it was chosen."""

    value: float
    f1: float


@dataclass(frozen=True, eq=False)
class Curve:
    """What each threshold gives; NaN where a number is not defined.

    Attributes:
        thresholds: (BINS,) rising lower edges of the bins, from 0.
        precision: (BINS,) share of the pixels called changed that did.
        recall: (BINS,) share of the changed pixels that are called so.
        f1: (BINS,) their harmonic mean.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats
    f1: Floats


def count(probabilities: NDArray[np.floating[Any]], label: NDArray[np.integer[Any]]) -> PixelCounts:
    """Count the pixels of one tile.

    The bin of a pixel is floor(P(changed) * BINS), computed in the precision of `probabilities` (at least single), as
    a threshold on the same numbers would decide. A cross-entropy is at most 36.04 nats, so that one certain mistake
    cannot make the sum infinite.

    Args:
        probabilities: (K, H, W), sums of 1 over K.
        label: (H, W) classes below K, 255 where a pixel counts for nothing.

    Raises:
        DataError: shapes that do not belong together, a label that is no class, a probability that is not finite.
    """
    classes = len(probabilities)
    if probabilities.ndim != label.ndim + 1 or probabilities.shape[1:] != label.shape:
        raise DataError(
            f"Probabilities of shape {probabilities.shape} and a label of shape {label.shape} do not belong together: "
            "expected (K, H, W) and (H, W)."
        )
    known = label != IGNORED
    truth, told = label[known].astype(np.int64), probabilities[:, known]
    if truth.size and not 0 <= truth.min() <= truth.max() < classes:
        raise DataError(
            f"A label has the values {np.unique(truth).tolist()}, but there are {classes} classes: expected 0 to "
            f"{classes - 1}, or {IGNORED} for pixels to ignore."
        )
    if not np.isfinite(told).all():
        raise DataError("A probability of change is not a finite number: the network is broken, train it again.")
    told = told.astype(np.float32) if told.dtype == np.float16 else told
    bins = np.clip(np.floor((1 - told[0]) * BINS), 0, BINS - 1).astype(np.int64)
    cells = np.bincount(truth * classes + told.argmax(axis=0), minlength=classes * classes)
    right = told[truth, np.arange(len(truth))].astype(np.float64)
    return PixelCounts(
        cells.reshape(classes, classes),
        np.bincount((truth > 0) * BINS + bins, minlength=2 * BINS).reshape(2, BINS),
        float(-np.log(np.maximum(right, _LEAST_PROBABILITY)).sum()),
    )


def total(counts: Iterable[PixelCounts]) -> PixelCounts:
    """The sum of one or more counts."""
    first, *others = counts
    for other in others:
        first += other
    return first


def bin_edge(threshold: float) -> float:
    """The edge of a bin that is nearest to a threshold: counted pixels can be told apart at edges alone.

    Raises:
        OptionError: it does not lie in 0..1.
    """
    if not 0 <= threshold <= 1:  # not a number fails too
        raise OptionError(f"The threshold is {threshold}, but a probability lies in 0 to 1. Give one such as 0.5.")
    return min(round(threshold * BINS), BINS - 1) / BINS


def decided(histogram: NDArray[Any], threshold: float) -> NDArray[Any]:
    """Pixels by truth (rows) and what is said (columns), unchanged and changed, where P >= threshold is changed.

    Args:
        histogram: (..., 2, BINS).
        threshold: rounded to the nearest edge of a bin.

    Returns:
        Array of shape (..., 2, 2).
    """
    edge = round(bin_edge(threshold) * BINS)
    return np.stack([histogram[..., :edge].sum(axis=-1), histogram[..., edge:].sum(axis=-1)], axis=-1)


def precision_recall(histogram: NDArray[Any]) -> Curve:
    """Precision, recall and F1 at the lower edge of each bin.

    Args:
        histogram: (2, BINS) as in `PixelCounts`.
    """
    false, found = np.cumsum(histogram[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    changed = found[0]
    f1 = _ratio(2 * found, found + false + changed)
    return Curve(
        np.arange(BINS) / BINS,
        _ratio(found, found + false),
        _ratio(found, np.full(BINS, changed)),
        f1 if changed else np.full(BINS, np.nan),
    )


def best_threshold(histogram: NDArray[Any]) -> Threshold:
    """The threshold of best F1 among the inner edges of bins; of equals, the one nearest to a half.

    Choose it on other pixels than those whose numbers are told. Where nothing truly changed there is nothing to choose
    by: a half, with an F1 of NaN.

    Args:
        histogram: (2, BINS) as in `PixelCounts`.
    """
    curve = precision_recall(histogram)
    thresholds, f1 = curve.thresholds[1:], curve.f1[1:]  # a threshold of 0 would call everything changed
    if np.isnan(f1).all():
        return Threshold(0.5, math.nan)
    best = np.flatnonzero(f1 == f1.max())
    nearest = best[np.argmin(np.abs(thresholds[best] - 0.5))]
    return Threshold(float(thresholds[nearest]), float(f1[nearest]))


def average_precision(histogram: NDArray[Any]) -> Floats:
    """Mean precision over the changed pixels, as in scikit-learn, where P(changed) is known by its bin.

    Args:
        histogram: (..., 2, BINS).

    Returns:
        Array of shape (...); NaN where nothing truly changed.
    """
    falling = np.flip(np.asarray(histogram, np.float64), axis=-1)
    hits = falling[..., 1, :]
    precision = _ratio(np.cumsum(hits, axis=-1), np.cumsum(falling.sum(axis=-2), axis=-1))
    return _ratio((hits * np.nan_to_num(precision)).sum(axis=-1), hits.sum(axis=-1))


def class_numbers(table: NDArray[Any]) -> dict[str, Floats]:
    """Precision, recall, F1 and IoU of each class.

    Args:
        table: (..., K, K) pixels, rows truth, columns what is said.

    Returns:
        By name, arrays (..., K). NaN where a number is not defined: all but the precision for a class that no pixel
        truly has, the precision where the class is never said.
    """
    right = np.diagonal(table, axis1=-2, axis2=-1).astype(np.float64)
    has, said = table.sum(axis=-1), table.sum(axis=-2)
    found = {
        "precision": _ratio(right, said),
        "recall": _ratio(right, has),
        "f1": _ratio(2 * right, has + said),
        "iou": _ratio(right, has + said - right),
    }
    return {
        name: values if name == "precision" else np.where(has > 0, values, np.nan) for name, values in found.items()
    }


def measure(
    confusion: NDArray[Any], histogram: NDArray[Any], loss: NDArray[Any], threshold: float = 0.5
) -> dict[str, Floats]:
    """The numbers of many sums at once; `numbers` says what they are.

    Args:
        confusion: (..., K, K).
        histogram: (..., 2, BINS).
        loss: (...).
        threshold: from which P(changed) on a pixel is called changed.

    Returns:
        Arrays (...), in the order of `SCORES`.
    """
    binary = decided(histogram, threshold).astype(np.float64)
    table = binary if confusion.shape[-1] == 2 else confusion.astype(np.float64)  # noqa: PLR2004
    of_change = class_numbers(binary)
    of_classes = of_change if table is binary else class_numbers(table)
    pixels = table.sum(axis=(-2, -1))
    agreed = _ratio(np.trace(table, axis1=-2, axis2=-1), pixels)
    by_chance = _ratio((table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1), pixels**2)
    return {
        **{name: of_change[name][..., 1] for name in CHANGE},
        "accuracy": agreed,
        "mean_f1": _mean_known(of_classes["f1"]),
        "mean_iou": _mean_known(of_classes["iou"]),
        "kappa": _ratio(agreed - by_chance, 1 - by_chance),
        "average_precision": average_precision(histogram),
        "loss": _ratio(np.asarray(loss), pixels),
    }


def numbers(counts: PixelCounts, threshold: float = 0.5) -> dict[str, float]:
    """What the counts say; NaN where a number is not defined.

    Precision, recall, f1, iou and average_precision are those of the change class: any class but 0, at the threshold.
    accuracy, mean_f1, mean_iou (means over the classes that some pixel truly has) and kappa (Cohen, 1960) are over
    all classes: of two classes at the threshold, of more by the most probable class. loss is the mean cross-entropy
    of a pixel, nats.

    Args:
        counts: of one tile or many.
        threshold: from which P(changed) on a pixel is called changed; rounded to the nearest edge of a bin.
    """
    found = measure(counts.confusion, counts.histogram, np.asarray(counts.loss), threshold)
    return {name: float(value) for name, value in found.items()}


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Quotients; NaN where the whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole == 0, np.nan, np.divide(part, whole))


def _mean_known(values: Floats) -> Floats:
    """Means over the last axis of what is not NaN."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))
