"""Strata: one word for each image of several tasks, so that every split gets a like share of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.units import units_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.data.manifest import Item
    from regraft.data.tasks import Task

# What `make_splits` asks of a class for train, val and test: four images in three units that stay together.
_LEAST_IMAGES, _LEAST_UNITS = 4, 3
_REST = "rest"
_BINS, _IN_BIN = 10, 10


def strata(items: tuple[Item, ...], tasks: Sequence[Task], targets: Sequence[NDArray[Any]]) -> tuple[list[str], str]:
    """A stratum for each image, large enough to be divided into three splits, and in words what they are.

    With a task of classes, the classes of the one whose classes large enough to divide hold the most images
    (to the percent; of equals, the one with the most of them). Else, with a multilabel task, the rarest label
    of each image that is large enough. Else about ten equal parts of the first number. Strata that are too
    small, and images without any, become one; where that is too small itself, it joins the largest.

    Args:
        items: N images; groups and keys decide what has to stay together.
        tasks: the tasks.
        targets: for each task its targets, N rows.
    """
    best: tuple[tuple[int, int], list[str], str] | None = None
    for task, target in zip(tasks, targets, strict=True):
        if task.kind == "classes":
            labels = _merged(items, [f"class {number}" if number >= 0 else "" for number in target.tolist()])
            sizes = Counter(labels)
            held = len(labels) - sizes[_REST]
            score = (round(100 * held / len(labels)), len(sizes))
            if best is None or score > best[0]:
                best = score, labels, f"{task.name!r}"
    if best is not None:
        return best[1:]
    kind = "multilabel" if any(task.kind == "multilabel" for task in tasks) else "regression"
    task, target = next(pair for pair in zip(tasks, targets, strict=True) if pair[0].kind == kind)
    if kind == "multilabel":
        return _merged(items, _rarest(target)), f"the rarest label of {task.name!r}"
    return _merged(items, _bins(target[:, 0])), f"size of {task.columns[0]!r}"


def _rarest(target: NDArray[Any]) -> list[str]:
    """For each image (N, L) its label with the fewest images, of those with enough; "none" without one."""
    counts = (target == 1).sum(axis=0)
    order = [label for label in np.argsort(counts, kind="stable").tolist() if counts[label] >= _LEAST_IMAGES]
    having = [[label for label in order if row[label] == 1] for row in target.tolist()]
    return [f"label {labels[0]}" if labels else "none" for labels in having]


def _bins(numbers: NDArray[np.float64]) -> list[str]:
    """For each image (N,) its part of the range; parts hold about equally many images."""
    there = np.isfinite(numbers)
    count = max(1, min(_BINS, int(there.sum()) // _IN_BIN))
    edges = np.unique(np.quantile(numbers[there], np.arange(1, count) / count))
    return [f"part {np.searchsorted(edges, number)}" if ok else "" for number, ok in zip(numbers, there, strict=True)]


def _merged(items: tuple[Item, ...], labels: Sequence[str]) -> list[str]:
    """The strata with those that are too small to divide put together; "" is no stratum."""
    large = _large(items, labels)
    merged = [label if label in large else _REST for label in labels]
    if _REST in merged and len(large) > 0 and _REST not in _large(items, merged):
        largest = Counter(label for label in merged if label != _REST).most_common(1)[0][0]
        merged = [largest if label == _REST else label for label in merged]
    return merged


def _large(items: tuple[Item, ...], labels: Sequence[str]) -> set[str]:
    """The strata with enough images in enough units."""
    named = tuple(replace(item, label=label or None) for item, label in zip(items, labels, strict=True))
    units = units_of(named, 0)
    pieces = Counter(label for unit in units for label in unit.counts)
    sizes = Counter(label for label in labels if label)
    return {label for label, n in sizes.items() if n >= _LEAST_IMAGES and pieces[label] >= _LEAST_UNITS}
