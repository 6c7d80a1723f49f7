"""Binary cross-entropy of several labels an image, some of them not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor | None:
    """Mean over all known cells, in nats, computed in float32; None where nothing is known.

    Args:
        scores: (B, L) log-odds.
        targets: (B, L) of 1 (has the label), 0 (has not) and -1 (not known).
    """
    known = targets >= 0
    if not bool(known.any()):
        return None
    return functional.binary_cross_entropy_with_logits(scores.float()[known], targets[known].float())
