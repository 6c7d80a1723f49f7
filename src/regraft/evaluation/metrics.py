"""How good predictions are, each headline number with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.calibration import (
    calibration_error,
    calibration_interval,
    error_by_chance,
    gap_columns,
)
from regraft.evaluation.intervals import bootstrap, percentiles, wilson
from regraft.evaluation.scores import EVERYTHING, ClassScore, Evaluation, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.evaluation.predictions import Predictions

_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
_FEW = 20  # images below which resampling understates the uncertainty by more than a little
_NAMED = 5  # classes named in a note before "and N more"


def evaluate(predictions: Predictions, *, split: str, seed: int = 0, top_k: int = 5, seen: int = 0) -> Evaluation:
    """Measure predictions on the rows whose class is known.

    Accuracy and top-k accuracy have Wilson intervals; balanced accuracy, macro F1 and log loss have
    percentile bootstrap intervals over images (1,000 resamples); the calibration error has its own, see
    `calibration`. All take the images as independent: near-duplicates make them too narrow. Numbers and
    intervals do not depend on the order of the rows.

    Classes without an image in this part have no recall and no F1 and are left out of the means over
    classes; a note says so. The log loss of one image is at most 36.04 nats (probability 2.2e-16), so that
    one certain mistake cannot make it infinite.

    Args:
        predictions: logits beside true classes.
        split: which part of the data this is, in the manifest's words.
        seed: of the resampling.
        top_k: k of the top-k accuracy; K - 1 where there are not more classes than that, and no such
            number for two classes.
        seen: how many of these images the model was trained on; only the caller knows. More than there are
            with a known class count as all of these.

    Raises:
        DataError: no row has a known class, or a logit is not a finite number.
    """
    rows = _known_rows(predictions, split)
    confusion = np.zeros((rows.classes, rows.classes), np.int64)
    np.add.at(confusion, (rows.targets, rows.predicted), 1)
    support = confusion.sum(axis=1)
    notes = _notes(predictions, rows, support)
    measured = {**_proportions(rows, top_k), **_resampled(rows, support, notes, seed)}
    most_frequent = int(support.argmax())
    return Evaluation(
        split=split,
        n=len(rows.targets),
        classes=predictions.classes,
        scores={name: value for name, (value, _) in measured.items()},
        intervals={name: bounds for name, (_, bounds) in measured.items()},
        baseline_class=predictions.classes[most_frequent],
        baseline_accuracy=float(support[most_frequent] / len(rows.targets)),
        per_class=_per_class(predictions.classes, confusion),
        confusion=confusion,
        notes=tuple(notes),
        seen=min(seen, len(rows.targets)),
    )


_Measured = tuple[float, tuple[float, float]]  # a number and its interval


@dataclass(frozen=True)
class _Rows:
    """What the numbers need of each image with a known class, in an order that only depends on the content.

    Attributes: classes (K), and (N,) arrays: targets; predicted; loss, nats; confidence, the
    probability of the predicted class; rank of the true class, 0 being the most probable.
    """

    classes: int
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    loss: NDArray[np.float64]
    confidence: NDArray[np.float64]
    rank: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.targets == self.predicted
        return result


def _known_rows(predictions: Predictions, split: str) -> _Rows:
    known = np.flatnonzero(predictions.targets >= 0)
    if not len(known):
        raise DataError(
            f"None of the {len(predictions)} images {_of_part(split)}has a known class, so there is "
            "nothing to measure. Give images with labels, or use predict."
        )
    logits = predictions.logits[known].astype(np.float64)
    if not np.isfinite(logits).all():
        broken = predictions.paths[known[np.flatnonzero(~np.isfinite(logits).all(axis=1))[0]]]
        raise DataError(
            f"The logits of {broken} hold a value that is not a finite number. The features or the head are "
            "broken: compute the features again, or choose another head."
        )
    targets, classes = predictions.targets[known], logits.shape[1]
    predicted = logits.argmax(axis=1)
    with np.errstate(over="ignore"):  # logits may lie further apart than float64 reaches: probability 0
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    each = np.arange(len(known))
    true_logit = logits[each, targets][:, None]
    probability = shifted[each, targets] / shifted.sum(axis=1)
    loss = -np.log(np.maximum(probability, _SMALLEST_PROBABILITY))
    confidence = shifted[each, predicted] / shifted.sum(axis=1)
    # ties go to the first class, as in Predictions.predicted
    ahead = (logits > true_logit) | ((logits == true_logit) & (np.arange(classes) < targets[:, None]))
    order = np.lexsort((confidence, loss, predicted, targets))
    rank = ahead.sum(axis=1)
    return _Rows(classes, targets[order], predicted[order], loss[order], confidence[order], rank[order])


def _proportions(rows: _Rows, top_k: int) -> dict[str, _Measured]:
    """Accuracy, and top-k accuracy where there are more than two classes."""
    ranks = {"accuracy": 1}
    if rows.classes > 2:  # noqa: PLR2004 - with two classes the second guess is always right
        k = min(top_k, rows.classes - 1)
        ranks[f"top_{k}_accuracy"] = k
    total = len(rows.rank)
    hits = {name: int((rows.rank < k).sum()) for name, k in ranks.items()}
    return {name: (count / total, _pair(wilson(count, total))) for name, count in hits.items()}


def _resampled(rows: _Rows, support: NDArray[np.int64], notes: list[str], seed: int) -> dict[str, _Measured]:
    """Balanced accuracy, macro F1, log loss and calibration error with bootstrap intervals."""
    total = len(rows.targets)
    # rows lie sorted by (target, predicted): each cell of the confusion matrix is one run of rows
    cells, starts = np.unique(rows.targets * rows.classes + rows.predicted, return_index=True)
    true, said = np.divmod(cells, rows.classes)
    columns = np.column_stack([rows.loss / total, gap_columns(rows.confidence, rows.correct)])

    def statistics(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        counts = np.add.reduceat(weights, starts, axis=1)
        found, present, predicted = (
            _sums_by(values, group, rows.classes)
            for values, group in ((counts * (true == said), true), (counts, true), (counts, said))
        )
        sums = weights @ columns
        return np.stack([*_class_means(found, present, predicted), sums[:, 0], calibration_error(sums[:, 1:])], 1)

    estimate = statistics(np.ones((1, total)))[0]
    resampled = bootstrap(total, statistics, seed=seed)
    bounds = percentiles(resampled)
    by_chance = error_by_chance(rows.confidence, seed=seed)
    bounds[3] = calibration_interval(float(estimate[3]), resampled[:, 3], by_chance)
    if rows.correct.all():
        bounds[:2] = _flawless(support)
        notes.append(
            "Not one mistake was seen, so resampling cannot tell how far balanced accuracy and macro F1 may "
            "be below 1: their intervals combine the Wilson intervals of the classes' recalls."
        )
    if total < _FEW:
        notes.append(f"With only {counted(total, 'image')}, intervals found by resampling are too narrow.")
    if estimate[3] <= 2 * by_chance.mean():
        notes.append(
            f"On {counted(total, 'image')}, even a perfectly calibrated model would show a calibration error "
            f"of about {by_chance.mean():.3f}."
        )
    names = ("balanced_accuracy", "macro_f1", "log_loss", "calibration_error")
    return {name: (float(estimate[i]), _pair(bounds[i])) for i, name in enumerate(names)}


def _sums_by(values: NDArray[np.float64], group: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    """Sum the columns of values (R, C) that share a group: (R, groups)."""
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((len(values), groups))
    sums[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


def _class_means(
    found: NDArray[np.float64], support: NDArray[np.float64], predicted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Balanced accuracy and macro F1, (R,) each, from counts (R, K), over the classes with support."""
    present = support > 0
    recall = np.divide(found, support, out=np.zeros_like(found), where=present)
    f1 = np.divide(2 * found, support + predicted, out=np.zeros_like(found), where=present)
    return recall.sum(axis=1) / present.sum(axis=1), f1.sum(axis=1) / present.sum(axis=1)


