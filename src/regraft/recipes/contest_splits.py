"""What a contest is about, and the splits that every candidate is measured on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError, OptionError
from regraft.heads.folds import make_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS, REPEATS = 5, 3
METRICS = ("accuracy", "balanced_accuracy")
_IMBALANCE = 5.0  # largest class over smallest, beyond which every class counts the same
_MOST_FOLDS, _MOST_REPEATS = 20, 100


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt.

    Attributes:
        targets: (N,) class indices.
        classes: the K class names.
        groups: (N,) images of one group are on one side of every split; or None.
    """

    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: NDArray[Any] | None = None

    def take(self, rows: NDArray[np.int64]) -> Task:
        """Some of the images."""
        return replace(self, targets=self.targets[rows], groups=None if self.groups is None else self.groups[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to learn from, rows held out, and in which repeat and fold of it."""

    learn: NDArray[np.int64]
    held_out: NDArray[np.int64]
    repeat: int
    fold: int


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits that every candidate is measured on; `told` says what they are, `notes` where they fall short."""

    parts: tuple[Split, ...]
    folds: int
    told: str
    notes: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Held-out images over images that were learnt from."""
        return float(np.mean([len(part.held_out) / len(part.learn) for part in self.parts]))

    @property
    def images(self) -> int:
        """How many different images are held out."""
        return len(np.unique(np.concatenate([part.held_out for part in self.parts])))


def parse_folds(text: str) -> tuple[int, int]:
    """Folds and repeats of `5x3` or `5 x 3`; `5` is `5x1`.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(r"(\d{1,3})(?:\s*[x×]\s*(\d{1,3}))?", str(text).strip().lower())
    folds, repeats = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
    if not 2 <= folds <= _MOST_FOLDS or not 1 <= repeats <= _MOST_REPEATS:  # noqa: PLR2004 - one fold holds out nothing
        raise OptionError(
            f"folds {text!r} is not what is expected: folds x repeats, such as 5x3, with 2 to {_MOST_FOLDS} folds and 1"
            f" to {_MOST_REPEATS} repeats"
        )
    return folds, repeats


def make_task_splits(task: Task, folds: int = FOLDS, repeats: int = REPEATS, *, seed: int = 0) -> Splits:
    """Repeated stratified cross-validation that keeps groups together; repeat r is dealt with seed + r.

    Raises:
        DataError: fewer than two classes have the two images (or groups) that it takes to hold one out.
    """
    parts: list[Split] = []
    fewest, never = folds, set[int]()
    for repeat in range(repeats):
        dealt = make_folds(task.targets, groups=task.groups, seed=seed + repeat, folds=folds)
        fewest = min(fewest, dealt.n_folds)
        never |= set(dealt.never_scored)
        parts += [Split(learn, held, repeat, fold) for fold, (learn, held) in enumerate(dealt)]
    if not fewest:
        raise DataError(
            "nothing can be compared: fewer than two classes have the two training images (or groups) that it takes to"
            " hold one out. Add images, or name one strategy: regraft train --strategy linear-probe"
        )
    notes = []
    if fewest < folds:
        sizes = np.bincount(task.targets, minlength=len(task.classes)).astype(float)
        sizes[[*never, *np.flatnonzero(sizes == 0)]] = np.inf
        smallest = task.classes[int(sizes.argmin())]
        notes.append(
            f"{fewest} folds instead of {folds}: {smallest!r} has {int(sizes.min())} training images"
            + ("" if task.groups is None else ", and groups stay together")
        )
    if never:
        names = ", ".join(repr(task.classes[n]) for n in sorted(never)[:3])
        more = f" and {len(never) - 3} more" if len(never) > 3 else ""  # noqa: PLR2004 - the three that were named
        notes.append(f"never held out, as there is a single training image or group: {names}{more}")
    told = f"{fewest} folds" + (f" x {repeats}" if repeats > 1 else "")
    return Splits(tuple(parts), fewest, told, tuple(notes))


def choose_metric(metric: str, targets: NDArray[np.int64]) -> str:
    """The metric that "auto" means: balanced accuracy where classes differ by more than five to one in size.

    Raises:
        OptionError: no such metric.
    """
    if metric == "auto":
        sizes = np.unique(targets, return_counts=True)[1]
        return METRICS[bool(sizes.max() > _IMBALANCE * sizes.min())]
    if metric not in METRICS:
        raise OptionError(f"metric {metric!r} is unknown: use auto, {', '.join(METRICS)}")
    return metric


def score(metric: str, targets: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Share of right answers, or its mean over the classes that are there."""
    right = predicted == targets
    if metric == "accuracy":
        return float(right.mean())
    return float(np.mean([right[targets == label].mean() for label in np.unique(targets)]))
