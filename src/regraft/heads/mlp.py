"""A perceptron with one hidden layer on frozen features, calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.calibration import temperature
from regraft.heads.head import Fitted
from regraft.heads.nearest_mean import class_means
from regraft.heads.prepared import prepare
from regraft.heads.rows import finite_features, in_chunks, over_all_classes
from regraft.heads.scaling import Scaling
from regraft.heads.selection import assumed, best, outcome, scaled_scores
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.space import Space

STEPS = (0, 4, 8, 16, 32, 48)
_ASSUMED_STEPS = 4
_TRIAL_ROWS = 1000
_BENT, _STRAIGHT = 32, 64  # random units, and at most so many pairs of units that carry the linear start
# Steps of heavy-ball descent, in units of what the curvature allows: 1 / (largest eigenvalue of the Gauss-Newton
# matrix of one layer). With a momentum of 0.9 that averages gradients, below 38 is stable on a quadratic.
_MOMENTUM = 0.9
_HIDDEN_PACE, _OUTPUT_PACE = 30.0, 0.3
_SOFTMAX_CURVE = 0.5  # no softmax curves more


@dataclass(frozen=True)
class Perceptron:
    """logits = (max(0, scaled features @ hidden_weights + hidden_bias) @ weights + bias) / temperature.

    Attributes:
        scaling: of the features.
        hidden_weights: (D, H) float64.
        hidden_bias: (H,) float64.
        weights: (H, P) float64.
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
    blocks: Sequence[int] = (),
    prepared: Prepared | None = None,
    steps: Sequence[int] = STEPS,
) -> Fitted:
    """Start as the nearest class mean and bend from there, for the steps of least calibrated cross-validated log loss.

    Pairs of hidden units, max(0, z) and max(0, -z), pass z on as it is, so the network can begin with the logits of
    any linear classifier; from random weights a few images a class lead it to a worse place (cross-validated log loss
    1.9 instead of 1.5 on 40 classes of 5). Random units that nothing reads at first give it something to bend with.
    All rows make one step; none are set aside, as the folds say when to stop.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds and the random units.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.
        steps: numbers of steps to choose from, ascending.

    Raises:
        DataError: see `training_rows`.
    """
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    trial = ready.trial(_TRIAL_ROWS)
    history: list[dict[str, Any]] = []
    chosen = assumed({"steps": _ASSUMED_STEPS if len(steps) > 1 else int(steps[0])})
    with one_thread():
        if trial.possible:
            scores = scaled_scores(trial, lambda space, targets: _score(space, targets, steps, seed))
            history = [outcome(trial, {"steps": int(n)}, part) for n, part in zip(steps, scores, strict=True)]
            chosen = best(trial, history)
        rows, space = ready.rows, ready.space
        network = _start(space.turned[0].astype(np.float32, copy=False), rows.targets, seed)
        for _ in range(chosen["steps"]):
            network.step()
        hidden, hidden_bias, weights, bias = (part.astype(np.float64) for part in network.weights)
        back = np.ascontiguousarray(space.back(hidden))
        fixed = chosen["temperature"], rows.present, rows.n_classes
        head = Perceptron(space.scaling, back, hidden_bias, weights, bias, *fixed)
    return Fitted(head, history, chosen, list(trial.notes))


def _score(space: Space, targets: NDArray[np.int64], steps: Sequence[int], seed: int) -> list[NDArray[np.float64]]:
    """Scores (M, P) of the rows held out, as they are after each number of steps."""
    rows, outside = (part.astype(np.float32, copy=False) for part in space.turned)
    network = _start(rows, targets, seed)
    scores = []
    for number in range(max(steps) + 1):
        if number:
            network.step()
        if number in steps:
            hidden, hidden_bias, weights, bias = network.weights
            scores.append((np.maximum(outside @ hidden + hidden_bias, 0) @ weights + bias).astype(np.float64))
    return scores


