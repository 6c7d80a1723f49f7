"""Centre features and divide them by a scale that no quiet feature can make small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CHUNK = 4096


@dataclass(frozen=True)
class Scaling:
    """Features x become (x - centre) / scale; over the rows it was learnt from, the mean squared norm is 1.

    A feature's scale is the root of its own variance plus the mean variance of all features. Plain
    standardisation lets a feature that fires on one image in a hundred count as much as any other, and
    breaks on one that never fires; plain centring lets a few loud features drown the rest. The sum stands
    between the two, and in cross-validation was never far from the better of them. As a row's norm depends
    on neither the number nor the unit of the features, one grid of strengths serves every backbone.

    Attributes:
        centre: (D,) float64.
        scale: (D,) float64, positive.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) scaled, in float64, so that a large mean costs no digits."""
        scaled: NDArray[np.float64] = (features - self.centre) / self.scale
        return scaled

    def single(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same in float32, computed in chunks: what fits work on."""
        scaled = np.empty(features.shape, np.float32)
        for start in range(0, len(features), _CHUNK):
            scaled[start : start + _CHUNK] = self(features[start : start + _CHUNK])
        return scaled

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For safetensors, inside a head's arrays."""
        return {"centre": self.centre, "scale": self.scale}


def learn_scaling(features: NDArray[np.float32], blocks: Sequence[int] = ()) -> Scaling:
    """Learn centre and scale from training features (N, D); features that never vary are harmless.

    Args:
        features: (N, D).
        blocks: widths of the features of several backbones lying side by side. Each block is scaled on its own,
            to an equal share of the mean squared norm of 1, whatever its unit and width. None: one block.
    """
    centre = features.mean(axis=0, dtype=np.float64)
    variance = np.zeros_like(centre)
    for start in range(0, len(features), _CHUNK):
        variance += np.square(features[start : start + _CHUNK] - centre).sum(axis=0)
    variance /= len(features)
    parts = np.split(variance, np.cumsum(blocks[:-1], dtype=np.int64))
    varying = sum(bool(part.any()) for part in parts)
    return Scaling(centre, np.concatenate([_softened(part, varying) for part in parts]))


def _softened(variance: NDArray[np.float64], n_blocks: int) -> NDArray[np.float64]:
    """The scale of one block's features, with which its rows have a mean squared norm of 1 / n_blocks."""
    if variance.sum() == 0:
        return np.ones_like(variance)
    softened = variance + variance.mean()
    scale: NDArray[np.float64] = np.sqrt(softened * (variance / softened).sum() * n_blocks)
    return scale
