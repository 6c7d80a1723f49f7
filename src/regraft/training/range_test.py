"""The learning-rate range test: train while the rate rises, and watch the loss (Smith 2015, arXiv 1506.01186)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch

from regraft.training.batches import training_batches
from regraft.training.objectives import on_device
from regraft.training.parameters import make_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from regraft.training.batches import Batch
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.plan import Planned, Settings

_BLOWN = 4.0
"""A loss so many times the lowest one has nothing more to tell."""


def range_test(
    model: nn.Module,
    objective: Objective,
    planned: Planned,
    settings: Settings,
    engine: Engine,
    *,
    lr: float,
    low: float,
    high: float,
    steps: int,
    progress: Callable[[int, int], None],
) -> tuple[list[float], list[float]]:
    """Train for a few steps, each at a higher rate, and note the loss before each.

    Args:
        model: its weights are spoilt by it.
        objective: what is learnt.
        planned: the phase to test.
        settings: batch, optimiser and seed.
        engine: where.
        lr: the rate that the phase's groups were made for; all of them are scaled together.
        low: first rate.
        high: last rate.
        steps: number of rates, in equal ratios.
        progress: told steps done, and in all.

    Returns:
        Rates and losses; fewer than `steps` where the loss exploded.
    """
    rates, losses = [], []
    with planned.open() as phase:
        optimiser = make_optimiser(settings.optimiser, phase.groups)
        running, stepper = engine.setup(model, optimiser)
        model.train()
        batches = _endless(phase.train, settings)
        for number in range(steps):
            rate = low * (high / low) ** (number / max(1, steps - 1))
            for group in stepper.param_groups:
                group["lr"] = group["peak"] * rate / lr
            stepper.zero_grad(set_to_none=True)
            loss, _ = objective(running, on_device(next(batches), engine.device, phase.prepare))
            rates.append(rate)
            losses.append(float(loss.detach()))
            progress(number + 1, steps)
            if not math.isfinite(losses[-1]) or losses[-1] > _BLOWN * min(losses):
                break
            engine.fabric.backward(loss)
            if not all(
                torch.isfinite(p.grad).all() for g in stepper.param_groups for p in g["params"] if p.grad is not None
            ):
                break
            stepper.step()
    return rates, losses


def _endless(examples: object, settings: Settings) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from training_batches(examples, batch=settings.batch, seed=settings.seed, epoch=epoch)  # type: ignore[arg-type]
