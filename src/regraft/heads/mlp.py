"""A perceptron with one hidden layer on frozen features, calibrated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.rows import finite_features, in_chunks, over_all_classes, training_rows
from regraft.heads.scaling import Scaling, learn_scaling
from regraft.heads.selection import assumed, best, held_out_scores, outcome, plan_trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.rows import TrainingRows

DECAYS = (0.3, 3.0, 10.0)
_ASSUMED_DECAY = 3.0
_TRIAL_ROWS = 2000
# Weight decay and a fixed, small number of passes instead of early stopping: with a few images a class,
# setting a tenth of them aside to decide when to stop cost more accuracy than it saved.
_NETWORK = {"hidden_layer_sizes": (128,), "max_iter": 30, "learning_rate_init": 3e-3, "tol": 0.0}
_BATCH = 64


@dataclass(frozen=True)
class Perceptron:
    """logits = (max(0, scaled features @ hidden_weights + hidden_bias) @ weights + bias) / temperature.

    Attributes:
        scaling: of the features.
        hidden_weights: (D, 128) float64.
        hidden_bias: (128,) float64.
        weights: (128, P) float64.
        bias: (P,) float64.
        temperature: from held-out scores.
        present: (P,) indices of the classes that were seen.
        n_classes: K.
    """

    name: ClassVar[str] = "mlp"
    scaling: Scaling
    hidden_weights: NDArray[np.float64]
    hidden_bias: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float
    present: NDArray[np.int64]
    n_classes: int

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        rows = finite_features(features, len(self.hidden_weights))
        scores = in_chunks(self.scores, rows, len(self.bias)) / self.temperature
        return over_all_classes(scores, self.present, self.n_classes)

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Finite features (M, D) to uncalibrated scores (M, P)."""
        hidden = np.maximum(self.scaling(rows) @ self.hidden_weights + self.hidden_bias, 0)
        score: NDArray[np.float64] = hidden @ self.weights + self.bias
        return score

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        names = ("hidden_weights", "hidden_bias", "weights", "bias", "present")
        return {**self.scaling.arrays(), **{name: getattr(self, name) for name in names}}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {"temperature": self.temperature, "n_classes": self.n_classes}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Perceptron:
    """The head that gave these `arrays()` and `settings()`."""
    values: dict[str, Any] = {**arrays, **settings}
    return Perceptron(scaling=Scaling(values.pop("centre"), values.pop("scale")), **values)


def fit(
    features: NDArray[np.float32],
    targets: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    decays: Sequence[float] = DECAYS,
) -> Fitted:
    """Train 30 passes of Adam; the weight decay of least calibrated cross-validated log loss.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds, the first weights and the batches.
        classes: K class names, for the notes.
        decays: to choose from, as scikit-learn's `alpha`.

    Raises:
        DataError: see `training_rows`.
    """
    from threadpoolctl import threadpool_limits

    rows = training_rows(features, targets, n_classes, groups, classes)
    trial = plan_trial(rows, limit=_TRIAL_ROWS, seed=seed)
    history: list[dict[str, Any]] = []
    chosen = assumed({"decay": _ASSUMED_DECAY})
    with threadpool_limits(limits=1):
        if trial.possible:

            def score(learn: TrainingRows, held_out: NDArray[np.float32]) -> list[NDArray[np.float64]]:
                return [_fit_all(learn, decay, 1.0, seed).scores(held_out) for decay in decays]

            scores = held_out_scores(trial, score)
            pairs = zip(decays, scores, strict=True)
            history = [outcome(trial, {"decay": float(decay)}, part) for decay, part in pairs]
            chosen = best(trial, history)
        head = _fit_all(rows, chosen["decay"], chosen["temperature"], seed)
    return Fitted(head, history, chosen, list(trial.notes))


def _fit_all(rows: TrainingRows, decay: float, temperature: float, seed: int) -> Perceptron:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    scaling = learn_scaling(rows.features)
    # The usual first weights expect numbers of variance 1, not rows of norm 1.
    unit = np.float32(np.sqrt(rows.features.shape[1]))
    network = MLPClassifier(alpha=decay, batch_size=min(_BATCH, len(rows)), random_state=seed, **_NETWORK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 passes are what was asked for
        network.fit(scaling.single(rows.features) * unit, rows.targets)
    first, last = (weights.astype(np.float64) for weights in network.coefs_)
    hidden_bias, bias = (weights.astype(np.float64) for weights in network.intercepts_)
    if len(bias) == 1:  # two classes share one output z; softmax of (-z/2, z/2) is its sigmoid
        last, bias = np.hstack([-last, last]) / 2, np.concatenate([-bias, bias]) / 2
    return Perceptron(scaling, first * unit, hidden_bias, last, bias, temperature, rows.present, rows.n_classes)
