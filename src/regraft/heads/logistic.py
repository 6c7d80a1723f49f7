"""Multinomial logistic regression along a path of strengths: the solver behind the linear probe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_STEPS, _MAX_TURNS, _HALVINGS = 100, 300, 20
# A step is good enough when its last turn, times the number of turns, gained less than this share of all that it
# gained, or of the accuracy; columns that together promise less than this share of the accuracy stay out of it.
_FORCING, _SETTLED, _IDLE = 0.3, 0.03, 0.03
_FLAT = 1e-6  # of the largest curvature: directions of classes that are flatter count as that flat


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

    Truncated Newton steps (Dembo and Steihaug, 1983), each found by preconditioned conjugate gradients. The
    preconditioner takes curvature to be the rows' mean square along a column times the classes' mean curvature,
    which is nearly so where columns hardly correlate: rows come along principal axes, their own or those of similar
    rows. The search for one strength starts on the line through the solutions of the two before, if that is lower
    than the last one: solutions bend little from one strength to the next.

    Attributes:
        rows: (N, D), float32 or float64; decides the precision of scores and gradients. Curvature, which steers
            the steps but not where they end, is always in float32.
        targets: (N,) class index of each row, every class present.
        n_classes: K.
        accuracy: how far above its least value the objective may stay, nats, as the last step estimates it.
    """

    rows: NDArray[np.floating[Any]]
    targets: NDArray[np.int64]
    n_classes: int
    accuracy: float
    _quick: NDArray[np.float32] = field(init=False)
    _spread: NDArray[np.float64] = field(init=False)
    _found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(init=False)

    def __post_init__(self) -> None:
        n_rows, width = self.rows.shape
        self._quick = self.rows.astype(np.float32, copy=False)
        self._spread = np.square(self.rows, dtype=np.float64).mean(axis=0)
        self._found = [(np.zeros((width + 1, self.n_classes)), np.zeros((n_rows, self.n_classes)))]

    @property
    def work(self) -> int:
        """Multiplications in one product of rows and weights, of which a turn takes two."""
        return self.rows.size * self.n_classes

    def solve(self, strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights (D, K) and bias (K,) at the minimum for `strength`."""
        here = self._start(strength)
        for _ in range(_MAX_STEPS):
            gradient = self._gradient(here, strength)
            step = _newton_step(self._quick, here.likely, gradient, self._spread, strength, self.accuracy)
            slope = float(np.vdot(gradient, step))
            there = self._walk(here, step, slope, strength)
            if there is None:  # nothing but rounding is left to gain
                break
            here = there
            if -slope / 2 <= self.accuracy:
                break
        self._found = [*self._found[-1:], (here.point, here.scores)]
        return here.point[:-1], here.point[-1]

    def _start(self, strength: float) -> _Place:
        """The lower of the last solution, and where the last two point to."""
        last = self._found[-1]
        places = [self._place(*last, strength)]
        if len(self._found) > 1:
            point, scores = (2 * new - old for old, new in zip(*self._found, strict=True))
            places.append(self._place(point, scores, strength))
        return min(places, key=lambda place: place.value)

    def _place(self, point: NDArray[np.float64], scores: NDArray[np.float64], strength: float) -> _Place:
        likely = scores - scores.max(axis=1, keepdims=True)
        own = likely[np.arange(len(likely)), self.targets]
        np.exp(likely, out=likely)
        total = likely.sum(axis=1, keepdims=True)
        likely /= total
        loss = (np.log(total).sum() - own.sum()) / len(likely)
        return _Place(point, scores, likely, float(loss + 0.5 * strength * np.vdot(point[:-1], point[:-1])))

    def _gradient(self, here: _Place, strength: float) -> NDArray[np.float64]:
        slopes = here.likely.copy()
        slopes[np.arange(len(slopes)), self.targets] -= 1
        slopes /= len(slopes)
        gradient = np.empty_like(here.point)
        gradient[:-1] = self.rows.T @ slopes.astype(self.rows.dtype) + strength * here.point[:-1]
        gradient[-1] = slopes.sum(axis=0)
        return gradient

    def _walk(self, here: _Place, step: NDArray[np.float64], slope: float, strength: float) -> _Place | None:
        """Along the step, all the way or half as far until the objective falls (Armijo, 1966); None: it does not."""
        change = (self.rows @ step[:-1].astype(self.rows.dtype)).astype(np.float64) + step[-1]
        share = 1.0
        for _ in range(_HALVINGS):
            there = self._place(here.point + share * step, here.scores + share * change, strength)
            if there.value <= here.value + 1e-4 * share * slope:
                return there
            share /= 2
        return None


@dataclass(frozen=True)
class _Place:
    """Where a search is.

    Attributes:
        point: (D + 1, K) weights over bias.
        scores: (N, K) of the rows.
        likely: (N, K) their probabilities.
        value: the objective, nats.
    """

    point: NDArray[np.float64]
    scores: NDArray[np.float64]
    likely: NDArray[np.float64]
    value: float


def _newton_step(
    rows: NDArray[np.float32],
    likely: NDArray[np.float64],
    gradient: NDArray[np.float64],
    spread: NDArray[np.float64],
    strength: float,
    accuracy: float,
) -> NDArray[np.float64]:
    """The step (D + 1, K) to the least value of the objective's quadratic model, by conjugate gradients.

    When they end is the rule of Nash and Sofer (1990). Principal axes come in ascending order, so that the columns
    that promise little are the first ones.
    """
    scale, kinds = _preconditioner(likely, spread, strength)
    rest = (-gradient).astype(np.float32)
    shares = likely.astype(np.float32)
    near = (rest @ kinds * scale) @ kinds.T
    idle = np.cumsum((rest * near).sum(axis=1)[:-1]) / 2 <= _IDLE * accuracy
    first = int(np.argmin(idle)) if not idle.all() else len(idle)
    rows, scale, rest, near = rows[:, first:], scale[first:], rest[first:], near[first:]
    step, way = np.zeros_like(rest), near.astype(np.float32)  # a copy
    size, gained = float(np.vdot(rest, near)), 0.0
    for turn in range(1, _MAX_TURNS + 1):
        bent = _curved(rows, shares, way, strength)
        bend = float(np.vdot(way, bent))
        if size <= 0 or bend <= 0:
            break
        length = np.float32(size / bend)
        step += length * way
        rest -= length * bent
        gain = size**2 / bend / 2
        gained += gain
        if turn * gain <= max(_FORCING * gained, _SETTLED * accuracy):
            break
        near = (rest @ kinds * scale) @ kinds.T
        size, before = float(np.vdot(rest, near)), size
        way *= np.float32(size / before)
        way += near
    whole = np.zeros_like(gradient)
    whole[first:] = step
    return whole


def _curved(
    rows: NDArray[np.float32], likely: NDArray[np.float32], way: NDArray[np.float32], strength: float
) -> NDArray[np.float32]:
    """The objective's second derivative times `way` (D + 1, K)."""
    change = rows @ way[:-1]
    change += way[-1]
    change *= likely
    change -= likely * change.sum(axis=1, keepdims=True)
    change /= np.float32(len(rows))
    bent = np.empty_like(way)
    np.matmul(rows.T, change, out=bent[:-1])
    bent[:-1] += np.float32(strength) * way[:-1]
    bent[-1] = change.sum(axis=0)
    return bent


def _preconditioner(
    likely: NDArray[np.float64], spread: NDArray[np.float64], strength: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The inverse of about the second derivative, which takes rows and probabilities to be independent.

    Classes that are taken for each other curve together: the classes' part is the mean of diag(p) - p p^T, along its
    own axes. Of these the first is the sum of all classes, along which the loss is flat and a bias does not move.
    """
    values, vectors = np.linalg.eigh(np.diag(likely.mean(axis=0)) - likely.T @ likely / len(likely))
    values = np.maximum(values, _FLAT * max(values[-1], np.finfo(np.float32).tiny))
    inverse = 1 / np.vstack([spread[:, None] * values + strength, values])
    inverse[-1, 0] = 0.0
    return inverse.astype(np.float32), vectors.astype(np.float32)
