"""Scaled training rows, and what several heads need of them, computed once, when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.logistic import span
from regraft.heads.scaling import Scaling, learn_scaling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.heads.rows import TrainingRows


@dataclass(frozen=True)
class Space:
    """Rows to learn from and rows held out of them, in one scaling.

    Attributes:
        scaling: learnt from `rows`.
        rows: (N, D) float32, scaled.
        outside: (M, D) float32, the rows held out, scaled likewise; M may be 0.
    """

    scaling: Scaling
    rows: NDArray[np.float32]
    outside: NDArray[np.float32]

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """Inner products (N, N) of the rows."""
        exact = self.rows.astype(np.float64)
        return exact @ exact.T

    @cached_property
    def across(self) -> NDArray[np.float64]:
        """Inner products (M, N) of the rows held out with the rows."""
        return self.outside.astype(np.float64) @ self.rows.astype(np.float64).T

    @cached_property
    def distances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Squared distances (N, N) and (M, N) to the rows."""
        own = np.diagonal(self.gram)
        other = np.square(self.outside, dtype=np.float64).sum(axis=1)
        pairs = ((self.gram, own), (self.across, other))
        among, across = (np.maximum(norms[:, None] + own - 2 * products, 0) for products, norms in pairs)
        return among, across

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """(D, D) the principal axes of the rows, in its columns."""
        axes: NDArray[np.float64] = np.linalg.eigh((self.rows.T @ self.rows).astype(np.float64))[1]
        return axes

    @property
    def narrow(self) -> bool:
        """Whether the span of the rows is worth a rotation into it."""
        return bool(2 * len(self.rows) <= self.rows.shape[1])

    def along(
        self, whole: Space, precision: type[np.floating[Any]]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Rows (N, R) and rows held out (M, R) in a basis in which columns hardly correlate.

        It is the rows' span, where that is much narrower than D, and else the principal axes of the `whole` that
        these rows are a part of, so that one decomposition serves all folds.
        """
        if self.narrow:
            turned, outside = self.turned
            return turned.astype(precision, copy=False), outside
        axes, pair = whole.axes.astype(precision, copy=False), (self.rows, self.outside)
        rows, held_out = (part.astype(precision, copy=False) @ axes for part in pair)
        return rows, held_out

    @cached_property
    def _mix(self) -> NDArray[np.float64] | None:
        """(N, R): the basis of the rows' span is rows.T @ this; None where the span is not worth a rotation."""
        return span(self.gram) if self.narrow else None

    @cached_property
    def turned(self) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """The rows (N, R) and the rows held out (M, R) in the basis of the rows' span; see `logistic.rotate`.

        Where that is not much narrower than D, they come as they are.
        """
        if self._mix is None:
            return self.rows, self.outside
        return self.gram @ self._mix, self.across @ self._mix

    def back(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights (R, P) of the turned rows as weights (D, P) of the scaled features."""
        return weights if self._mix is None else self.rows.T.astype(np.float64) @ (self._mix @ weights)


def space_of(
    rows: TrainingRows, learn: NDArray[np.int64] | None = None, held_out: NDArray[np.int64] | None = None
) -> Space:
    """The space of some of the rows, by default of all, with some held out of it."""
    features = rows.features if learn is None else rows.features[learn]
    scaling = learn_scaling(features, rows.blocks)
    outside = rows.features[:0] if held_out is None else rows.features[held_out]
    return Space(scaling, scaling.single(features), scaling.single(outside))
