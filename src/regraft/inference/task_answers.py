"""Answers of a model with several tasks: for each task a class, labels or numbers; and the same as columns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.predictions import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.evaluation.task_scores import TaskOutputs
    from regraft.heads.tasks import TaskHeads, TaskPart
    from regraft.inference.predictor import Prediction

SEPARATOR = "|"  # between labels in a cell
_NONE = "-"


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """What the model says of one image in one task.

    Attributes:
        kind: "classes", "multilabel" or "regression".
        label: classes: the most probable class; else None.
        probability: its probability.
        labels: multilabel: the labels that apply, those whose probability reaches the label's threshold.
        probabilities: of every class or label, in their order; empty for regression.
        numbers: regression: the number of each column.
    """

    kind: str
    label: str | None = None
    probability: float | None = None
    labels: tuple[str, ...] = ()
    probabilities: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a terminal shows it: `Men 0.93`, `red|round`, `12.3`."""
        if self.kind == "classes":
            return f"{self.label} {self.probability:.2f}"
        if self.kind == "multilabel":
            return SEPARATOR.join(self.labels) or _NONE
        return ",".join(f"{number:.4g}" for number in self.numbers.values())


def answer(part: TaskPart | TaskOutputs, outputs: NDArray[np.float64]) -> list[TaskAnswer]:
    """The answers that a task's outputs (N, its width) mean, one a row."""
    rows = outputs.tolist()
    if part.kind == "regression":
        return [TaskAnswer(part.kind, numbers=dict(zip(part.classes, row, strict=True))) for row in rows]
    if part.kind == "classes":
        shares = softmax(outputs)
        best = shares.argmax(axis=1).tolist()
        named = [dict(zip(part.classes, row, strict=True)) for row in shares.tolist()]
        return [
            TaskAnswer(part.kind, part.classes[at], own[part.classes[at]], probabilities=own)
            for at, own in zip(best, named, strict=True)
        ]
    applies = labels_apply(part, outputs).tolist()
    named = [dict(zip(part.classes, row, strict=True)) for row in sigmoid(outputs).tolist()]
    return [
        TaskAnswer(part.kind, labels=tuple(n for n, yes in zip(part.classes, row, strict=True) if yes), probabilities=p)
        for row, p in zip(applies, named, strict=True)
    ]


def labels_apply(part: TaskPart | TaskOutputs, outputs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which labels of a multilabel task apply, from log-odds (N, L): (N, L)."""
    limits = np.array(part.thresholds, np.float64) if part.thresholds else np.zeros(len(part.classes))
    applies: NDArray[np.bool_] = outputs >= limits
    return applies


def sigmoid(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds to probabilities, without overflow."""
    small = np.exp(-np.abs(outputs))
    result: NDArray[np.float64] = np.where(outputs >= 0, 1.0, small) / (1.0 + small)
    return result


def task_answers(head: TaskHeads, features: NDArray[np.float32]) -> list[dict[str, TaskAnswer]]:
    """For each image (N, D) its answers by task."""
    outputs, slices = head.logits(features), head.slices()
    columns = [answer(part, outputs[:, slices[part.name]]) for part in head.parts]
    names = [part.name for part in head.parts]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def output_names(parts: Sequence[TaskPart]) -> tuple[str, ...]:
    """A name for each output of all tasks: `gender=Men`; a task with one number has the task's name."""
    named = [
        part.name if part.kind == "regression" and len(part.classes) == 1 else f"{part.name}={name}"
        for part in parts
        for name in part.classes
    ]
    return distinct(named)


def task_columns(parts: Sequence[TaskPart]) -> list[tuple[str, bool]]:
    """The columns of a table of answers, and whether each holds text.

    classes: the task's name, and the answer's probability. multilabel: the labels that apply, and the
    probability of every label. regression: a column for each number.
    """
    columns: list[tuple[str, bool]] = []
    for part in parts:
        if part.kind == "regression":
            columns += [(name, False) for name in ([part.name] if len(part.classes) == 1 else part.classes)]
            continue
        columns.append((part.name, True))
        if part.kind == "classes":
            columns.append((f"{part.name}_probability", False))
        else:
            columns += [(f"p_{name}", False) for name in part.classes]
    return columns


def task_cells(parts: Sequence[TaskPart], answers: dict[str, TaskAnswer]) -> list[str | float | None]:
    """The cells of one image below `task_columns`; empty ones where it could not be read."""
    cells: list[str | float | None] = []
    for part in parts:
        own = answers.get(part.name)
        if own is None:
            cells += [None] * len(task_columns([part]))
        elif own.kind == "regression":
            cells += own.numbers.values()
        elif own.kind == "classes":
            cells += [own.label, own.probability]
        else:
            cells += [SEPARATOR.join(own.labels) or SEPARATOR, *own.probabilities.values()]
    return cells


def to_json(prediction: Prediction) -> dict[str, Any]:
    """One image as JSON values: each task with everything that is said of it."""
    kept = {
        "classes": ("label", "probability", "probabilities"),
        "multilabel": ("labels", "probabilities"),
        "regression": ("numbers",),
    }
    return {
        "path": prediction.path,
        "tasks": {
            name: {key: asdict(own)[key] for key in ("kind", *kept[own.kind])} for name, own in prediction.tasks.items()
        },
        "unlike": None if prediction.unlike is None else round(prediction.unlike, 4),
        "is_unlike": None if prediction.unlike is None else prediction.is_unlike,
        "error": prediction.error,
        "notes": "; ".join(prediction.notes),
    }


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with underscores after those that were there before: a task may be called as a column is."""
    found: dict[str, None] = {}
    for name in names:
        free = name
        while free in found:
            free += "_"
        found[free] = None
    return tuple(found)
