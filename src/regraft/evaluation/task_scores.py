"""All tasks of a model on one part of the data: what was told, what is true, and the numbers side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.multilabel import MultilabelEvaluation
from regraft.evaluation.predictions import Predictions
from regraft.evaluation.scores import Evaluation, counted, split_word
from regraft.evaluation.tasks import WORDS, evaluate_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.data.manifest import Item
    from regraft.evaluation.tasks import TaskEvaluation

MEAN_IS = (
    "mean over the tasks of accuracy (classes), mean average precision (multilabel) and R2, at least 0 (regression)"
)


@dataclass(frozen=True)
class TaskOutputs:
    """One task on one part of the data.

    Attributes:
        name: the task.
        kind: "classes", "multilabel" or "regression".
        classes: names of the W outputs.
        thresholds: (L,) log-odds from which a label applies; for multilabel.
        outputs: (N, W) logits, log-odds or numbers.
        targets: what is true, as `data.tasks.targets_of` gives it.
        training: the targets of the training part, for what a constant answer would give.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    outputs: NDArray[np.float64]
    targets: NDArray[Any]
    training: NDArray[Any]

    def predictions(self, items: Sequence[Item]) -> Predictions:
        """Of a task with classes, the same for N images as a model of this task alone has it."""
        paths, keys = tuple(item.path for item in items), tuple(item.key or "" for item in items)
        return Predictions(paths, keys, self.classes, self.targets, self.outputs)

    def problem(self) -> str:
        """Why nothing can be measured here, in a sentence; empty where it can."""
        if self.kind == "classes" and not (self.targets >= 0).any():
            return f"task {self.name!r}: no image here has a known class"
        if self.kind == "multilabel" and not (self.targets == 1).any():
            return f"task {self.name!r}: no image here has any of the labels"
        if self.kind == "regression" and not np.isfinite(self.targets).any(axis=0).all():
            return f"task {self.name!r}: no image here has a number in one of the columns"
        return ""


@dataclass(frozen=True)
class TaskScores:
    """What a model of several tasks is worth on one part of the data.

    Attributes:
        split: "train", "val", "test", or "all".
        n: images with something known.
        tasks: the numbers of each task that could be measured.
        notes: sentences that the reader must know.
        seen: how many of the images the model was trained on.
        thresholds: whether thresholds of labels were chosen on these images.
    """

    split: str
    n: int
    tasks: tuple[TaskEvaluation, ...]
    notes: tuple[str, ...] = ()
    seen: int = 0
    thresholds: bool = False

    @property
    def mean(self) -> float:
        """One number for all, see `MEAN_IS`; NaN where no task has one."""
        found = [max(0.0, value) for _, value in (task.score for task in self.tasks) if value is not None]
        return float(np.mean(found)) if found else float("nan")

    @property
    def split_word(self) -> str:
        """What people call this part: training, validation, test; empty for everything."""
        return split_word(self.split)

    @property
    def caution(self) -> str:
        """What must be said beside every number; empty where the images were new to the model."""
        if self.seen:
            were = "was" if self.seen == 1 else "were"
            return f"{self.seen:,} of {self.n:,} images {were} in the model's training part: the numbers say little."
        if self.split != "val":
            return ""
        also = " The labels' thresholds were chosen on it." if self.thresholds else ""
        return (
            "This is the validation part, not a test part: any choice made by looking at it makes these numbers "
            f"optimistic.{also}"
        )

    @property
    def scores(self) -> dict[str, float]:
        """The numbers of all tasks, `gender accuracy`."""
        return {name: value for name, (value, _) in self._measured().items()}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Low and high of the 95 % interval for each of `scores`."""
        return {name: bounds for name, (_, bounds) in self._measured().items()}

    def _measured(self) -> dict[str, tuple[float, tuple[float, float]]]:
        found: dict[tuple[str, str], tuple[float, tuple[float, float]]] = {}
        for task in self.tasks:
            own = task.evaluation
            if isinstance(own, Evaluation | MultilabelEvaluation):
                pairs = [(key, value, own.intervals[key]) for key, value in own.scores.items()]
                kept = ("accuracy", "balanced_accuracy", "macro_f1", "mean_average_precision", "micro_f1")
                found |= {(task.name, key): (value, bounds) for key, value, bounds in pairs if key in kept}
                continue
            for number in own.numbers:
                name = task.name if len(own.numbers) == 1 else f"{task.name} {number.name}"
                known = {key: value for key, value in number.scores.items() if value is not None}
                found |= {(name, key): (value, number.intervals[key]) for key, value in known.items()}
        return {f"{name} {key.replace('_', ' ')}": measured for (name, key), measured in found.items()}

    def sentence(self) -> str:
        """The headline for a terminal."""
        word = f"{self.split_word} score".lstrip()
        value = f"{self.mean:.3f}" if np.isfinite(self.mean) else "unknown, as all true numbers are the same"
        of = f"{counted(self.n, 'image')}, {counted(len(self.tasks), 'task')}"
        *most, last = dict.fromkeys(WORDS[task.score[0]] for task in self.tasks)
        measures = f"{', '.join(most)} and {last}" if most else last
        return f"{word} {value} ({of}; {'mean of ' if len(self.tasks) > 1 else ''}{measures})"

    def lines(self) -> list[str]:
        """The headline and a sentence for each task."""
        return [self.sentence(), *(task.sentence() for task in self.tasks)]

    def to_json(self) -> dict[str, Any]:
        """As JSON values: the mean score and what it is, then every task by name."""
        return {
            "split": self.split,
            "n": self.n,
            "seen": self.seen,
            "score": self.mean if np.isfinite(self.mean) else None,
            "score_is": MEAN_IS,
            "tasks": {task.name: task.to_json() for task in self.tasks},
            "notes": list(self.notes),
        }


def evaluate_tasks(
    tasks: Sequence[TaskOutputs],
    items: Sequence[Item],
    *,
    split: str,
    alone: dict[str, float] | None = None,
    seen: int = 0,
    seed: int = 0,
    thresholds: bool = False,
) -> TaskScores:
    """Measure all tasks on N images; a task of which nothing is known here is left out, with a note.

    Args:
        tasks: what was told, and what is true.
        items: the N images.
        split: which part of the data this is.
        alone: by task, the score of a model of this task alone; None where that is this very model, as on a
            frozen backbone.
        seen: how many of these images the model was trained on.
        seed: of resampling.
        thresholds: whether the thresholds of labels were chosen on these images.

    Raises:
        DataError: nothing is known of any task.
    """
    found, notes = [], []
    for task in tasks:
        if task.problem():
            notes.append(f"{task.problem()}: not measured")
            continue
        one = evaluate_task(
            task.name,
            task.kind,
            task.classes,
            task.outputs,
            task.targets,
            items,
            split=split,
            thresholds=task.thresholds,
            training=task.training,
            seen=seen,
            seed=seed,
        )
        found.append(replace(one, alone=one.score[1] if alone is None else alone.get(task.name)))
    if not found:
        raise DataError(f"Nothing can be measured on the part {split!r}: {'; '.join(notes)}.")
    return TaskScores(split, len(items), tuple(found), tuple(notes), min(seen, len(items)), thresholds)
