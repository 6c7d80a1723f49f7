"""How good labels are, of which an image may have several: average precision, F1, thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.intervals import RESAMPLES, bootstrap, percentiles
from regraft.evaluation.scores import counted, split_word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    _Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_FEW_POSITIVES = 5  # below which a threshold of one's own would be chance
_FEW = 20  # images below which resampling understates the uncertainty by more than a little
_CELLS = 2e8  # images x labels x resamples that are affordable: a few seconds
_LEAST_RESAMPLES = 200
SCORES = ("mean_average_precision", "macro_f1", "micro_f1")


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How one label fares.

    Attributes:
        name: the label.
        n: images of which it is known whether they have it.
        support: those that have it.
        threshold: log-odds from which it is said to apply.
        average_precision: None without support.
        precision: share of what was said to have it that has; None where nothing was.
        recall: share of `support` that was found; None without support.
        f1: None without support.
    """

    name: str
    n: int
    support: int
    threshold: float
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class MultilabelEvaluation:
    """What told labels are worth on one part of the data.

    Attributes:
        split: "train", "val", "test", or what the caller called the part.
        n: images of which at least one label is known.
        scores: mean_average_precision and macro_f1 (means over the labels with support), micro_f1 (over all
            cells that are known).
        intervals: low and high of the 95 % interval for each of `scores`.
        baselines: what the best constant answer gives for each of `scores`.
        per_label: one entry a label.
        notes: sentences that the reader must know.
    """

    split: str
    n: int
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baselines: dict[str, float]
    per_label: tuple[LabelScore, ...]
    notes: tuple[str, ...]

    @property
    def score(self) -> tuple[str, float]:
        """The one number to compare by, higher being better."""
        return SCORES[0], self.scores[SCORES[0]]

    def sentence(self) -> str:
        """The headline for a terminal."""
        low, high = self.intervals[SCORES[0]]
        base = self.baselines
        of = f"{counted(self.n, 'image')}, {counted(len(self.per_label), 'label')}"
        return (
            f"{f'{split_word(self.split)} mean average precision'.lstrip()} {self.scores[SCORES[0]]:.3f}"
            f" (95 % interval {low:.3f} to {high:.3f}, {of}; chance gives"
            f" {base[SCORES[0]]:.3f}),"
            f" F1 macro {self.scores['macro_f1']:.3f} and micro {self.scores['micro_f1']:.3f} (the best constant"
            f" answer gives {base['macro_f1']:.3f} and {base['micro_f1']:.3f})"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "split": self.split,
            "n": self.n,
            **self.scores,
            "baselines": self.baselines,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "per_label": [
                {"label" if key == "name" else key: getattr(label, key) for key in LabelScore.__slots__}
                for label in self.per_label
            ],
            "notes": list(self.notes),
        }


