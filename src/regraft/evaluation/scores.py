"""What `evaluate` finds: the numbers, their intervals, and the words that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.data.names import so_many

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
EVERYTHING = "all"  # the part that is no part: every image there is
_VALIDATION = (
    "This is the validation part, not a test part: any choice made by looking at it makes this number "
    "optimistic. For a number to quote, keep a test part that nothing is chosen on."
)


def split_word(split: str) -> str:
    """What people call a part of the data: training, validation, test; nothing for everything."""
    return "" if split == EVERYTHING else SPLIT_WORDS.get(split, split)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: 1 image, 1,200 images."""
    return so_many(count, noun, plural or f"{noun}s")


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fares.

    Attributes:
        name: the class.
        support: images that truly are of it.
        predicted: images that were said to be of it.
        precision: share of `predicted` that is right; None where nothing was predicted.
        recall: share of `support` that was found; None where there is no support.
        recall_interval: 95 % Wilson interval of the recall; None where there is no support.
        f1: harmonic mean of precision and recall; None where there is no support.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    recall_interval: tuple[float, float] | None
    f1: float | None


@dataclass(frozen=True)
class Evaluation:
    """What predictions are worth on one part of the data.

    Attributes:
        split: "train", "val" or "test", "all" for everything, or what the caller called the part. A name says
            nothing about what the model has seen; `seen` does.
        n: images with a known class; everything here is measured on them.
        classes: the K class names.
        scores: accuracy, top_5_accuracy (top_k with k < 5 for few classes, absent for two),
            balanced_accuracy, macro_f1, log_loss (nats), calibration_error; in this order.
        intervals: low and high of the 95 % interval for each of `scores`.
        baseline_class: the most frequent true class of this part.
        baseline_accuracy: accuracy of always answering it, the best that a constant answer can do here.
        per_class: one entry a class, in class order.
        confusion: (K, K) counts, rows true, columns predicted.
        notes: sentences that the reader of the numbers must know.
        seen: how many of the n images the model was trained on.
    """

    split: str
    n: int
    classes: tuple[str, ...]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baseline_class: str
    baseline_accuracy: float
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    notes: tuple[str, ...]
    seen: int = 0

    @property
    def split_word(self) -> str:
        """What people call this part: training, validation, test; empty for everything."""
        return split_word(self.split)

    @property
    def accuracy_word(self) -> str:
        """What people call its accuracy: "test accuracy"; for everything, "accuracy"."""
        return f"{self.split_word} accuracy".lstrip()

    @property
    def is_new(self) -> bool:
        """Whether the accuracy tells what to expect of new images: nothing was learned or chosen on these."""
        return self.seen == 0 and self.split != "val"

    @property
    def caution(self) -> str:
        """What must be said beside every number of this part; empty where the images were new to the model."""
        if self.seen:
            was = "was" if self.seen == 1 else "were"
            return (
                f"{self.seen:,} of {self.n:,} images {was} in the model's training part: the numbers say little "
                "about new images."
            )
        return _VALIDATION if self.split == "val" else ""

    def sentence(self) -> str:
        """The headline for a terminal."""
        low, high = self.intervals["accuracy"]
        return (
            f"{self.accuracy_word} {self.scores['accuracy']:.3f} "
            f"(95 % interval {low:.3f} to {high:.3f}, {counted(self.n, 'image')}; "
            f"always answering '{self.baseline_class}' gives {self.baseline_accuracy:.3f})"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: headline names at the top level, then intervals, per_class, confusion, notes."""
        return {
            "split": self.split,
            "n": self.n,
            "seen": self.seen,
            **self.scores,
            "baseline_accuracy": self.baseline_accuracy,
            "baseline_class": self.baseline_class,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "per_class": [
                {
                    "class": score.name,
                    "support": score.support,
                    "predicted": score.predicted,
                    "precision": score.precision,
                    "recall": score.recall,
                    "recall_interval": None if score.recall_interval is None else list(score.recall_interval),
                    "f1": score.f1,
                }
                for score in self.per_class
            ],
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "notes": list(self.notes),
        }
