"""Which backbone is ahead, and which of them the images cannot tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.intervals import bootstrap, percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranks:
    """Of B candidates by a loss that each image gives; 95 % intervals.

    Attributes:
        mean: (B,) mean loss.
        interval: (B, 2) of the mean loss.
        rank: (B,) 1 is the least loss.
        rank_interval: (B, 2) ranks in resampled data.
        behind: (B, 2) of the mean loss less that of the best, image by image.
        tied: (B,) whether that interval holds 0: the images cannot tell the candidate from the best.
    """

    mean: NDArray[np.float64]
    interval: NDArray[np.float64]
    rank: NDArray[np.int64]
    rank_interval: NDArray[np.int64]
    behind: NDArray[np.float64]
    tied: NDArray[np.bool_]


def rank_by_loss(losses: NDArray[np.float64], units: NDArray[np.integer[Any]], *, seed: int) -> Ranks:
    """Rank candidates by mean loss; the same resamples for all, so what is hard for all of them cancels.

    Source of the intervals: the bootstrap's percentiles (`evaluation.intervals`), over units of images.

    Args:
        losses: (B, N) loss of each image under each candidate, lower is better.
        units: (N,) images of one unit (a group, identical files) are drawn together.
        seed: of the resampling.
    """
    _, unit = np.unique(units, return_inverse=True)
    n_units = int(unit.max()) + 1
    sizes = np.bincount(unit)
    sums = np.stack([np.bincount(unit, row) for row in losses], axis=1)
    mean = losses.mean(axis=1)
    best = int(mean.argmin())

    def means(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = (weights @ sums) / (weights @ sizes)[:, None]
        return result

    drawn = bootstrap(n_units, means, seed=seed)
    behind = percentiles(drawn - drawn[:, [best]])
    ranks = 1 + (drawn[:, None, :] < drawn[:, :, None]).sum(axis=2)
    within = np.quantile(ranks, [0.025, 0.975], axis=0, method="inverted_cdf").T
    order = np.argsort(mean, kind="stable")
    rank = np.empty(len(mean), np.int64)
    rank[order] = np.arange(1, len(mean) + 1)
    return Ranks(mean, percentiles(drawn), rank, within.astype(np.int64), behind, behind[:, 0] <= 0)
