"""What a model said about images, beside what is true of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (N, K) to probabilities (N, K), rows sum to one."""
    with np.errstate(over="ignore", invalid="ignore"):  # further apart than float64 reaches: probability 0
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


@dataclass(frozen=True)
class Predictions:
    """Logits for N images over K classes.

    Attributes:
        paths: where each image is.
        keys: SHA-256 of each file's bytes.
        classes: the K class names.
        targets: (N,) true class index, -1 where unknown.
        logits: (N, K) float64; their softmax are the probabilities.
    """

    paths: tuple[str, ...]
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    logits: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)

    def probabilities(self) -> NDArray[np.float64]:
        """(N, K), rows sum to one."""
        return softmax(self.logits)

    def predicted(self) -> NDArray[np.int64]:
        """(N,) index of the most probable class; ties go to the first."""
        result: NDArray[np.int64] = self.logits.argmax(axis=1)
        return result