def choose_thresholds(scores: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Thresholds (L,) from which a label is said to apply: those of best F1 on images kept for such choices.

    A label that fewer than five of these images have, or that all have, takes the one threshold that is best
    for all labels counted together (micro F1); where no image has any label that is 0, a probability of a half.
    A threshold lies midway between two scores.

    Args:
        scores: (N, L) log-odds by the model.
        truth: (N, L) of 0 and 1; -1 where unknown.
    """
    shared = _best_threshold(scores[truth >= 0], truth[truth >= 0] == 1)
    thresholds = np.full(scores.shape[1], shared)
    for label in range(scores.shape[1]):
        there = truth[:, label] >= 0
        has = truth[there, label] == 1
        if has.sum() >= _FEW_POSITIVES and not has.all():
            thresholds[label] = _best_threshold(scores[there, label], has)
    return thresholds


def _best_threshold(scores: NDArray[np.float64], has: NDArray[np.bool_]) -> float:
    """The threshold of best F1, the highest of equals; 0 where nothing has the label."""
    if not has.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    values = scores[order]
    ends = np.flatnonzero(np.append(np.diff(values) < 0, True))  # the last of equal scores
    f1 = 2 * np.cumsum(has[order])[ends] / (ends + 1 + has.sum())
    best = ends[int(f1.argmax())]
    following = values[best + 1] if best + 1 < len(values) else values[best] - 1.0
    return float((values[best] + following) / 2)


def evaluate_multilabel(
    scores: NDArray[np.float64],
    truth: NDArray[np.integer[Any]],
    *,
    labels: Sequence[str],
    thresholds: Sequence[float] | NDArray[np.float64],
    split: str,
    seed: int = 0,
) -> MultilabelEvaluation:
    """Measure told labels on what is known; each image and label that is not known is left out.

    Average precision is the mean of the precision at each image that has the label, as in scikit-learn.
    Intervals are percentile bootstrap intervals over images, 1,000 resamples or, for very many images and
    labels, down to 200. Labels that no image here has are left out of the means over labels.

    Args:
        scores: (N, L) log-odds by the model.
        truth: (N, L) of 0 and 1; -1 where unknown.
        labels: L names.
        thresholds: (L,) log-odds from which a label is said to apply; chosen on other images than these.
        split: which part of the data this is.
        seed: of the resampling.

    Raises:
        DataError: no image has any label, or scores are not finite.
    """
    rows = np.flatnonzero((truth >= 0).any(axis=1))
    if not (truth == 1).any():
        raise DataError(f"No image of the part {split!r} has any of the labels, so there is nothing to measure.")
    if not np.isfinite(scores[rows]).all():
        raise DataError("The labels' log-odds are not all finite. The features or the head are broken.")
    scores, truth = scores[rows], truth[rows]
    limits = np.asarray(thresholds, np.float64)
    order = np.lexsort((*truth.T, *scores.T))  # numbers do not depend on the order of the images
    scores, truth = scores[order], truth[order]
    counts = _counts(scores, truth, limits)
    precisions = [_average_precision(*pair) for pair in zip(scores.T, truth.T, strict=True)]

    def statistics(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found, said, has = counts(weights)
        each = np.column_stack([precision(weights) for precision in precisions])
        return np.column_stack([_mean_where(has > 0, each), *_f1(found, said, has)])

    whole = np.ones((1, len(rows)))
    estimate = statistics(whole)[0]
    resamples = int(min(RESAMPLES, max(_LEAST_RESAMPLES, _CELLS / scores.size)))
    bounds = percentiles(bootstrap(len(rows), statistics, seed=seed, resamples=resamples))
    told = tuple(np.concatenate(counts(whole)))
    average = [float(precision(whole)[0]) for precision in precisions]
    per_label = tuple(
        _label(name, *one) for name, *one in zip(labels, (truth >= 0).sum(axis=0), limits, average, *told, strict=True)
    )
    return MultilabelEvaluation(
        split=split,
        n=len(rows),
        scores={name: float(value) for name, value in zip(SCORES, estimate, strict=True)},
        intervals={name: (float(low), float(high)) for name, (low, high) in zip(SCORES, bounds, strict=True)},
        baselines=_baselines(truth),
        per_label=per_label,
        notes=tuple(_notes(truth, labels)),
    )


def _counts(
    scores: NDArray[np.float64], truth: NDArray[np.integer[Any]], limits: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], ...]]:
    """Weights (R, N) to how often each label was found, said, and there: three of (R, L)."""
    said = (scores >= limits) & (truth >= 0)
    has = truth == 1
    columns = np.hstack([said & has, said, has]).astype(np.float64)

    def counts(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        return tuple(np.split(weights @ columns, 3, axis=1))

    return counts


def _average_precision(scores: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> _Statistic:
    """Weights (R, N) to the average precision (R,) of one label; 0 where no image that weighs has it."""
    rows = np.flatnonzero(truth >= 0)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    has = (truth[rows] == 1).astype(np.float64)
    # Images of equal score are told apart by no threshold; between two that have the label, only sums count.
    starts = np.flatnonzero(np.diff(scores[rows], prepend=np.inf) != 0)
    if not has.any():
        return lambda weights: np.zeros(len(weights))

    def precision(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = weights[:, rows]
        hits = np.add.reduceat(drawn * has, starts, axis=1)
        total = np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1)
        share = np.cumsum(hits, axis=1)
        support = share[:, -1].copy()
        share /= np.maximum(total, 1)
        result: NDArray[np.float64] = np.einsum("rn,rn->r", hits, share) / np.maximum(support, 1)
        return result

    return precision


def _f1(
    found: NDArray[np.float64], said: NDArray[np.float64], has: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Macro and micro F1 (R,) each, from counts (R, L)."""
    each = 2 * found / np.maximum(said + has, 1)
    micro = 2 * found.sum(axis=1) / np.maximum(said.sum(axis=1) + has.sum(axis=1), 1)
    return _mean_where(has > 0, each), micro


def _mean_where(there: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (R,) over the columns that count; 0 where none does."""
    result: NDArray[np.float64] = (values * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return result


def _baselines(truth: NDArray[np.integer[Any]]) -> dict[str, float]:
    """What the best constant answer gives: equal scores; every label; the frequent labels only, for micro F1."""
    has, n = (truth == 1).sum(axis=0), (truth >= 0).sum(axis=0)
    share = has[has > 0] / n[has > 0]
    order = np.argsort(-has / np.maximum(n, 1), kind="stable")
    micro = 2 * np.cumsum(has[order]) / (np.cumsum(n[order]) + has.sum())
    return {
        SCORES[0]: float(share.mean()),
        "macro_f1": float((2 * share / (1 + share)).mean()),
        "micro_f1": float(micro.max()),
    }


def _label(name: str, n: int, limit: float, average: float, found: float, said: float, has: float) -> LabelScore:
    there = bool(has)
    return LabelScore(
        name=name,
        n=int(n),
        support=int(has),
        threshold=float(limit),
        average_precision=average if there else None,
        precision=float(found / said) if said else None,
        recall=float(found / has) if there else None,
        f1=float(2 * found / (said + has)) if there else None,
    )


def _notes(truth: NDArray[np.integer[Any]], labels: Sequence[str]) -> list[str]:
    notes = []
    absent = [repr(name) for name, any_ in zip(labels, (truth == 1).any(axis=0), strict=True) if not any_]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""  # noqa: PLR2004
        notes.append(f"No image here has {', '.join(absent[:5])}{more}: left out of the means over labels.")
    if len(truth) < _FEW:
        notes.append(f"With only {counted(len(truth), 'image')}, intervals found by resampling are too narrow.")
    return notes
