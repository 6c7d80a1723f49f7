"""How long a step takes, measured without learning anything by it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from regraft.training import state as states
from regraft.training.batches import evaluation_batches, training_batches
from regraft.training.objectives import on_device

if TYPE_CHECKING:
    from torch import nn

    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.plan import Planned, Settings

_STEPS = 2


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds.

    Attributes:
        opening: that the phase took to begin.
        step: of one update.
        evaluation: of one batch of validation images.
    """

    opening: float
    step: float
    evaluation: float


def time_steps(model: nn.Module, objective: Objective, planned: Planned, settings: Settings, engine: Engine) -> Spent:
    """Run a few steps without updating a weight, and put buffers and random states back."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    randoms = states.random_states()
    began = time.perf_counter()
    with planned.open() as phase:
        opened = time.perf_counter() - began
        model.train()
        took = []
        with engine.fabric.autocast():
            batches = training_batches(phase.train, batch=settings.batch, seed=settings.seed, epoch=0)
            for number, batch in enumerate(batches):
                began = time.perf_counter()
                loss, _ = objective(model, on_device(batch, engine.device, phase.prepare))
                engine.fabric.backward(loss)
                took.append(time.perf_counter() - began)
                if number == _STEPS:
                    break
        model.zero_grad(set_to_none=True)
        model.eval()
        began = time.perf_counter()
        with torch.inference_mode(), engine.fabric.autocast():
            model(phase.prepare(next(evaluation_batches(phase.val, batch=settings.batch)).inputs.to(engine.device)))
        evaluation = time.perf_counter() - began
    for name, buffer in model.named_buffers():
        buffer.copy_(kept[name])
    states.set_random_states(randoms)
    # The first step makes the kernels.
    return Spent(opened, sum(took[1:]) / len(took[1:]) if len(took) > 1 else took[0], evaluation)