def _flawless(support: NDArray[np.int64]) -> tuple[float, float]:
    """The interval of a mean of recalls that are all 1.

    The distances to the Wilson bounds are combined as for a sum of independent estimates: G. Zou and
    A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27 (2008).
    """
    counts = support[support > 0]
    below = 1 - wilson(counts, counts)[:, 0]
    return float(1 - np.sqrt((below**2).sum()) / len(counts)), 1.0


def _per_class(classes: tuple[str, ...], confusion: NDArray[np.int64]) -> tuple[ClassScore, ...]:
    found, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    bounds = wilson(found, support)
    scores = []
    for i, name in enumerate(classes):
        hits, true, said = int(found[i]), int(support[i]), int(predicted[i])
        scores.append(
            ClassScore(
                name=name,
                support=true,
                predicted=said,
                precision=hits / said if said else None,
                recall=hits / true if true else None,
                recall_interval=_pair(bounds[i]) if true else None,
                f1=2 * hits / (true + said) if true else None,
            )
        )
    return tuple(scores)


def _notes(predictions: Predictions, rows: _Rows, support: NDArray[np.int64]) -> list[str]:
    notes = []
    unknown = len(predictions) - len(rows.targets)
    if unknown:
        notes.append(f"{counted(unknown, 'image')} without a known class not counted.")
    absent = [name for name, count in zip(predictions.classes, support, strict=True) if not count]
    if absent:
        names = ", ".join(f"'{name}'" for name in absent[:_NAMED])
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        notes.append(
            f"No image here of {counted(len(absent), 'class', 'classes')}, left out of balanced accuracy and "
            f"macro F1: {names}{more}."
        )
    return notes


def _of_part(split: str) -> str:
    return "" if split == EVERYTHING else f"of the part '{split}' "


def _pair(bounds: NDArray[np.float64]) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
