"""Multinomial logistic regression on frozen features, its strength chosen by cross-validation."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.logistic import Path
from regraft.heads.prepared import prepare
from regraft.heads.rows import finite_features, in_chunks, over_all_classes
from regraft.heads.scaling import Scaling
from regraft.heads.selection import Trial, assumed, best, outcome
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.space import Space

# Strong to weak. Rows have a mean squared norm of 1 after scaling: at 1 every image looks like the class
# frequencies, at 1e-9 hardly anything is held back.
STRENGTHS = tuple(float(f"{10 ** (-step / 2):.3g}") for step in range(19))
ASSUMED_STRENGTH = 1e-4  # where nothing can be held out: the middle of what we saw chosen on small sets
_PATIENCE = 2
_TRIAL_ROWS = 5000
_WORTH_THREADS = 2**21  # multiplications in one product of rows and weights
_ROUGH, _EXACT = 1e-5, 1e-14  # nats above the least value of the objective


@dataclass(frozen=True)
class LinearProbe:
    """logits = (features - centre) / scale @ weights + bias.

    Attributes:
        scaling: of the features.
        weights: (D, P) float64.
        bias: (P,) float64.
        present: (P,) indices of the classes that were seen.
        n_classes: K.
    """

    name: ClassVar[str] = "linear-probe"
    scaling: Scaling
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    present: NDArray[np.int64]
    n_classes: int

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        rows = finite_features(features, len(self.weights))
        scores = in_chunks(lambda part: self.scaling(part) @ self.weights + self.bias, rows, len(self.bias))
        return over_all_classes(scores, self.present, self.n_classes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        return {**self.scaling.arrays(), "weights": self.weights, "bias": self.bias, "present": self.present}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {"n_classes": self.n_classes}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> LinearProbe:
    """The head that gave these `arrays()` and `settings()`."""
    scaling = Scaling(arrays["centre"], arrays["scale"])
    return LinearProbe(scaling, arrays["weights"], arrays["bias"], arrays["present"], settings["n_classes"])


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
    strengths: Sequence[float] = STRENGTHS,
) -> Fitted:
    """Fit mean cross-entropy + strength / 2 * |weights|^2 at the strength of least cross-validated log loss.

    Strengths are tried from strong to weak, each from the solution before, until two in a row were no
    better. More than 5,000 rows: the strength is chosen on a stratified part, the fit uses all.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.
        strengths: what to choose from, descending; one alone is taken as it is.

    Raises:
        DataError: see `training_rows`.
    """
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    history, notes = [], ready.rows.notes()
    with one_thread():
        if len(strengths) == 1:
            chosen: dict[str, Any] = {"strength": float(strengths[0]), "by": "given"}
        else:
            trial = ready.trial(_TRIAL_ROWS)
            history, notes = compare_strengths(trial, ready.space, strengths)[0], list(trial.notes)
            chosen = best(trial, history) if history else assumed({"strength": ASSUMED_STRENGTH})
        head = _fit_all(ready, chosen["strength"])
    return Fitted(head, history, chosen, notes)


def compare_strengths(
    trial: Trial, whole: Space, strengths: Sequence[float] = STRENGTHS
) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Walk down the strengths in all folds at once until the log loss has stopped falling.

    Returns:
        A row of history for each strength, none if nothing can be held out; and the held-out scores (N, P) at the
        strength of least log loss, meaningless where never held out.

    Args:
        trial: rows and folds.
        whole: the space of all rows.
        strengths: strong to weak.
    """
    history: list[dict[str, Any]] = []
    scores = np.zeros((len(trial.rows), len(trial.rows.present)))
    lowest = scores
    if not trial.possible:
        return history, lowest
    walks = [_Walk.start(trial, fold, whole) for fold in range(trial.folds.n_folds)]
    with _workers(walks) as run:
        for strength in strengths:
            for walk, part in zip(walks, run(lambda walk, s=strength: walk.scores(s), walks), strict=True):
                scores[walk.held_out] = part
            history.append(outcome(trial, {"strength": float(strength)}, scores, calibrate=False))
            since = len(history) - 1 - int(np.argmin([row["log_loss"] for row in history]))
            if since == 0:
                lowest = scores.copy()
            elif since >= _PATIENCE:
                break
    return history, lowest


@contextmanager
def _workers(walks: list[_Walk]) -> Iterator[Callable[..., Iterable[NDArray[np.float64]]]]:
    """A map over the folds: on all cores where one step is long enough to be worth the handing over."""
    if max(walk.path.work for walk in walks) < _WORTH_THREADS:
        yield map
        return
    with ThreadPoolExecutor(min(len(walks), os.cpu_count() or 1)) as pool:
        yield pool.map


@dataclass
class _Walk:
    """One fold on its way down the strengths."""

    path: Path
    features: NDArray[np.floating[Any]]  # held out, scaled, in the basis of the path
    held_out: NDArray[np.int64]

    @classmethod
    def start(cls, trial: Trial, fold: int, whole: Space) -> _Walk:
        learn, held_out = list(trial.folds)[fold]
        rows, outside = trial.spaces[fold].along(whole, np.float32)
        return cls(Path(rows, trial.rows.targets[learn], len(trial.rows.present), _ROUGH), outside, held_out)

    def scores(self, strength: float) -> NDArray[np.float64]:
        weights, bias = self.path.solve(strength)
        scores: NDArray[np.float64] = self.features @ weights + bias
        return scores


def _fit_all(ready: Prepared, strength: float) -> LinearProbe:
    """The fit on all rows, tight enough that nothing but the data shows in it.

    In float64, but for very many rows, where the copy would be large and single steps cost seconds.
    """
    rows, space = ready.rows, ready.space
    many = len(rows) > _TRIAL_ROWS
    precision, accuracy = (np.float32, _ROUGH / 10) if many else (np.float64, _EXACT)
    path = Path(space.along(space, precision)[0], rows.targets, len(rows.present), accuracy)
    weights, bias = path.solve(strength)
    weights = space.back(weights) if space.narrow else space.axes @ weights
    return LinearProbe(space.scaling, weights, bias, rows.present, rows.n_classes)
