"""Linear discriminant analysis on frozen features, its covariance shrunk, calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.linear_probe import LinearProbe, from_arrays
from regraft.heads.nearest_mean import class_means
from regraft.heads.prepared import prepare
from regraft.heads.selection import assumed, best, outcome, scaled_scores
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.space import Space

__all__ = ["fit", "from_arrays"]

# The mean variance that the covariance is shrunk towards is over all D directions, most of which a few images
# leave empty: what matters lies near 1 for few images and near 0 for very many.
SHRINKAGES = (0.99, 0.95, 0.8, 0.5, 0.2, 0.05, 0.01)
_ASSUMED_SHRINKAGE = 0.95
_TRIAL_ROWS = 2000


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
    shrinkages: Sequence[float] = SHRINKAGES,
) -> Fitted:
    """Fit one covariance for all classes in closed form; the shrinkage of least calibrated cross-validated log loss.

    The covariance is (1 - s) S + s tr(S) / D I, with S that of the scaled features around their class means, and
    0 < s <= 1 (Friedman, JASA 1989, for the form). Neither the class means nor S have a part outside the span of the
    rows, so all is solved there. The head is linear in the features: a `LinearProbe`.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.
        shrinkages: s to choose from.

    Raises:
        DataError: see `training_rows`.
    """
    import scipy.linalg  # noqa: F401 - before its threads are counted

    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    trial = ready.trial(_TRIAL_ROWS)
    history: list[dict[str, Any]] = []
    chosen = assumed({"shrinkage": _ASSUMED_SHRINKAGE if len(shrinkages) > 1 else float(shrinkages[0])})
    with one_thread():
        if trial.possible:
            scores = scaled_scores(trial, lambda space, targets: _score(space, targets, shrinkages))
            pairs = zip(shrinkages, scores, strict=True)
            history = [outcome(trial, {"shrinkage": float(s)}, score) for s, score in pairs]
            chosen = best(trial, history)
        rows, heat = ready.rows, chosen["temperature"]
        ((weights, bias),) = _weights(ready.space, rows.targets, [chosen["shrinkage"]])
        weights = np.ascontiguousarray(ready.space.back(weights))
    head = LinearProbe(ready.space.scaling, weights / heat, bias / heat, rows.present, rows.n_classes)
    return Fitted(head, history, chosen, list(trial.notes))


def _score(space: Space, targets: NDArray[np.int64], shrinkages: Sequence[float]) -> list[NDArray[np.float64]]:
    return [space.turned[1] @ weights + bias for weights, bias in _weights(space, targets, shrinkages)]


def _weights(
    space: Space, targets: NDArray[np.int64], shrinkages: Sequence[float]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each shrinkage weights (R, P) of the turned rows, and bias (P,)."""
    from scipy.linalg import cho_factor, cho_solve

    rows = space.turned[0].astype(np.float64)
    share = np.bincount(targets) / len(rows)
    means = class_means(rows, targets)
    rows -= means[targets]
    covariance = rows.T @ rows / len(rows)
    level = np.trace(covariance) / space.rows.shape[1]
    result = []
    for shrinkage in shrinkages:
        shrunk = (1 - shrinkage) * covariance
        # Images that never differ within a class leave no covariance: then any multiple of I will do.
        shrunk.flat[:: len(shrunk) + 1] += shrinkage * level if level > 0 else 1.0
        weights = cho_solve(cho_factor(shrunk, overwrite_a=True, check_finite=False), means.T, check_finite=False)
        result.append((weights, np.log(share) - 0.5 * (means.T * weights).sum(axis=0)))
    return result
