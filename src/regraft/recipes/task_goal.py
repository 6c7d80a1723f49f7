"""Several tasks as what one training is to learn: its targets, where its head starts, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import OptionError
from regraft.heads.linear_probe import LinearProbe
from regraft.heads.mlp import Perceptron
from regraft.heads.multilabel import Multilabel
from regraft.heads.ridge import Ridge
from regraft.heads.scaling import Scaling
from regraft.heads.tasks import TaskHeads, TaskPart
from regraft.recipes.goal import Goal
from regraft.recipes.resolve import class_weighting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import SimpleNamespace

    from numpy.typing import NDArray

    from regraft.data.task_table import TaskData
    from regraft.data.tasks import Task
    from regraft.training.objectives import Objective
    from regraft.training.plan import Judge
    from regraft.training.tasks import Aim


@dataclass(frozen=True)
class Columns:
    """One task's place among the outputs of a head that all tasks share, and the unit of its numbers there.

    Attributes:
        task: which.
        where: its columns.
        present: indices of the classes, labels or numbers of which something is known in the training part.
        mean: (R,) of the training part's numbers; 0 for other kinds.
        spread: (R,) their standard deviations; 1 for other kinds.
    """

    task: Task
    where: slice
    present: NDArray[np.int64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]


def columns_of(train: TaskData) -> tuple[Columns, ...]:
    """The places of all tasks side by side, as the training part has them."""
    found, start = [], 0
    for task, targets in zip(train.tasks, train.targets, strict=True):
        width = len(task.classes)
        mean, spread, present = np.zeros(width), np.ones(width), np.arange(width)
        if task.kind == "regression":
            mean, spread = np.nanmean(targets, axis=0), np.nanstd(targets, axis=0)
            spread = np.where(spread > 0, spread, 1.0)
        elif task.kind == "classes":
            present = np.unique(targets[targets >= 0])
        found.append(Columns(task, slice(start, start + width), present, mean, spread))
        start += width
    return tuple(found)


def tasks_goal(asked: SimpleNamespace, data: TaskData, start: TaskHeads | None) -> Goal:
    """All tasks at once.

    Args:
        asked: the options of `train`.
        data: with a train and a val part.
        start: the heads on frozen features, where the strategy starts from them.

    Raises:
        OptionError: a metric that several tasks do not have.
    """
    from regraft.losses.uncertainty import UncertaintyWeights

    if asked.metric not in {"accuracy", "loss"}:
        raise OptionError(
            f"metric {asked.metric} is of one task; with several the best epoch is chosen by the mean of their scores,"
            " or by --metric loss"
        )
    parts = {split: data.of(data.manifest.split(split)) for split in ("train", "val")}
    columns = columns_of(parts["train"])
    aims, notes = _aims(asked, columns, parts["train"])
    weighing = UncertaintyWeights(len(aims)) if asked.task_weights == "uncertainty" else None

    def objective(smoothing: float) -> Objective:
        from regraft.training.tasks import tasks

        return tasks(aims, smoothing=smoothing, mixup=asked.mixup, weighing=weighing)

    return Goal(
        columns[-1].where.stop,
        lambda split: np.zeros(len(parts[split].manifest), np.int64),
        objective,
        None if start is None else together(start, columns),
        "loss" if asked.metric == "loss" else "score",
        _judge(columns, parts["val"]),
        weighing,
        tuple(notes),
    )


def _aims(asked: SimpleNamespace, columns: Sequence[Columns], part: TaskData) -> tuple[list[Aim], list[str]]:
    """The tasks as the objective takes them, with weights of classes where they are rare."""
    import torch

    from regraft.training.tasks import Aim

    aims, notes = [], []
    for own, targets in zip(columns, part.targets, strict=True):
        task, weights = own.task, None
        if task.kind == "classes":
            rarity, ratio = class_weighting(asked.class_weights, targets, len(task.classes))
            if rarity is not None:
                weights = torch.from_numpy(rarity).float()
                notes.append(
                    f"{task.name}: the largest class has {ratio:.1f} times as many training images as the smallest:"
                    " classes are weighted by their rarity (--class-weights none does not)"
                )
        standard = ((targets - own.mean) / own.spread).astype(np.float32) if task.kind == "regression" else targets
        aims.append(Aim(task.name, task.kind, own.where, torch.from_numpy(standard), weights))
    return aims, notes


def _judge(columns: Sequence[Columns], val: TaskData) -> Judge:
    """The mean over the tasks of their loss and of their score, and each task's score."""
    import torch

    from regraft.training.tasks import Aim, task_loss

    standard = [
        (targets - own.mean) / own.spread if own.task.kind == "regression" else targets
        for own, targets in zip(columns, val.targets, strict=True)
    ]
    aims = [
        Aim(own.task.name, own.task.kind, own.where, torch.from_numpy(targets))
        for own, targets in zip(columns, standard, strict=True)
    ]
    rows = torch.arange(len(val.manifest))

    def judge(outputs: NDArray[np.float32], _targets: NDArray[np.int64]) -> dict[str, float]:
        told = torch.from_numpy(outputs)
        losses = [loss for aim in aims if (loss := task_loss(aim, told[:, aim.columns], rows)) is not None]
        scores = {
            own.task.name: score
            for own, targets in zip(columns, standard, strict=True)
            if (score := task_score(own.task, outputs[:, own.where], targets)) is not None
        }
        mean = float(torch.stack(losses).mean()) if losses else float("nan")
        return {"loss": mean, "score": mean_score(scores), **{f"task/{name}": score for name, score in scores.items()}}

    return judge


