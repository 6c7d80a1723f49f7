"""What each section of the report shows, computed from predictions before any HTML is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.evaluation.report.text import file_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from regraft.data.manifest import Skipped
    from regraft.evaluation.predictions import Predictions
    from regraft.evaluation.scores import ClassScore, Evaluation

WRONG_SHOWN, SURE_SHOWN, UNSURE_SHOWN, STRANGE_SHOWN = 24, 4, 8, 6
MATRIX_CLASSES = 60
_PAIRS_SHOWN = {False: 10, True: 30}  # whether they stand in for the matrix
CLASSES_SHOWN = 200
_TOP = 3
_SHADES = 10
_EXAMPLES = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of the confusion matrix: its count, its shade 0..10 (share of the row), its style and words."""

    count: int
    style: str
    title: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """The images of one true class, by what they were taken for."""

    name: str
    support: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Images of one class taken for another.

    Attributes:
        true: the class they are of.
        said: the class they were taken for.
        count: how many.
        share: of all images of the class `true`.
    """

    true: str
    said: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The probability of one class; `role` is "true", "said", "both" or "" for the others."""

    name: str
    probability: float
    role: str


@dataclass(frozen=True, slots=True)
class Card:
    """One image of the gallery; `unlike` is its distance from the training images, where it is shown for that."""

    path: str
    file: str
    true: str
    said: str
    wrong: bool
    bars: tuple[Bar, ...]
    unlike: float | None = None


@dataclass(frozen=True, slots=True)
class Gallery:
    """Wrong predictions, the most confident first; the most and the least confident right ones; the strangest.

    `strange_total` counts the images unlike the training images; the strangest are shown even where there is none.
    """

    wrong: tuple[Card, ...]
    wrong_total: int
    sure: tuple[Card, ...]
    unsure: tuple[Card, ...]
    right_total: int
    strange: tuple[Card, ...] = ()
    strange_total: int = 0

    def paths(self) -> list[str]:
        """Every image that is shown."""
        return [card.path for card in (*self.wrong, *self.sure, *self.unsure, *self.strange)]


@dataclass(frozen=True, slots=True)
class Reason:
    """Files that were left out for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartSize:
    """How many images a split has, and its smallest and largest class."""

    split: str
    images: int
    smallest: tuple[str, int]
    largest: tuple[str, int]


def matrix(evaluation: Evaluation) -> tuple[MatrixRow, ...]:
    """The confusion matrix, rows true, columns predicted; empty where there are too many classes to read it."""
    names, counts = evaluation.classes, evaluation.confusion
    if len(names) > MATRIX_CLASSES:
        return ()
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    shades = np.ceil(shares * _SHADES).astype(int)
    rows = []
    for i, true in enumerate(names):
        cells = []
        for j, said in enumerate(names):
            count = int(counts[i, j])
            style = f"{'d' if i == j else 'e'} s{shades[i, j]}" if count else ("d z" if i == j else "z")
            verb = "recognised" if i == j else f"taken for {said}"
            title = f"{true}: {count} of {support[i]} {verb}" if count else ""
            cells.append(Cell(count, style, title))
        rows.append(MatrixRow(true, int(support[i]), tuple(cells)))
    return tuple(rows)


def confused_pairs(evaluation: Evaluation) -> tuple[Pair, ...]:
    """The most frequent mistakes, by count, then by share of the true class."""
    counts = evaluation.confusion.copy()
    np.fill_diagonal(counts, 0)
    true, said = np.nonzero(counts)
    number = counts[true, said]
    share = number / evaluation.confusion.sum(axis=1)[true]
    order = np.lexsort((said, true, -share, -number))[: _PAIRS_SHOWN[len(evaluation.classes) > MATRIX_CLASSES]]
    names = evaluation.classes
    return tuple(Pair(names[true[i]], names[said[i]], int(number[i]), float(share[i])) for i in order)


def gallery(predictions: Predictions, unlike: NDArray[np.float64] | None = None) -> Gallery:
    """Choose and describe the images to show; rows without a known class are left out.

    Args:
        predictions: N of them.
        unlike: (N,) how far each image is from the training images, above 1 for what is unlike them.
    """
    probabilities, said = predictions.probabilities(), predictions.predicted()
    confidence = probabilities[np.arange(len(predictions)), said]
    known = predictions.targets >= 0
    wrong = np.flatnonzero(known & (said != predictions.targets))
    right = np.flatnonzero(known & (said == predictions.targets))
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    right = right[np.argsort(-confidence[right], kind="stable")]
    sure = right[:SURE_SHOWN]
    unsure = right[SURE_SHOWN:][::-1][:UNSURE_SHOWN]

    def cards(rows: NDArray[np.int64]) -> tuple[Card, ...]:
        return tuple(_card(predictions, int(row), probabilities[row], int(said[row])) for row in rows)

    strange: tuple[Card, ...] = ()
    count = 0
    if unlike is not None:
        rows = np.flatnonzero(known)
        rows = rows[np.argsort(-unlike[rows], kind="stable")]
        count = int((unlike[rows] > 1).sum())
        top = rows[:STRANGE_SHOWN]
        strange = tuple(replace(one, unlike=float(unlike[row])) for one, row in zip(cards(top), top, strict=True))
    return Gallery(cards(wrong[:WRONG_SHOWN]), len(wrong), cards(sure), cards(unsure), len(right), strange, count)


def _card(predictions: Predictions, row: int, probabilities: NDArray[np.float64], said: int) -> Card:
    target, names = int(predictions.targets[row]), predictions.classes
    top = [int(i) for i in np.argsort(-probabilities, kind="stable")[:_TOP]]
    shown = top if target in top else [*top, target]
    roles = {target: "true", said: "said"} if target != said else {target: "both"}
    bars = tuple(Bar(names[i], float(probabilities[i]), roles.get(i, "")) for i in shown)
    path = predictions.paths[row]
    return Card(path, file_name(path), names[target], names[said], target != said, bars)


def weakest_first(evaluation: Evaluation) -> tuple[ClassScore, ...]:
    """Classes by rising recall; those without an image last. At most 200 of them."""
    ordered = sorted(evaluation.per_class, key=lambda s: (s.recall is None, s.recall or 0.0, s.f1 or 0.0))
    return tuple(ordered[:CLASSES_SHOWN])


def by_reason(files: Iterable[Skipped]) -> tuple[Reason, ...]:
    """Files that were left out, by reason, the most frequent first."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(file.reason, []).append(file.path)
    ordered = sorted(found.items(), key=lambda entry: -len(entry[1]))
    return tuple(Reason(reason, len(paths), tuple(paths[:_EXAMPLES])) for reason, paths in ordered)


def part_sizes(class_sizes: dict[str, dict[str, int]]) -> tuple[PartSize, ...]:
    """Each split's number of images and the range of its classes."""
    return tuple(
        PartSize(
            split,
            sum(sizes.values()),
            min(sizes.items(), key=lambda item: item[1]),
            max(sizes.items(), key=lambda item: item[1]),
        )
        for split, sizes in class_sizes.items()
        if sizes
    )
