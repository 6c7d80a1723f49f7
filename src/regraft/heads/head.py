"""What every head is: features in, logits out, arrays and settings to save; no pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Head(Protocol):
    """A fitted head. `softmax(logits)` are its calibrated probabilities.

    Predictions are computed by our own few lines of numpy from `arrays`, before saving and after loading
    alike, so a loaded head gives identical numbers.
    """

    @property
    def name(self) -> str:
        """The head's word, as in `heads.load`."""
        ...

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric, for safetensors."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything else, as JSON values."""
        ...


@dataclass(frozen=True)
class Fitted:
    """A head and how it was found.

    Attributes:
        head: the fitted head.
        history: one row for each candidate that was compared (JSON values: setting, fold scores, mean).
        chosen: the settings that were chosen, and by what, as JSON values, for the report.
        notes: sentences that the user must see ("strength not chosen: class 'x' has one training image").
    """

    head: Head
    history: list[dict[str, Any]] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def log_softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Logarithm of the softmax over the last axis, stable for large scores."""
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
