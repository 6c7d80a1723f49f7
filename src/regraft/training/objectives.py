"""Objectives: `(model, batch) -> (loss, logs)`, which is all that the loop knows of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from regraft.losses.cross_entropy import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.training.batches import Batch

Objective = Callable[["nn.Module", "Batch"], "tuple[Tensor, dict[str, Tensor]]"]


def classification(*, weights: Tensor | None = None, smoothing: float = 0.0, mixup: float = 0.0) -> Objective:
    """Cross-entropy of one class an image.

    Args:
        weights: (K,) of the classes, or None.
        smoothing: the share of the truth that is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567).
        mixup: alpha of the beta distribution by which pairs of images are mixed (Zhang et al. 2018,
            arXiv 1710.09412); 0 mixes nothing.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own = None if weights is None else weights.to(batch.inputs.device)
        if mixup > 0 and len(batch) > 1:
            share = float(torch.distributions.Beta(mixup, mixup).sample())
            partner = torch.randperm(len(batch)).to(batch.inputs.device)
            mixed = share * batch.inputs + (1 - share) * batch.inputs[partner]
            logits = model(mixed)
            other = batch.targets[partner]
            loss = cross_entropy(logits, batch.targets, weights=own, smoothing=smoothing, other=other, share=share)
        else:
            logits = model(batch.inputs)
            loss = cross_entropy(logits, batch.targets, weights=own, smoothing=smoothing)
        right = (logits.detach().argmax(1) == batch.targets).float().mean()
        return loss, {"accuracy": right}

    return objective


def on_device(batch: Batch, device: torch.device, prepare: Callable[[Tensor], Tensor]) -> Batch:
    """The batch where the model is, its inputs as the model takes them."""
    inputs = prepare(batch.inputs.to(device, non_blocking=True))
    return replace(batch, inputs=inputs, targets=batch.targets.to(device, non_blocking=True))
