"""Logistic regression, cross-validated: what it says of each image that it had not learnt from."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from regraft.heads.head import log_softmax
from regraft.heads.linear_probe import STRENGTHS
from regraft.heads.logistic import Path
from regraft.heads.rows import training_rows
from regraft.heads.selection import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.folds import Folds

_PATIENCE = 2
_ACCURACY = 1e-5  # nats above the least value of the objective


def held_out_log_probabilities(
    features: NDArray[np.float32], targets: NDArray[np.int64], folds: Folds, *, blocks: Sequence[int] = ()
) -> tuple[NDArray[np.float64], float]:
    """Log probabilities (M, P) of the M images of `folds.scored`, and the strength of their penalty.

    Multinomial, scaled as the linear probe is and with its strengths, from strong to weak until two in a row gave no
    lower log loss; the one of least log loss is taken. It is chosen on the images that it is then judged by, one
    number by all of them, which flatters every backbone alike and little.

    Args:
        features: (N, D).
        targets: (N,) 0 .. P - 1, each class occurring.
        folds: who holds out what; at least two folds.
        blocks: widths of several backbones' features side by side.

    Raises:
        DataError: features that are not finite.
    """
    n_classes, scored = int(targets.max()) + 1, folds.scored
    trial = Trial(training_rows(features, targets, n_classes, blocks=blocks), folds, ())
    scores = np.zeros((len(targets), n_classes))
    found, chosen, losses = scores[scored], STRENGTHS[0], [np.inf]
    with ThreadPoolExecutor(min(folds.n_folds, os.cpu_count() or 1)) as pool:
        turned = list(pool.map(lambda space: space.turned, trial.spaces))
        parts = list(folds)
        paths = [
            Path(rows.astype(np.float32, copy=False), targets[learn], n_classes, _ACCURACY)
            for (rows, _), (learn, _) in zip(turned, parts, strict=True)
        ]
        for strength in STRENGTHS:
            solved = pool.map(lambda path, s=strength: path.solve(s), paths)
            for (weights, bias), (_, outside), (_, held_out) in zip(solved, turned, parts, strict=True):
                scores[held_out] = outside @ weights + bias
            logs = log_softmax(scores[scored])
            losses.append(-float(logs[np.arange(len(scored)), targets[scored]].mean()))
            if losses[-1] == min(losses):
                found, chosen = logs, strength
            elif len(losses) - 1 - int(np.argmin(losses)) >= _PATIENCE:
                break
    return found, chosen
