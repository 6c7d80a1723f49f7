"""Several tasks' numbers, each measured in its own way and told beside what the task alone would reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.evaluation.metrics import evaluate
from regraft.evaluation.multilabel import MultilabelEvaluation, evaluate_multilabel
from regraft.evaluation.predictions import Predictions
from regraft.evaluation.regression import RegressionEvaluation, evaluate_regression
from regraft.evaluation.scores import Evaluation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from regraft.data.manifest import Item

WORDS = {"accuracy": "accuracy", "mean_average_precision": "mean average precision", "r2": "R2", "mean_r2": "mean R2"}


@dataclass(frozen=True)
class TaskEvaluation:
    """What one task's outputs are worth on one part of the data.

    Attributes:
        name: the task.
        kind: "classes", "multilabel" or "regression".
        evaluation: the numbers.
        alone: the score (see `score`) of a model of this task alone on the same images, or None where that is not
            measured.
    """

    name: str
    kind: str
    evaluation: Evaluation | MultilabelEvaluation | RegressionEvaluation
    alone: float | None = None

    @property
    def score(self) -> tuple[str, float | None]:
        """The one number to compare by, higher being better: accuracy, mean average precision or R2."""
        if isinstance(self.evaluation, Evaluation):
            return "accuracy", self.evaluation.scores["accuracy"]
        return self.evaluation.score

    def sentence(self) -> str:
        """The headline for a terminal."""
        name, value = self.score
        beside = ""
        if self.alone is not None and value is not None:
            same = "the same" if value == self.alone else f"{self.alone:.3f}"
            beside = f"; {WORDS[name]} of the task alone: {same}"
        return f"{self.name}: {self.evaluation.sentence()}{beside}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        name, value = self.score
        own = {"task": self.name, "kind": self.kind, "score": name, "value": value, "alone": self.alone}
        return {**own, **self.evaluation.to_json()}


def evaluate_task(
    name: str,
    kind: str,
    classes: Sequence[str],
    outputs: NDArray[np.float64],
    truth: NDArray[Any],
    items: Sequence[Item],
    *,
    split: str,
    thresholds: Sequence[float] = (),
    training: NDArray[np.float64] | None = None,
    seen: int = 0,
    seed: int = 0,
    alone: float | None = None,
) -> TaskEvaluation:
    """Measure one task's outputs.

    Args:
        name: the task.
        kind: "classes", "multilabel" or "regression".
        classes: names of the outputs.
        outputs: (N, K) logits, (N, L) log-odds or (N, R) numbers.
        truth: the targets, as `data.tasks.targets_of` gives them.
        items: the N images.
        split: which part of the data this is.
        thresholds: (L,) for multilabel.
        training: (M, R) true numbers of the training part, for regression.
        seen: how many of these images the model was trained on, for classes.
        seed: of resampling.
        alone: the score of a model of this task alone.

    Raises:
        DataError: nothing is known of the task here.
    """
    if kind == "classes":
        paths, keys = tuple(item.path for item in items), tuple(item.key or "" for item in items)
        predictions = Predictions(paths, keys, tuple(classes), truth, outputs)
        return TaskEvaluation(name, kind, evaluate(predictions, split=split, seed=seed, seen=seen), alone)
    if kind == "multilabel":
        told = evaluate_multilabel(outputs, truth, labels=classes, thresholds=thresholds, split=split, seed=seed)
        return TaskEvaluation(name, kind, told, alone)
    own = truth if training is None else training
    numbers = evaluate_regression(outputs, truth, names=classes, training=own, split=split, seed=seed)
    return TaskEvaluation(name, kind, numbers, alone)
