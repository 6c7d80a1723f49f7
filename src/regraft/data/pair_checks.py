"""One look at every file of change pairs: can it be read, do sizes, bands and types agree, what do the masks mean."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.bands import load_bands
from regraft.data.change_labels import LabelCoding, LabelValues, check_coded, coding_of, label_values
from regraft.data.decode import MAX_PIXELS
from regraft.data.manifest import Skipped
from regraft.data.pairs import pair_key
from regraft.errors import DataError, ImageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from regraft.data.pairs import Pair, Pairs

_AHEAD = 16  # pairs in work


@dataclass(frozen=True)
class PairSurvey:
    """What was seen in N pairs that can be read, and which cannot.

    Attributes:
        pairs: those that can, with keys.
        sizes: height and width of each.
        bands: C, of all.
        dtype: of all values: uint8, uint16, int16 or float32.
        coding: of the masks; None where no pair has one.
        class_pixels: (N, K) int64, labelled pixels of each pair by class; (N, 0) without masks. Pixels that an image
            has no data for are among them.
        rejected: files that cannot be read, with the reason; each costs its pair.
    """

    pairs: Pairs
    sizes: tuple[tuple[int, int], ...]
    bands: int
    dtype: str
    coding: LabelCoding | None
    class_pixels: NDArray[np.int64]
    rejected: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """One pair that can be read."""

    pair: Pair
    size: tuple[int, int]
    bands: int
    dtype: str
    label: LabelValues | None


def survey(
    pairs: Pairs,
    *,
    threads: int | None = None,
    classes: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_progress: Callable[[int, int], None] | None = None,
) -> PairSurvey:
    """Read every file once.

    Args:
        pairs: to look at.
        threads: how many read at a time.
        classes: K that a model knows already, see `coding_of`.
        max_pixels: images with more are rejected.
        on_progress: told how many pairs of how many are done.

    Raises:
        DataError: the files of a pair differ in size, bands or type; pairs differ in bands or type; the masks cannot be
            understood; no pair can be read.
        MissingExtra: a file that needs a package that is not installed.
    """
    looks: list[_Look] = []
    rejected: list[Skipped] = []
    threads = threads or min(8, 2 * (os.cpu_count() or 1))
    for done, seen in enumerate(_seen(pairs.items, threads, max_pixels), 1):
        if isinstance(seen, Skipped):
            rejected.append(seen)
        else:
            looks.append(seen)
            _check_alike(looks[0], seen)
        if on_progress:
            on_progress(done, len(pairs))
    if not looks:
        told = "; ".join(f"{one.path}: {one.reason}" for one in rejected[:3])
        raise DataError(f"No pair of {pairs.source} can be read ({told}).")
    labels = [look.label for look in looks if look.label is not None]
    coding = coding_of(labels, classes) if labels else None
    for label in labels:
        check_coded(label, coding)
    return PairSurvey(
        replace(pairs, items=tuple(look.pair for look in looks)),
        tuple(look.size for look in looks),
        looks[0].bands,
        looks[0].dtype,
        coding,
        np.array([_class_pixels(look.label, coding) for look in looks], np.int64),
        tuple(rejected),
    )


def _seen(items: Sequence[Pair], threads: int, max_pixels: int) -> Iterator[_Look | Skipped]:
    """In order, a bounded number ahead of who asks."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(_look, item, max_pixels) for item in items[:_AHEAD])
        try:
            for item in items[_AHEAD:]:
                yield waiting.popleft().result()
                waiting.append(pool.submit(_look, item, max_pixels))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _look(pair: Pair, max_pixels: int) -> _Look | Skipped:
    try:
        before, after = (load_bands(path, max_pixels=max_pixels).values for path in (pair.before, pair.after))
        label = None if pair.label is None else label_values(pair.label, max_pixels=max_pixels)
        key = pair_key(pair)
    except ImageRejected as error:
        return Skipped(error.path, error.reason)
    except OSError as error:
        return Skipped(pair.before, f"cannot be read ({error.strerror or error})")
    size = (before.shape[0], before.shape[1])
    for other, path in ((after.shape[:2], pair.after), (label.size if label else size, pair.label)):
        if tuple(other) != size:
            raise DataError(
                f"The files of the pair {pair.name} differ in size: {pair.before} has {size[1]}x{size[0]} pixels and"
                f" {path} has {other[1]}x{other[0]}. Cut or resample them to one grid."
            )
    look = _Look(replace(pair, key=key), size, before.shape[2], before.dtype.name, label)
    _check_alike(
        look, replace(look, pair=replace(pair, before=pair.after), bands=after.shape[2], dtype=after.dtype.name)
    )
    return look


def _check_alike(first: _Look, other: _Look) -> None:
    """Refuse two images of unequal bands or types."""
    if (first.bands, first.dtype) != (other.bands, other.dtype):
        raise DataError(
            f"{first.pair.before} has {first.bands} bands of {first.dtype} and {other.pair.before} has {other.bands} of"
            f" {other.dtype}. Expected the same in all images; convert them to one form."
        )


def _class_pixels(label: LabelValues | None, coding: LabelCoding | None) -> list[int]:
    if coding is None:
        return []
    counts = [0] * coding.classes
    for value, number in coding.values:
        counts[number] += label.counts.get(value, 0) if label else 0
    return counts
