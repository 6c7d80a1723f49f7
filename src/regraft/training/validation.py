"""Validation inside a training: logits of all images, however many processes compute them, and numbers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from regraft.training.batches import evaluation_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from regraft.training.batches import Batch, Examples
    from regraft.training.engine import Engine

METRICS = {"accuracy": 1, "balanced_accuracy": 1, "macro_f1": 1, "loss": -1, "score": 1, "f1": 1}
"""What the best epoch may be chosen by, and whether more (1) or less (-1) is better; "score" is of several tasks, "f1"
of the changed pixels."""


def logits_of(
    model: nn.Module,
    examples: Examples,
    prepare: Callable[[Tensor], Tensor],
    engine: Engine,
    *,
    batch: int,
    workers: int,
    digest: Callable[[Tensor, Batch], Tensor] | None = None,
) -> NDArray[np.float32]:
    """Logits (N, K) of all examples, or what `digest` makes of them, on every process.

    Logits of whole pictures would fill the memory: `digest` turns those of a batch into one row (B, M) an example.

    The images are cut into the same batches however many processes divide them, and each process adds its rows to
    zeros, so the numbers do not depend on how many there are.
    """
    model.eval()
    found: Tensor | None = None
    _share_buffers(model, engine)

    def rows_of(part: Batch) -> Tensor:
        logits = model(prepare(part.inputs.to(engine.device))).float()
        return logits if digest is None else digest(logits, part)

    with torch.inference_mode(), engine.fabric.autocast():
        for part in evaluation_batches(examples, batch=batch, rank=engine.rank, world=engine.world, workers=workers):
            rows = rows_of(part)
            if found is None:
                found = torch.zeros((len(examples), rows.shape[1]), device=engine.device, dtype=rows.dtype)
            found[part.rows.to(engine.device)] = rows
        if found is None:  # more processes than batches
            found = torch.zeros_like(rows_of(next(evaluation_batches(examples, batch=1))))
            found = found.expand(len(examples), -1).contiguous()
    model.train()
    result: NDArray[np.float32] = engine.sum(found.clone()).cpu().numpy()
    return result


def _share_buffers(model: nn.Module, engine: Engine) -> None:
    """Each process has seen other batches, so its running statistics are its own: all take those of the first."""
    if engine.world == 1:
        return
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)


def measure(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, float]:
    """The metrics of one class an image; means over classes leave out those without an image."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    predicted = scores.argmax(1)
    classes = scores.shape[1]
    support = np.bincount(targets, minlength=classes)
    right = np.bincount(targets[predicted == targets], minlength=classes)
    said = np.bincount(predicted, minlength=classes)
    there = support > 0
    return {
        "loss": float(-scores[np.arange(len(targets)), targets].mean()),
        "accuracy": float((predicted == targets).mean()),
        "balanced_accuracy": float((right[there] / support[there]).mean()),
        "macro_f1": float((2 * right[there] / (support + said)[there]).mean()),
    }


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether a value is strictly better, so that of equal ones the earlier stays; NaN never is."""
    if value != value:  # noqa: PLR0124 - NaN
        return False
    return best is None or METRICS[metric] * value > METRICS[metric] * best
