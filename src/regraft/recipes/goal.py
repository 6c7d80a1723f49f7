"""What a training is to learn: targets, objective, and how its weights are judged. The rest is the same for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.recipes.resolve import class_weighting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from numpy.typing import NDArray
    from torch import nn

    from regraft.data.manifest import Manifest
    from regraft.heads.linear_probe import LinearProbe
    from regraft.recipes.begun import Begun
    from regraft.recipes.course import Course
    from regraft.recipes.run import Run
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.plan import Judge, Trained


@dataclass(frozen=True)
class Goal:
    """What a training is to learn.

    Attributes:
        outputs: K of the head.
        targets: a split -> (N,) int64, the classes of its images (0 where the objective knows the targets by row).
        objective: the label smoothing -> what is learnt.
        start: the linear head to start from, or None to start with zeros.
        judge: outputs for the validation images and their targets -> metrics; None: those of one class an image.
        metric: what the best epoch is chosen by.
        weighing: parameters besides the model's that the objective learns, or None.
        notes: sentences that the user should see.
    """

    outputs: int
    targets: Callable[[str], NDArray[np.int64]]
    objective: Callable[[float], Objective]
    start: LinearProbe | None
    metric: str
    judge: Judge | None = None
    weighing: nn.Module | None = None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Matter:
    """What of the way from images to a run depends on what is learnt.

    Attributes:
        divide: the training part and a share -> the same with about that share as val.
        probe: heads on the frozen features, to start from and to be compared with.
        goal: what is to be learnt, from that.
        finish: the trained weights measured and written; the last arguments are the probe and the training's folder.
        identity: a hash of all images and what is known of them.
    """

    divide: Callable[[Manifest, float, int], Manifest]
    probe: Callable[[Begun], Any]
    goal: Callable[[Begun, Any], Goal]
    finish: Callable[[Begun, Course, Engine, Trained, Any, Path], Run]
    identity: Callable[[Manifest], str]


def one_class(asked: SimpleNamespace, manifest: Manifest, start: LinearProbe | None) -> Goal:
    """One class an image.

    Args:
        asked: the options of `train`.
        manifest: with a train and a val part.
        start: the linear probe, where the strategy starts from it.
    """
    import torch

    def targets(split: str) -> NDArray[np.int64]:
        return np.array(manifest.split(split).targets(), np.int64)

    weights, ratio = class_weighting(asked.class_weights, targets("train"), len(manifest.classes))
    notes = ""
    if weights is not None:
        notes = (
            f"the largest class has {ratio:.1f} times as many training images as the smallest: classes are weighted"
            " by their rarity (--class-weights none does not)"
        )

    def objective(smoothing: float) -> Any:
        from regraft.training.objectives import classification

        own = None if weights is None else torch.from_numpy(weights).float()
        return classification(weights=own, smoothing=smoothing, mixup=asked.mixup)

    return Goal(len(manifest.classes), targets, objective, start, asked.metric, notes=(notes,) if notes else ())
