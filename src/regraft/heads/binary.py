"""Binary logistic regressions over the same rows, solved together: the solver behind the multilabel head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_STEPS = 5000
_KEPT = 1e-10  # of the largest eigenvalue; below it there is nothing but rounding


def principal(scaled: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows (N, D) in the basis of their principal axes, (N, R), and the basis (D, R).

    Neither the loss nor the penalty of an L2-regularised linear fit sees a rotation, and its solution has no
    component outside the span of its rows (representer theorem; Kimeldorf and Wahba, 1971): the fit in this
    basis is the fit, in at most min(N, D) dimensions that do not correlate.
    """
    exact = scaled.astype(np.float64)
    wide = len(exact) < exact.shape[1]
    values, vectors = np.linalg.eigh(exact @ exact.T if wide else exact.T @ exact)
    kept = values > max(values[-1], 0.0) * _KEPT
    vectors = np.ascontiguousarray(vectors[:, kept])
    if not wide:
        return exact @ vectors, vectors
    spread = np.sqrt(values[kept])
    return vectors * spread, exact.T @ (vectors / spread)


@dataclass
class Binary:
    """Minimises, for each label, mean binary cross-entropy + strength / 2 * |weights|^2; biases are free.

    The labels have nothing to do with each other; solved together they share the two large matrix products
    of each step. The solution for one strength is where the search for the next starts.

    Attributes:
        rows: (N, R), float32 or float64, along their principal axes; decides the precision of the products.
        signs: (N, L) 1 where an image has the label, -1 where it has not, 0 where nothing is known.
        accuracy: how far above its least value the objective of a label may stay, nats.
    """

    rows: NDArray[np.floating[Any]]
    signs: NDArray[np.float64]
    accuracy: float
    _point: NDArray[np.float64] = field(init=False)
    _spread: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._spread = np.square(self.rows, dtype=np.float64).mean(axis=0)
        yes, no = ((self.signs == sign).sum(axis=0) for sign in (1, -1))
        prior = np.where(self.learnable, np.log(np.maximum(yes, 1) / np.maximum(no, 1)), 0.0)
        self._point = np.zeros((self.rows.shape[1] + 1, self.signs.shape[1]))
        self._point[-1] = prior

    @property
    def learnable(self) -> NDArray[np.bool_]:
        """(L,) whether some rows have the label and some have not; the others get weights and bias 0."""
        result: NDArray[np.bool_] = np.any(self.signs > 0, axis=0) & np.any(self.signs < 0, axis=0)
        return result

    def solve(
        self, strengths: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights (R, M) and bias (M,) of M labels at the minimum.

        The search runs in units in which the objective curves about equally in all directions: the curvature
        along a principal axis is the mean of p (1 - p) times the rows' mean square there, plus the strength.
        A gradient g leaves at most |g|^2 / (2 curvature) to gain, which sets the tolerance.

        Args:
            strengths: (M,) of the labels.
            labels: (M,) their positions.
        """
        from scipy.optimize import minimize

        signs = self.signs[:, labels] * self.learnable[labels]
        counts = np.maximum((signs != 0).sum(axis=0), 1)
        start = self._point[:, labels]
        scores = self.rows @ start[:-1].astype(self.rows.dtype) + start[-1]
        unsure = (np.exp(-2 * np.logaddexp(0, -np.abs(scores)) - np.abs(scores)) * (signs != 0)).sum(axis=0) / counts
        unsure = np.maximum(unsure, 1e-6)
        curvature = np.vstack([self._spread[:, None] * unsure + strengths, unsure])
        units = 1 / np.sqrt(curvature)
        tolerance = float(np.sqrt(2 * self.accuracy / len(start)))
        result = minimize(
            _loss_and_gradient,
            (start / units).ravel(),
            args=(self.rows, signs, 1 / counts, strengths, units),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": tolerance, "ftol": self.accuracy * 1e-1, "maxiter": _MAX_STEPS},
        )
        point = result.x.reshape(start.shape) * units
        self._point[:, labels] = point
        return point[:-1], point[-1]


def _loss_and_gradient(
    flat: NDArray[np.float64],
    rows: NDArray[np.floating[Any]],
    signs: NDArray[np.float64],
    shares: NDArray[np.float64],
    strengths: NDArray[np.float64],
    units: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """The sum over labels of the objective at `flat`, weights (R, M) over bias in `units`, and its gradient."""
    point = flat.reshape(units.shape) * units
    margins = signs * ((rows @ point[:-1].astype(rows.dtype)).astype(np.float64) + point[-1])
    losses = np.logaddexp(0, -margins)
    slopes = -signs * np.exp(-margins - losses) * shares  # the probability of the other answer
    gradient = np.empty_like(point)
    gradient[:-1] = rows.T @ slopes.astype(rows.dtype) + strengths * point[:-1]
    gradient[-1] = slopes.sum(axis=0)
    total = (losses * (signs != 0)).sum(axis=0) @ shares
    gradient *= units
    return float(total + 0.5 * (strengths * np.square(point[:-1]).sum(axis=0)).sum()), gradient.ravel()
