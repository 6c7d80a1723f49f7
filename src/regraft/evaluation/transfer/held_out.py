"""Logistic regression, cross-validated: what it says of each image that it had not learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.heads.head import log_softmax
from regraft.heads.linear_probe import compare_strengths
from regraft.heads.rows import training_rows
from regraft.heads.selection import Trial
from regraft.heads.space import space_of
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from regraft.heads.folds import Folds


def held_out_log_probabilities(
    features: NDArray[np.float32], targets: NDArray[np.int64], folds: Folds, *, blocks: Sequence[int] = ()
) -> tuple[NDArray[np.float64], float]:
    """Log probabilities (M, P) of the M images of `folds.scored`, and the strength of their penalty.

    They are the linear probe's, at the strength that it would choose: the one of least log loss. It is chosen on the
    images that it is then judged by, one number by all of them, which flatters every backbone alike and little.

    Args:
        features: (N, D).
        targets: (N,) 0 .. P - 1, each class occurring.
        folds: who holds out what; at least two folds.
        blocks: widths of several backbones' features side by side.

    Raises:
        DataError: features that are not finite.
    """
    rows = training_rows(features, targets, int(targets.max()) + 1, blocks=blocks)
    with one_thread():
        history, scores = compare_strengths(Trial(rows, folds, ()), space_of(rows))
    chosen = min(history, key=lambda row: row["log_loss"])
    return log_softmax(scores[folds.scored]), chosen["strength"]
