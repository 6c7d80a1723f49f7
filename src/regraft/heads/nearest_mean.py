"""The class whose mean is nearest to an image's scaled features, calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.linear_probe import LinearProbe, from_arrays
from regraft.heads.prepared import prepare
from regraft.heads.selection import assumed, best, outcome, scaled_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.space import Space

__all__ = ["fit", "from_arrays"]

_TRIAL_ROWS = 5000


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
) -> Fitted:
    """Average each class; logits are -|scaled x - mean|^2 / (2 temperature), but for what all classes share.

    What is left when |x|^2 is dropped is linear in x, so the head is a `LinearProbe` and can go wherever one can.
    The nearest class mean on good features is a strong start with a few images a class (Mensink et al., TPAMI
    2013; Snell et al., NeurIPS 2017, arXiv:1703.05175).

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.

    Raises:
        DataError: see `training_rows`.
    """
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    trial = ready.trial(_TRIAL_ROWS)
    history: list[dict[str, Any]] = []
    chosen = assumed({})
    if trial.possible:
        scores = scaled_scores(trial, _score)
        history = [outcome(trial, {}, scores[0])]
        chosen = best(trial, history)
    rows, heat = ready.rows, chosen["temperature"]
    weights, bias = _weights(ready.space, rows.targets)
    head = LinearProbe(ready.space.scaling, weights / heat, bias / heat, rows.present, rows.n_classes)
    return Fitted(head, history, chosen, list(trial.notes))


def class_means(rows: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean (P, R) of each class's rows (N, R), in float64."""
    sizes = np.bincount(targets)
    shares = np.zeros((len(sizes), len(rows)))
    shares[targets, np.arange(len(rows))] = 1 / sizes[targets]
    return shares @ rows


def _weights(space: Space, targets: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (D, P) and bias (P,) of -|x - mean|^2 / 2 + |x|^2 / 2."""
    means = class_means(space.rows, targets)
    return np.ascontiguousarray(means.T), -0.5 * np.square(means).sum(axis=1)


def _score(space: Space, targets: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    weights, bias = _weights(space, targets)
    return [space.outside @ weights + bias]
