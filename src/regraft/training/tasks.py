"""Several tasks learnt at once: one head over all outputs, a loss for each task's columns, and their weighted sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from regraft.losses.binary_cross_entropy import binary_cross_entropy
from regraft.losses.cross_entropy import cross_entropy
from regraft.losses.half_square import half_square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from regraft.losses.uncertainty import UncertaintyWeights
    from regraft.training.batches import Batch
    from regraft.training.objectives import Objective


@dataclass(frozen=True)
class Aim:
    """One task of a training.

    Attributes:
        name: the task.
        kind: "classes", "multilabel" or "regression".
        columns: its outputs among those of the model.
        targets: of every example, by row: (N,) int64 with -1, (N, L) int8 with -1, or (N, R) float32 with NaN, where
            nothing is known; numbers standardised.
        weights: (K,) of the classes, or None.
    """

    name: str
    kind: str
    columns: slice
    targets: Tensor
    weights: Tensor | None = None


def tasks(
    aims: Sequence[Aim],
    *,
    smoothing: float = 0.0,
    mixup: float = 0.0,
    weighing: UncertaintyWeights | None = None,
) -> Objective:
    """The mean over the tasks of their losses, or with `weighing` of what it makes of them.

    A task's loss is the mean over the images of the batch of which something is known; a task of which nothing is
    known adds nothing. The logs say what each task added.

    Args:
        aims: the tasks.
        smoothing: of classes, see `objectives.classification`.
        mixup: likewise; losses are mixed as the images are.
        weighing: learnt weights, whose parameters the optimiser must be given; None: all alike.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, device = batch.inputs, batch.inputs.device
        truths = [(1.0, batch.rows)]
        if mixup > 0 and len(batch) > 1:
            share = float(torch.distributions.Beta(mixup, mixup).sample())
            partner = torch.randperm(len(batch))
            inputs = share * inputs + (1 - share) * inputs[partner.to(device)]
            truths = [(share, batch.rows), (1 - share, batch.rows[partner])]
        outputs = model(inputs)
        total, logs = outputs.float().sum() * 0.0, {}  # all outputs are in it, so all get a gradient
        for position, aim in enumerate(aims):
            losses = [
                share * loss
                for share, rows in truths
                if (loss := task_loss(aim, outputs[:, aim.columns], rows, smoothing)) is not None
            ]
            added = total.new_zeros(())
            if losses:
                loss = torch.stack(losses).sum()
                added = (loss if weighing is None else weighing(position, loss)) / len(aims)
            total = total + added
            logs[f"task/{aim.name}"] = added.detach()
        return total, logs

    return objective


def task_loss(aim: Aim, outputs: Tensor, rows: Tensor, smoothing: float = 0.0) -> Tensor | None:
    """The loss of one task, or None where nothing is known of it.

    Args:
        aim: the task.
        outputs: (B, K) of its columns.
        rows: (B,) which examples these are.
        smoothing: of classes.
    """
    targets = aim.targets[rows].to(outputs.device)
    if aim.kind == "multilabel":
        return binary_cross_entropy(outputs, targets)
    if aim.kind == "regression":
        return half_square(outputs, targets)
    known = targets >= 0
    if not bool(known.any()):
        return None
    weights = None if aim.weights is None else aim.weights.to(outputs.device)
    return cross_entropy(outputs[known], targets[known], weights=weights, smoothing=smoothing)
