"""Compare a head's settings on images held out of the training part, and calibrate the best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.calibration import temperature
from regraft.heads.folds import Folds, make_folds, stratified_subset
from regraft.heads.head import log_softmax
from regraft.heads.space import Space, space_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from regraft.heads.rows import TrainingRows


@dataclass(frozen=True)
class Trial:
    """The part of the training rows on which settings are compared.

    Attributes:
        rows: all training rows, or a stratified part of many.
        folds: who holds out what; no folds when nothing can be held out.
        notes: what the user must know about it.
    """

    rows: TrainingRows
    folds: Folds
    notes: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """Whether anything can be compared."""
        return self.folds.n_folds > 0

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """The scaled rows of each fold."""
        return tuple(space_of(self.rows, *fold) for fold in self.folds)


def plan_trial(rows: TrainingRows, *, limit: int, seed: int) -> Trial:
    """Take at most about `limit` rows, each class in its share, and deal them out to folds."""
    part = rows.take(stratified_subset(rows.targets, limit, seed=seed)) if len(rows) > limit else rows
    folds = make_folds(part.targets, groups=part.groups, seed=seed)
    notes = rows.notes()
    if len(part) < len(rows) and folds.n_folds:
        notes.append(f"settings were chosen on {len(part):,} of the {len(rows):,} training images, a stratified part")
    if not folds.n_folds:
        notes.append(
            "settings were assumed, not chosen, and probabilities are not calibrated: fewer than two classes have "
            "the two training images (or groups) that it takes to hold one out"
        )
    elif folds.never_scored:
        notes.append(
            f"{rows.words(folds.never_scored)}: one training image (or group), so no say in the choice of settings"
        )
    return Trial(part, folds, tuple(notes))


def held_out_scores(
    trial: Trial, score: Callable[[TrainingRows, NDArray[np.float32]], Sequence[NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Scores (candidates, N, P) of each image by heads that had not learnt from it; NaN where never held out.

    Args:
        trial: rows and folds.
        score: (rows to learn from, features (M, D)) -> for each candidate, scores (M, P).
    """
    pairs = ((trial.rows.take(learn), trial.rows.features[held_out]) for learn, held_out in trial.folds)
    return _gathered(trial, (score(*pair) for pair in pairs))


def scaled_scores(
    trial: Trial, score: Callable[[Space, NDArray[np.int64]], Sequence[NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """The same for heads that work on scaled features.

    Args:
        trial: rows and folds.
        score: (space of the rows to learn from, their targets) -> for each candidate, scores (M, P) of those outside.
    """
    pairs = zip(trial.spaces, trial.folds, strict=True)
    return _gathered(trial, (score(space, trial.rows.targets[learn]) for space, (learn, _) in pairs))


def _gathered(trial: Trial, scores: Iterable[Sequence[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Each fold's scores, put where the images that it holds out are."""
    result: NDArray[np.float64] | None = None
    for (_, held_out), found in zip(trial.folds, scores, strict=True):
        part = np.stack(found)
        if result is None:
            result = np.full((len(part), len(trial.rows), part.shape[2]), np.nan)
        result[:, held_out] = part
    if result is None:
        raise ValueError("held-out scores need folds")
    return result


def outcome(
    trial: Trial, candidate: dict[str, Any], logits: NDArray[np.float64], *, calibrate: bool = True
) -> dict[str, Any]:
    """How one candidate did, as a row of history: log loss, accuracy and log loss of each fold.

    Args:
        trial: rows and folds.
        candidate: its settings, JSON values.
        logits: (N, P) held-out scores.
        calibrate: find the candidate's own best temperature first, and record it.
    """
    rows = trial.folds.scored
    logits, targets = logits[rows], trial.rows.targets[rows]
    heat = temperature(logits, targets) if calibrate else 1.0
    losses = -log_softmax(logits / heat)[np.arange(len(rows)), targets]
    folds = trial.folds.held_out_in[rows]
    return {
        **candidate,
        **({"temperature": heat} if calibrate else {}),
        "log_loss": float(losses.mean()),
        "accuracy": float((logits.argmax(axis=1) == targets).mean()),
        "fold_log_loss": [float(losses[folds == fold].mean()) for fold in range(trial.folds.n_folds)],
    }


def best(trial: Trial, history: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of least log loss, the first of equals, with how it was found."""
    how = {"by": "least cross-validated log loss", "folds": trial.folds.n_folds, "images": len(trial.folds.scored)}
    return {**min(history, key=lambda row: row["log_loss"]), **how}


def assumed(candidate: dict[str, Any]) -> dict[str, Any]:
    """The chosen row where nothing could be compared; a head that is calibrated by temperature reads 1."""
    return {**candidate, "temperature": 1.0, "by": "assumed: nothing could be held out"}