def task_score(task: Task, outputs: NDArray[Any], targets: NDArray[Any]) -> float | None:
    """One number for each kind of task, at best 1: accuracy, mean average precision, or (the mean of) R2.

    Args:
        task: which.
        outputs: (N, K) of its head.
        targets: as `data.tasks.targets_of` gives them; numbers in the unit of the outputs.

    Returns:
        None where nothing is known, or where R2 does not exist because all numbers are the same.
    """
    if task.kind == "multilabel":
        return _mean_average_precision(outputs, targets)
    if task.kind == "classes":
        known = targets >= 0
        return float((outputs[known].argmax(1) == targets[known]).mean()) if known.any() else None
    scores = []
    for told, true in zip(outputs.T.astype(np.float64), targets.T, strict=True):
        there = np.isfinite(true)
        around = np.square(true[there] - true[there].mean()).sum() if there.any() else 0.0
        if around > 0:
            scores.append(1.0 - float(np.square(told[there] - true[there]).sum() / around))
    return float(np.mean(scores)) if scores else None


def _mean_average_precision(outputs: NDArray[Any], targets: NDArray[Any]) -> float | None:
    """Over the labels that some image has."""
    from sklearn.metrics import average_precision_score

    precisions = []
    for told, true in zip(outputs.T, targets.T, strict=True):
        if (true == 1).any():
            precisions.append(average_precision_score(true[true >= 0], told[true >= 0]))
    return float(np.mean(precisions)) if precisions else None


def mean_score(scores: dict[str, float]) -> float:
    """The mean over tasks, each 0 at least; NaN without any."""
    return float(np.mean([max(0.0, score) for score in scores.values()])) if scores else float("nan")


def together(heads: TaskHeads, columns: Sequence[Columns]) -> LinearProbe:
    """Linear heads of all tasks as one linear map of unscaled features to all outputs, numbers standardised."""
    from regraft.models.heads import unfolded

    weights, bias = [], []
    for part, own in zip(heads.parts, columns, strict=True):
        head: Any = part.head
        if part.kind == "classes":
            one, beside = unfolded(head)
        else:
            one = head.weights / head.scaling.scale[:, None]
            beside = head.bias - head.scaling.centre @ one
        weights.append(one / own.spread)
        bias.append((beside - own.mean) / own.spread)
    joined, width = np.concatenate(weights, axis=1), len(weights[0])
    outputs = joined.shape[1]
    plain = Scaling(np.zeros(width), np.ones(width))
    return LinearProbe(plain, joined, np.concatenate(bias), np.arange(outputs), outputs)


def apart(
    shared: LinearProbe | Perceptron, columns: Sequence[Columns], heats: dict[str, float] | None = None
) -> TaskHeads:
    """A trained head over all outputs as one head a task, in the tasks' own units; without thresholds.

    Args:
        shared: from `models.heads.to_head`, of scaling 1.
        columns: of the tasks.
        heats: temperatures by task; absent ones are 1.
    """
    parts = []
    for own in columns:
        unit = own.spread / (heats or {}).get(own.task.name, 1.0)
        weights, bias = shared.weights[:, own.where] * unit, shared.bias[own.where] * unit + own.mean
        task, scaling = own.task, shared.scaling
        seen = weights[:, own.present], bias[own.present]
        head: Any
        if isinstance(shared, Perceptron):
            hidden = shared.hidden_weights, shared.hidden_bias
            head = Perceptron(scaling, *hidden, *seen, 1.0, own.present, len(task.classes))
        elif task.kind == "classes":
            head = LinearProbe(scaling, *seen, own.present, len(task.classes))
        else:
            head = (Ridge if task.kind == "regression" else Multilabel)(scaling, weights, bias)
        parts.append(TaskPart(task.name, task.kind, task.classes, head))
    return TaskHeads(tuple(parts))
