"""How far a number measured on a sample may be from the truth: Wilson intervals and the bootstrap."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
_BLOCK = 1 << 18  # weights held at once: 2 MB, which stays in a processor's cache


def wilson(successes: ArrayLike, trials: ArrayLike, *, confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """The score interval of a proportion; sensible at 0, at 1 and for few trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927), without continuity correction.

    Args:
        successes: how many succeeded, any shape.
        trials: of how many, broadcast against `successes`; where it is 0, the interval is 0 to 1.
        confidence: probability that the interval covers the true proportion.

    Returns:
        Array of shape (..., 2): low and high.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    centre = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2) / (n + z2) * np.sqrt(k * (n - k) / np.maximum(n, 1) + z2 / 4)
    low = np.where(k == 0, 0.0, centre - half)
    high = np.where(k == n, 1.0, centre + half)
    bounds: NDArray[np.float64] = np.clip(np.stack([low, high], axis=-1), 0.0, 1.0)
    return bounds


def bootstrap(
    rows: int,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> NDArray[np.float64]:
    """Statistics of resampled data: rows drawn with replacement, as often as there are rows.

    A resample is given as weights, how often each row was drawn (multinomial), so that a statistic works
    on many resamples with one matrix product. Memory stays bounded however many rows there are.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).

    Args:
        rows: N, number of rows in the data.
        statistic: takes weights (R, N) and returns (R, M) statistics.
        seed: of the resampling; equal seeds give equal numbers.
        resamples: how many resamples.

    Returns:
        Array of shape (resamples, M).
    """
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // rows)
    parts = []
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, rows, size=(count, rows))
        drawn += np.arange(count)[:, None] * rows
        weights = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        parts.append(statistic(weights.astype(np.float64)))
    return np.concatenate(parts)


def percentiles(samples: NDArray[np.floating[Any]], *, confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """The percentile interval of resampled statistics: samples (R, M) to (M, 2)."""
    tail = (1 - confidence) / 2
    return np.quantile(samples.astype(np.float64), [tail, 1 - tail], axis=0).T
