"""Weights of several tasks' losses, learnt as the tasks' uncertainty (Kendall et al. 2018, arXiv 1705.07115)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class UncertaintyWeights(nn.Module):
    """Losses of T tasks to one: the sum of exp(-s) * loss + s / 2, with s the log of a task's variance.

    Equations 7 and 10 of the paper, where a squared error comes with its half and the classification's with the
    paper's approximation. At first all variances are 1, which is the plain sum; for losses that stay as they are the
    least value is at exp(s) = 2 * loss, so a task counts the less the larger its loss stays.

    Attributes:
        log_variances: (T,).
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(tasks))

    def forward(self, position: int, loss: Tensor) -> Tensor:
        """What the task with that number adds."""
        own = self.log_variances[position]
        added: Tensor = torch.exp(-own) * loss + own / 2
        return added
