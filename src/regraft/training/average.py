"""The exponential moving average of a model's weights (Polyak and Juditsky 1992), which often predicts better."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

DECAY = 0.99
"""Remembers about a hundred steps, which suits the few hundred steps of a small data set."""


def start_average(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights, to be updated."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, step: int, decay: float = DECAY) -> None:
    """Move the average towards the weights; early steps count more, so that the start is forgotten.

    Args:
        average: from `start_average`; changed in place.
        model: the weights after step `step`.
        step: 0-based.
        decay: the share that stays, reached after some steps.
    """
    share = min(decay, (1 + step) / (10 + step))
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, 1 - share)
        else:
            average[name].copy_(tensor)


@contextlib.contextmanager
def using(average: dict[str, Tensor] | None, model: nn.Module) -> Iterator[None]:
    """The model with the averaged weights inside, with its own again after."""
    if average is None:
        yield
        return
    own = start_average(model)
    model.load_state_dict(average)
    try:
        yield
    finally:
        model.load_state_dict(own)
