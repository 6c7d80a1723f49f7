"""Half the mean squared error of numbers, some of them not known."""

from __future__ import annotations

import torch


def half_square(told: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    """Half of the mean squared error over all known cells, in float32; None where nothing is known.

    Up to a constant it is the log loss of a normal distribution of variance 1 around what was told, so it lies beside
    cross-entropies (Kendall et al. 2018, arXiv 1705.07115, equation 5).

    Args:
        told: (B, R) numbers.
        targets: (B, R) true ones, in the same unit; NaN where not known.
    """
    known = torch.isfinite(targets)
    if not bool(known.any()):
        return None
    return 0.5 * (told.float()[known] - targets[known].float()).square().mean()