def _start(rows: NDArray[np.float32], targets: NDArray[np.int64], seed: int) -> _Network:
    """A network with the logits of the nearest class mean, as sure of them as the rows' own log loss likes best."""
    means = class_means(rows, targets)
    bias = -0.5 * np.square(means).sum(axis=1)
    sharpness = 1 / temperature(rows @ means.T + bias, targets)
    centred = (means - means.mean(axis=0)) * sharpness
    left, values, right = np.linalg.svd(centred.T, full_matrices=False)
    kept = np.flatnonzero(values > values[0] * 1e-6)[:_STRAIGHT]
    root = np.sqrt(values[kept])
    enter, leave = left[:, kept] * root, right[kept] * root[:, None]
    generator = np.random.default_rng(seed)
    bent = generator.standard_normal((rows.shape[1], _BENT)) * np.sqrt(2)
    hidden = np.hstack([enter, -enter, bent])
    weights = np.vstack([leave, -leave, np.zeros((_BENT, len(means)))])
    first = (hidden, np.zeros(hidden.shape[1]), weights, (bias - bias.mean()) * sharpness)
    return _Network(rows, targets, [part.astype(np.float32) for part in first])


class _Network:
    """Weights on their way down the mean cross-entropy, all rows at once.

    Attributes:
        weights: hidden weights (R, H), hidden bias (H,), weights (H, P), bias (P,), float32.
    """

    def __init__(
        self, rows: NDArray[np.float32], targets: NDArray[np.int64], weights: list[NDArray[np.float32]]
    ) -> None:
        self.weights = weights
        self._rows, self._targets, self._index = rows, targets, np.arange(len(rows))
        self._momentum = [np.zeros_like(part) for part in weights]
        self._input_curve = _Largest(rows.shape[1])
        self._hidden_curve, self._output_curve = (_Largest(n) for n in weights[2].shape)
        self._input = self._input_curve(rows, 10) / len(rows)

    def step(self) -> None:
        """One step of heavy-ball gradient descent, as long as the curvature at this point allows."""
        hidden_weights, hidden_bias, weights, bias = self.weights
        hidden = self._rows @ hidden_weights
        hidden += hidden_bias
        np.maximum(hidden, 0, out=hidden)
        error = hidden @ weights
        error += bias
        error -= error.max(axis=1, keepdims=True)
        np.exp(error, out=error)
        error /= error.sum(axis=1, keepdims=True)
        error[self._index, self._targets] -= 1
        error /= len(error)
        back = error @ weights.T
        back *= hidden > 0
        gradients = (self._rows.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0))
        read = max(self._output_curve(weights, 2), 1.0)
        firing = max(self._hidden_curve(hidden, 2) / len(hidden), 1e-9)
        free = _HIDDEN_PACE / (_SOFTMAX_CURVE * read)
        paces = (
            free / max(self._input, 1e-9),
            free,
            _OUTPUT_PACE / (_SOFTMAX_CURVE * firing),
            _OUTPUT_PACE / _SOFTMAX_CURVE,
        )
        for index, (gradient, pace) in enumerate(zip(gradients, paces, strict=True)):
            self._momentum[index] += np.float32(1 - _MOMENTUM) * (gradient - self._momentum[index])
            self.weights[index] -= np.float32(pace) * self._momentum[index]


class _Largest:
    """Largest eigenvalue of M.T @ M by power iteration, each time from where the last ended."""

    def __init__(self, width: int) -> None:
        # Not all alike, which a matrix of pairs of opposites would map to zero.
        self._direction = np.cos(np.arange(width, dtype=np.float32))

    def __call__(self, matrix: NDArray[np.float32], rounds: int) -> float:
        length = 0.0
        for _ in range(rounds):
            image = matrix.T @ (matrix @ self._direction)
            length = float(np.linalg.norm(image))
            if length == 0:
                return 0.0
            self._direction = image / np.float32(length)
        return length
