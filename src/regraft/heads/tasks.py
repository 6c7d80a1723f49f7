"""Several tasks over one feature vector: a head for each, saved and loaded as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft import heads
from regraft.errors import OptionError
from regraft.heads import knn_regression, multilabel, ridge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.head import Fitted, Head

# What a strategy on features means for targets that are no classes.
_SERVING: dict[str, dict[str, Any]] = {
    "multilabel": {"linear-probe": multilabel},
    "regression": {"linear-probe": ridge, "knn": knn_regression},
}


@dataclass(frozen=True)
class TaskPart:
    """One task's head.

    Attributes:
        name: the task.
        kind: "classes", "multilabel" or "regression".
        classes: the names of the head's outputs: K classes, L labels or R numbers.
        head: features to logits (N, K), log-odds (N, L) or numbers (N, R).
        thresholds: (L,) log-odds above which a label is said to apply; for multilabel tasks only.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    head: Head
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True)
class TaskHeads:
    """The heads of several tasks side by side; each is the head that its task alone would have.

    Attributes:
        parts: one a task.
    """

    name: ClassVar[str] = "tasks"
    parts: tuple[TaskPart, ...]

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to the outputs of all tasks side by side, see `slices`."""
        return np.concatenate([part.head.logits(features) for part in self.parts], axis=1)

    def slices(self) -> dict[str, slice]:
        """The columns of `logits` that belong to each task."""
        ends = np.cumsum([len(part.classes) for part in self.parts]).tolist()
        starts = [0, *ends[:-1]]
        return {part.name: slice(*pair) for part, *pair in zip(self.parts, starts, ends, strict=True)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric; names begin with the position of the task."""
        return {f"{at}.{key}": value for at, part in enumerate(self.parts) for key, value in part.head.arrays().items()}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {
            "n_classes": sum(len(part.classes) for part in self.parts),
            "parts": [
                {
                    "name": part.name,
                    "kind": part.kind,
                    "classes": list(part.classes),
                    "thresholds": list(part.thresholds),
                    "head": part.head.name,
                    "settings": part.head.settings(),
                }
                for part in self.parts
            ],
        }

    def with_thresholds(self, thresholds: dict[str, NDArray[np.float64]]) -> TaskHeads:
        """The same with new thresholds for some tasks, by name."""
        return TaskHeads(
            tuple(
                replace(part, thresholds=tuple(thresholds[part.name].tolist())) if part.name in thresholds else part
                for part in self.parts
            )
        )


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> TaskHeads:
    """The heads that gave these `arrays()` and `settings()`."""
    parts = []
    for at, own in enumerate(settings["parts"]):
        prefix = f"{at}."
        inner = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        head = heads.load(own["head"], inner, own["settings"])
        words = own["name"], own["kind"], tuple(own["classes"])
        parts.append(TaskPart(*words, head, tuple(own["thresholds"])))
    return TaskHeads(tuple(parts))


def fit_task(
    kind: str,
    strategy: str,
    features: NDArray[np.float32],
    targets: NDArray[Any],
    n_outputs: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
) -> Fitted:
    """Fit the head that a strategy on features means for one kind of task, on the images whose target is known.

    classes: the strategy's own head. multilabel: linear-probe gives one logistic regression a label; no other
    strategy serves. regression: linear-probe gives ridge regression, knn the mean of the neighbours.

    Args:
        kind: "classes", "multilabel" or "regression".
        strategy: a name of `heads.NAMES`.
        features: (N, D).
        targets: (N,) class indices, -1 where unknown; (N, L) of 0 and 1, -1 where unknown; or (N, R) numbers, NaN
            where unknown.
        n_outputs: K, L or R.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: same data and seed, same head.
        names: of the outputs, for the notes.
        blocks: widths of several backbones' features lying side by side.

    Raises:
        OptionError: no such strategy, or none for this kind of task.
        DataError: see `heads.fit`, `ridge.fit` and `multilabel.fit`.
    """
    serving = _SERVING.get(kind)
    if serving is not None and strategy not in serving:
        raise OptionError(
            f"the strategy {strategy} does not serve a {kind} task; {' and '.join(serving)} "
            f"{'do' if len(serving) > 1 else 'does'}."
        )
    there = np.isfinite(targets) if targets.dtype.kind == "f" else np.greater_equal(targets, 0)
    rows = np.flatnonzero(np.any(there.reshape(len(targets), -1), axis=1))
    known = features[rows], targets[rows], n_outputs
    own = None if groups is None else groups[rows]
    if serving is None:
        return heads.fit(strategy, *known, groups=own, seed=seed, classes=names, blocks=blocks)
    fitted: Fitted = serving[strategy].fit(*known, groups=own, seed=seed, names=names, blocks=blocks)
    return fitted
