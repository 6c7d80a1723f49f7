"""What goes into a head, checked once for all of them, and the classes that it never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

CHUNK = 4096
UNSEEN_MARGIN = 50.0


@dataclass(frozen=True)
class TrainingRows:
    """Checked training data of one head.

    Attributes:
        features: (N, D) float32, finite.
        targets: (N,) position of each image's class in `present`.
        present: (P,) indices of the classes that have images, ascending.
        n_classes: K >= P.
        groups: (N,) group of each image, or None.
        classes: the K class names, for notes, or None.
        blocks: widths of the features of several backbones lying side by side; empty for one.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    present: NDArray[np.int64]
    n_classes: int
    groups: NDArray[Any] | None = None
    classes: Sequence[str] | None = None
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.int64]) -> TrainingRows:
        """Some of the rows; every class must still be among them."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, features=self.features[rows], targets=self.targets[rows], groups=groups)

    def notes(self) -> list[str]:
        """What the user must know before any fit: classes that can never be predicted."""
        unseen = np.setdiff1d(np.arange(self.n_classes), self.present).tolist()
        return [f"{class_words(unseen, self.classes)}: no training image, never predicted"] if unseen else []

    def words(self, positions: Sequence[int]) -> str:
        """Classes for a note: names where known, else numbers; the first five of many."""
        numbers = [int(self.present[position]) for position in positions]
        return class_words(numbers, self.classes)


def finite_features(features: ArrayLike, width: int | None = None) -> NDArray[np.float32]:
    """Features (N, D) as float32; any real dtype is taken.

    Raises:
        DataError: not a matrix, not `width` wide, or with NaN or infinite numbers (names how many rows).
    """
    wide = np.asarray(features)
    if wide.ndim != 2 or wide.dtype.kind not in "fiub":  # noqa: PLR2004 - rows and columns
        raise DataError(
            f"features have the shape {wide.shape} and the type {wide.dtype}; a head takes a matrix of real "
            "numbers, one row an image."
        )
    if width is not None and wide.shape[1] != width:
        raise DataError(
            f"features are {wide.shape[1]} wide, but this head was fitted on {width}: compute them with the "
            "backbone and views that the head was trained with."
        )
    with np.errstate(over="ignore"):
        rows = wide.astype(np.float32, copy=False)
    bad = len(rows) - int(np.isfinite(rows).all(axis=1).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(rows)} rows of features hold NaN or infinite numbers (or numbers beyond float32). "
            "Remove these images, or find out what the backbone makes of them."
        )
    return rows


def training_rows(
    features: ArrayLike,
    targets: ArrayLike,
    n_classes: int,
    groups: NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
) -> TrainingRows:
    """Check what `fit` was given.

    Raises:
        DataError: lengths that differ, labels that are not 0 .. n_classes - 1, fewer than two classes with
            images, no columns, blocks that are not the columns, or features that are not finite.
    """
    rows, labels = finite_features(features), np.asarray(targets)
    if labels.shape != (len(rows),) or (groups is not None and len(groups) != len(rows)):
        raise DataError(
            f"{len(rows)} rows of features came with labels of shape {labels.shape}"
            f"{'' if groups is None else f' and {len(groups)} groups'}; each image needs one of each."
        )
    if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes):
        raise DataError(
            f"labels go from {labels.min()} to {labels.max()} ({labels.dtype}); whole numbers from 0 to "
            f"{n_classes - 1} are expected. Leave images without a label out of the training part."
        )
    present, positions = np.unique(labels, return_inverse=True)
    if len(present) < 2:  # noqa: PLR2004 - one class is nothing to tell apart
        raise DataError(
            f"the training part has images of {len(present)} class{'' if len(present) == 1 else 'es'} "
            f"of {n_classes}; a head needs at least two classes with images to tell apart."
        )
    if rows.shape[1] == 0:
        raise DataError("the features have no columns; each image needs at least one number.")
    widths = checked_blocks(blocks, rows.shape[1])
    whole = positions.astype(np.int64), present.astype(np.int64)
    return TrainingRows(rows, *whole, n_classes, groups, classes, widths)


def checked_blocks(blocks: Sequence[int], width: int) -> tuple[int, ...]:
    """Widths of blocks that lie side by side, as Python integers; one block alone is no blocks.

    Raises:
        DataError: they are not whole numbers from 1 that sum to `width`.
    """
    widths = tuple(int(block) for block in blocks)
    if widths and (min(widths) < 1 or widths != tuple(blocks) or sum(widths) != width):
        raise DataError(
            f"blocks of {', '.join(map(str, blocks))} columns do not make up features of {width}: "
            "give the width of each backbone's features, in their order."
        )
    return widths if len(widths) > 1 else ()


def over_all_classes(scores: NDArray[np.float64], present: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Scores (N, P) of the classes that were seen, as logits (N, K).

    A class without a training image lies 50 below the least of the row: never first, probability below
    2e-22, and yet of finite log loss.
    """
    if len(present) == n_classes:
        return scores
    logits = np.repeat(scores.min(axis=1, keepdims=True) - UNSEEN_MARGIN, n_classes, axis=1)
    logits[:, present] = scores
    return logits


def in_chunks(
    score: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    rows: NDArray[np.float32],
    n_columns: int,
    chunk: int = CHUNK,
) -> NDArray[np.float64]:
    """Apply `score` to `chunk` rows at a time, so that memory does not grow with the number of rows."""
    result = np.empty((len(rows), n_columns))
    for start in range(0, len(rows), chunk):
        result[start : start + chunk] = score(rows[start : start + chunk])
    return result


def class_words(numbers: Sequence[int], classes: Sequence[str] | None) -> str:
    """Classes for a note: their names where known, else their numbers; the first five of many."""
    words = [f"number {number}" if classes is None else repr(classes[number]) for number in numbers[:5]]
    rest = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""  # noqa: PLR2004
    return f"{'class' if len(numbers) == 1 else 'classes'} {', '.join(words)}{rest}"
