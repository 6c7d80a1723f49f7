"""How good told numbers are: errors in the numbers' own unit, R2 and rank correlation, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.intervals import bootstrap, percentiles
from regraft.evaluation.scores import counted, split_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SCORES = ("mae", "rmse", "r2", "spearman")
_FEW = 20  # images below which resampling understates the uncertainty by more than a little


@dataclass(frozen=True, slots=True)
class NumberScore:
    """How one number fares.

    Attributes:
        name: the number.
        n: images of which it is known.
        scores: mae and rmse (in its own unit), r2 (1 is perfect, 0 is what the mean of these images reaches),
            spearman (correlation of the ranks). r2 and spearman are None where all true numbers are equal, and
            spearman also where all told ones are.
        intervals: low and high of the 95 % interval for each score that is not None.
        baseline_mae: what always answering the training part's median gives.
        baseline_rmse: what always answering the training part's mean gives.
    """

    name: str
    n: int
    scores: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    baseline_mae: float
    baseline_rmse: float


@dataclass(frozen=True)
class RegressionEvaluation:
    """What told numbers are worth on one part of the data.

    Attributes:
        split: "train", "val", "test", or what the caller called the part.
        numbers: one entry a number.
        notes: sentences that the reader must know.
    """

    split: str
    numbers: tuple[NumberScore, ...]
    notes: tuple[str, ...]

    @property
    def score(self) -> tuple[str, float | None]:
        """The one number to compare by, higher being better: R2, for several numbers their mean."""
        values = [number.scores["r2"] for number in self.numbers]
        known = [value for value in values if value is not None]
        return ("r2" if len(self.numbers) == 1 else "mean_r2"), (float(np.mean(known)) if known else None)

    def sentence(self) -> str:
        """The numbers for a terminal, one after the other."""
        return "; ".join(_sentence(number, self.split, named=len(self.numbers) > 1) for number in self.numbers)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        name, value = self.score
        return {
            "split": self.split,
            name: value,
            "numbers": [
                {
                    "name": number.name,
                    "n": number.n,
                    **number.scores,
                    "baseline_mae": number.baseline_mae,
                    "baseline_rmse": number.baseline_rmse,
                    "intervals": {key: list(bounds) for key, bounds in number.intervals.items()},
                }
                for number in self.numbers
            ],
            "notes": list(self.notes),
        }


def evaluate_regression(
    told: NDArray[np.float64],
    truth: NDArray[np.float64],
    *,
    names: Sequence[str],
    training: NDArray[np.float64],
    split: str,
    seed: int = 0,
) -> RegressionEvaluation:
    """Measure told numbers on the images of which the true ones are known, each number by itself.

    Intervals are percentile bootstrap intervals over images (1,000 resamples). They take the images as
    independent.

    Args:
        told: (N, R) by the model.
        truth: (N, R); NaN where unknown.
        names: R names.
        training: (M, R) true numbers of the training part, NaN where unknown: whose median and mean are the
            baseline.
        split: which part of the data this is.
        seed: of the resampling.

    Raises:
        DataError: a number is known of no image here, or of none in the training part; or told numbers are not
            finite.
    """
    scores, notes = [], []
    for column, name in enumerate(names):
        there = np.isfinite(truth[:, column])
        known = training[np.isfinite(training[:, column]), column]
        if not there.any() or not len(known):
            where = f"of the part {split!r}" if len(known) else "of the training part"
            raise DataError(f"No image {where} has a number in {name!r}, so there is nothing to measure it by.")
        if not np.isfinite(told[there, column]).all():
            raise DataError(f"The numbers told for {name!r} are not all finite. The features or the head are broken.")
        scores.append(_number(told[there, column], truth[there, column], known, name, seed))
        known_here, unknown = int(there.sum()), int((~there).sum())
        if unknown:
            notes.append(f"{counted(unknown, 'image')} without {name!r} not counted.")
        if known_here < _FEW:
            notes.append(f"With only {counted(known_here, 'image')}, intervals found by resampling are too narrow.")
    return RegressionEvaluation(split, tuple(scores), tuple(dict.fromkeys(notes)))


def _number(
    told: NDArray[np.float64], truth: NDArray[np.float64], known: NDArray[np.float64], name: str, seed: int
) -> NumberScore:
    order = np.lexsort((told, truth))  # numbers do not depend on the order of the images
    told, truth = told[order], truth[order]
    statistics = _statistics(told, truth)
    estimate = statistics(np.ones((1, len(truth))))[0]
    # A resample in which all numbers are equal has no R2 and no ranks.
    resampled = bootstrap(len(truth), statistics, seed=seed)
    scores: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for at, key in enumerate(SCORES):
        scores[key] = float(estimate[at]) if np.isfinite(estimate[at]) else None
        if scores[key] is not None:
            column = resampled[np.isfinite(resampled[:, at]), at]
            low, high = percentiles(column[:, None])[0]
            intervals[key] = (float(low), float(high))
    median, mean = np.median(known), known.mean()
    baselines = float(np.abs(truth - median).mean()), float(np.sqrt(np.square(truth - mean).mean()))
    return NumberScore(name, len(truth), scores, intervals, *baselines)


def _statistics(told: NDArray[np.float64], truth: NDArray[np.float64]) -> Any:
    """Weights (R, N) to `SCORES` (R, 4) of N images; NaN where one is not defined."""
    centred = truth - truth.mean()
    error = told - truth
    columns = np.column_stack([np.abs(error), np.square(error), centred, np.square(centred)])
    ranks = [_ranks(values) for values in (told, truth)]
    varies = [len(np.unique(values)) > 1 for values in (told, truth)]

    def statistics(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights.sum(axis=1)
        absolute, square, first, second = (weights @ columns / total[:, None]).T
        variance = second - np.square(first)
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = np.where(variance > 1e-12 * second, 1 - square / variance, np.nan)
            rank = (
                _correlation(weights, *(one(weights) for one in ranks)) if all(varies) else np.full(len(total), np.nan)
            )
        return np.column_stack([absolute, np.sqrt(square), fit, rank])

    return statistics


def _ranks(values: NDArray[np.float64]) -> Any:
    """Weights (R, N) to the ranks (R, N) of N values when each counts as often as it weighs; ties share one."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))

    def ranks(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        together = np.add.reduceat(weights[:, order], starts, axis=1)
        middle = np.cumsum(together, axis=1) - (together - 1) / 2
        result: NDArray[np.float64] = middle[:, inverse]
        return result

    return ranks


def _correlation(
    weights: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted Pearson correlation (R,) of rows (R, N)."""
    total = weights.sum(axis=1, keepdims=True)
    one = one - (weights * one).sum(axis=1, keepdims=True) / total
    other = other - (weights * other).sum(axis=1, keepdims=True) / total
    products = [(weights * left * right).sum(axis=1) for left, right in ((one, other), (one, one), (other, other))]
    result: NDArray[np.float64] = products[0] / np.sqrt(products[1] * products[2])
    return result


def _sentence(number: NumberScore, split: str, *, named: bool) -> str:
    low, high = number.intervals["mae"]
    r2, spearman = number.scores["r2"], number.scores["spearman"]
    more = "" if r2 is None else f", R2 {r2:.3f}"
    more += "" if spearman is None else f", Spearman {spearman:.3f}"
    return (
        f"{number.name + ': ' if named else ''}{f'{split_word(split)} mean absolute error'.lstrip()}"
        f" {number.scores['mae']:.4g}"
        f" (95 % interval {low:.4g} to {high:.4g}, {counted(number.n, 'image')}; always answering the training"
        f" median gives {number.baseline_mae:.4g}){more}"
    )
