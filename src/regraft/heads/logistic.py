"""Multinomial logistic regression along a path of strengths: the solver behind the linear probe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# L-BFGS needs fewest steps when the loss curves about as much along a weight as along the bias. For rows of
# mean squared norm 1 that is so when weights are stretched by the root of a tenth of their number.
_STRETCH = 0.1
_MAX_STEPS = 5000


def rotate(scaled: NDArray[np.float32]) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64] | None]:
    """Rows (N, D) in the basis of their own span, if that is much narrower: (N, R), and the basis (D, R).

    An L2-regularised linear fit has no component outside the span of its rows, and neither the loss nor the
    penalty sees a rotation, so the fit in this basis is the fit (representer theorem; Kimeldorf and Wahba,
    1971), in at most N instead of D dimensions. Above N = D / 2 the rotation costs more than it saves, and
    the rows come back as they are, without a basis.
    """
    n_rows, width = scaled.shape
    if 2 * n_rows > width:
        return scaled, None
    exact = scaled.astype(np.float64)
    gram = exact @ exact.T
    mix = span(gram)
    return gram @ mix, exact.T @ mix


def span(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """How to mix rows with the inner products `gram` (N, N) into an orthonormal basis of their span: (N, R)."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > max(values[-1], 0.0) * 1e-10
    mix: NDArray[np.float64] = np.ascontiguousarray(vectors[:, kept]) / np.sqrt(values[kept])
    return mix


@dataclass
class Path:
    """Minimises mean cross-entropy + strength / 2 * (sum of squared weights); biases are free.

    The solution for one strength is where the search for the next starts.

    Attributes:
        rows: (N, D), float32 or float64; decides the precision of the two matrix products of each step.
        targets: (N,) class index of each row, every class present.
        n_classes: K.
        accuracy: how far above its least value the objective may stay, nats.
    """

    rows: NDArray[np.floating[Any]]
    targets: NDArray[np.int64]
    n_classes: int
    accuracy: float
    _point: NDArray[np.float64] = field(init=False)
    _stretch: float = field(init=False)
    _stretched: NDArray[np.floating[Any]] = field(init=False)

    def __post_init__(self) -> None:
        width = self.rows.shape[1]
        self._stretch = float(np.sqrt(max(1.0, _STRETCH * width)))
        self._point = np.zeros((width + 1, self.n_classes))
        self._stretched = self.rows * self.rows.dtype.type(self._stretch)

    @property
    def work(self) -> int:
        """Multiplications in one product of rows and weights, of which a step takes two."""
        return self.rows.size * self.n_classes

    def solve(self, strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights (D, K) and bias (K,) at the minimum for `strength`.

        The objective is `strength`-strongly convex in the weights, so a gradient g leaves at most
        |g|^2 / (2 strength) to gain: that sets the tolerance.
        """
        from scipy.optimize import minimize

        penalty = strength * self._stretch**2
        tolerance = float(np.sqrt(2 * penalty * self.accuracy / self._point.size))
        result = minimize(
            _loss_and_gradient,
            self._point.ravel(),
            args=(self._stretched, self.targets, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": tolerance, "ftol": self.accuracy * 1e-3, "maxiter": _MAX_STEPS},
        )
        self._point = result.x.reshape(self._point.shape)
        return self._point[:-1] * self._stretch, self._point[-1]


def _loss_and_gradient(
    flat: NDArray[np.float64], rows: NDArray[np.floating[Any]], targets: NDArray[np.int64], penalty: float
) -> tuple[float, NDArray[np.float64]]:
    """The objective at `flat`, weights (D, K) over bias, and its gradient."""
    point = flat.reshape(rows.shape[1] + 1, -1)
    n_rows, index = len(rows), np.arange(len(rows))
    scores = (rows @ point[:-1].astype(rows.dtype)).astype(np.float64) + point[-1]
    scores -= scores.max(axis=1, keepdims=True)
    own = scores[index, targets]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    loss = (np.log(total).sum() - own.sum()) / n_rows
    scores /= total
    scores[index, targets] -= 1
    scores /= n_rows
    gradient = np.empty_like(point)
    gradient[:-1] = rows.T @ scores.astype(rows.dtype) + penalty * point[:-1]
    gradient[-1] = scores.sum(axis=0)
    return float(loss + 0.5 * penalty * np.vdot(point[:-1], point[:-1])), gradient.ravel()
