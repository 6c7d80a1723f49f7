"""Gaussian naive Bayes on frozen features: a mean and a variance for each class and feature, calibrated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.prepared import prepare
from regraft.heads.rows import finite_features, in_chunks, over_all_classes
from regraft.heads.selection import assumed, best, held_out_scores, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.rows import TrainingRows

SMOOTHINGS = (1e-9, 1e-3, 1e-2, 1e-1, 1.0)
_ASSUMED_SMOOTHING = 1e-1  # where nothing can be held out; 1e-9 knows 9 of 100 images of 40 classes, this 58
_TRIAL_ROWS = 5000


@dataclass(frozen=True)
class NaiveBayes:
    """logits = (log prior + sum over features of the log normal density) / temperature.

    Attributes:
        mean: (P, D) float64.
        variance: (P, D) float64, positive.
        log_prior: (P,) float64, log of each class's share.
        temperature: from held-out scores.
        present: (P,) indices of the classes that were seen.
        n_classes: K.
    """

    name: ClassVar[str] = "naive-bayes"
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    log_prior: NDArray[np.float64]
    temperature: float
    present: NDArray[np.int64]
    n_classes: int

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        rows = finite_features(features, self.mean.shape[1])
        scores = in_chunks(self.scores, rows, len(self.log_prior)) / self.temperature
        return over_all_classes(scores, self.present, self.n_classes)

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Joint log likelihood (M, P), the square multiplied out around the middle of the class means."""
        middle = self.mean.mean(axis=0)
        moved, mean = rows - middle, self.mean - middle
        squares = np.square(moved) @ (1 / self.variance).T - 2 * (moved @ (mean / self.variance).T)
        constant = (np.square(mean) / self.variance + np.log(2 * np.pi * self.variance)).sum(axis=1)
        score: NDArray[np.float64] = self.log_prior - 0.5 * (squares + constant)
        return score

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        names = ("mean", "variance", "log_prior", "present")
        return {name: getattr(self, name) for name in names}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {"temperature": self.temperature, "n_classes": self.n_classes}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> NaiveBayes:
    """The head that gave these `arrays()` and `settings()`."""
    values: dict[str, Any] = {**arrays, **settings}
    return NaiveBayes(**values)


def fit(
    features: NDArray[np.float32],
    targets: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    prepared: Prepared | None = None,
    smoothings: Sequence[float] = SMOOTHINGS,
) -> Fitted:
    """Fit means and variances in closed form; the smoothing of least calibrated cross-validated log loss.

    As in scikit-learn, smoothing * (largest variance of any feature) is added to every variance.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.
        smoothings: to choose from; 1e-9 is scikit-learn's.

    Raises:
        DataError: see `training_rows`.
    """
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    rows, trial = ready.rows, ready.trial(_TRIAL_ROWS)
    history: list[dict[str, Any]] = []
    chosen = assumed({"smoothing": _ASSUMED_SMOOTHING if len(smoothings) > 1 else float(smoothings[0])})
    if trial.possible:
        scores = held_out_scores(trial, lambda learn, held_out: _score(learn, held_out, smoothings))
        pairs = zip(smoothings, scores, strict=True)
        history = [outcome(trial, {"smoothing": float(s)}, score) for s, score in pairs]
        chosen = best(trial, history)
    head = _fit_all(rows, chosen["smoothing"], chosen["temperature"])
    return Fitted(head, history, chosen, list(trial.notes))


def _score(
    learn: TrainingRows, held_out: NDArray[np.float32], smoothings: Sequence[float]
) -> list[NDArray[np.float64]]:
    rough = _fit_all(learn, 0.0, 1.0)
    unit = _unit(rough, learn.blocks)
    return [replace(rough, variance=rough.variance + s * unit).scores(held_out) for s in smoothings]


def _fit_all(rows: TrainingRows, smoothing: float, temperature: float) -> NaiveBayes:
    share = np.bincount(rows.targets) / len(rows)
    mean, variance = np.empty((2, len(share), rows.features.shape[1]))
    for label in range(len(share)):
        own = rows.features[rows.targets == label].astype(np.float64)
        mean[label], variance[label] = own.mean(axis=0), own.var(axis=0)
    head = NaiveBayes(mean, variance, np.log(share), temperature, rows.present, rows.n_classes)
    return replace(head, variance=variance + smoothing * _unit(head, rows.blocks)) if smoothing else head


def _unit(head: NaiveBayes, blocks: Sequence[int]) -> NDArray[np.float64]:
    """What smoothing counts in, (D,): the largest variance of any feature of the same block."""
    share = np.exp(head.log_prior)
    total = share @ (head.variance + np.square(head.mean - share @ head.mean))  # law of total variance
    largest = [part.max() for part in np.split(total, np.cumsum(blocks[:-1], dtype=np.int64))]
    return np.repeat([value if value > 0 else 1.0 for value in largest], blocks or [len(total)])
