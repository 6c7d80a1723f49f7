"""What found changes are worth on one part of the data: the numbers, their intervals, and each pair's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.change import (
    BINS,
    PixelCounts,
    bin_edge,
    class_numbers,
    decided,
    measure,
    numbers,
    total,
)
from regraft.evaluation.intervals import bootstrap, percentiles
from regraft.evaluation.scores import EVERYTHING, counted, split_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

UNDEFINED = "not defined"
_FEW = 20  # pairs below which resampling understates the uncertainty by more than a little


@dataclass(frozen=True, slots=True)
class PairScore:
    """How one pair fares, in labelled pixels and at the threshold.

    Attributes:
        name: the pair.
        pixels: all of them.
        found: changed, and called so.
        false: unchanged, but called changed.
        missed: changed, but not called so.
        f1: of the change class; None where nothing truly changed.
        iou: likewise.
    """

    name: str
    pixels: int
    found: int
    false: int
    missed: int
    f1: float | None
    iou: float | None

    @property
    def wrong(self) -> int:
        """Pixels that are false or missed."""
        return self.false + self.missed


@dataclass(frozen=True, slots=True)
class ClassPixels:
    """How one class fares; None where a number is not defined, see `change.class_numbers`."""

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None


@dataclass(frozen=True, eq=False)
class ChangeEvaluation:
    """What found changes are worth on one part of the data.

    Attributes:
        split: "train", "val" or "test", "all" for everything.
        n: pairs.
        classes: names of the K classes; the first is "unchanged".
        threshold: P(changed) from which a pixel is called changed, an edge of a bin.
        scores: see `change.numbers`, the F1 of the change class being the one to compare by; NaN where a number is
            not defined.
        intervals: low and high of the 95 % interval for each of `scores`, over pairs; NaN where there is none.
        per_pair: one entry a pair, in the order of the names.
        per_class: one entry a class, at the threshold for two classes, by the most probable class for more.
        counts: sums over all labelled pixels.
        notes: sentences that the reader of the numbers must know.
        seen: how many of the pairs the model was trained on.
        chosen_here: whether the threshold was chosen on these pairs.
    """

    split: str
    n: int
    classes: tuple[str, ...]
    threshold: float
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_pair: tuple[PairScore, ...]
    per_class: tuple[ClassPixels, ...]
    counts: PixelCounts
    notes: tuple[str, ...] = ()
    seen: int = 0
    chosen_here: bool = False

    @property
    def table(self) -> NDArray[np.int64]:
        """(K, K) pixels, rows truth, columns what is said: at the threshold for two classes."""
        return said_table(self.counts, self.threshold)

    @property
    def split_word(self) -> str:
        """What people call this part: training, validation, test; empty for everything."""
        return split_word(self.split)

    @property
    def baseline(self) -> float:
        """F1 of calling everything changed, the best constant answer; NaN where nothing changed."""
        share = self.counts.changed / self.counts.pixels
        return 2 * share / (1 + share) if share else math.nan

    @property
    def caution(self) -> str:
        """What must be said beside every number of this part; empty where the pairs were new to the model."""
        if self.seen:
            was = "was" if self.seen == 1 else "were"
            return (
                f"{self.seen:,} of {counted(self.n, 'pair')} {was} in the model's training part: the numbers say "
                "little about new scenes."
            )
        if self.split != "val":
            return ""
        also = " The threshold was chosen on it." if self.chosen_here else ""
        return (
            "This is the validation part, not a test part: any choice made by looking at it makes these numbers "
            f"optimistic.{also}"
        )

    def sentence(self) -> str:
        """The headline for a terminal."""
        pixels, changed = self.counts.pixels, self.counts.changed
        word = f"{self.split_word} change F1".lstrip()
        interval = interval_text(self.intervals["f1"])
        of = f"{counted(self.n, 'pair')}, {100 * changed / pixels:.1f} % of {pixels:,} pixels changed"
        if not changed:
            return f"{word} {UNDEFINED} ({of}: nothing to find; {self.false:,} pixels were called changed)"
        told = f"95 % interval {interval}, " if interval else ""
        return (
            f"{word} {self.scores['f1']:.3f} ({told}{of}; threshold {self.threshold:.3g}; calling everything changed "
            f"gives {self.baseline:.3f})"
        )

    @property
    def false(self) -> int:
        """Unchanged pixels that were called changed."""
        return int(decided(self.counts.histogram, self.threshold)[0, 1])

    def to_json(self) -> dict[str, Any]:
        """As JSON values: scores at the top level; None where a number is not defined."""
        return {
            "split": self.split,
            "n": self.n,
            "seen": self.seen,
            "pixels": self.counts.pixels,
            "changed_pixels": self.counts.changed,
            "threshold": self.threshold,
            "threshold_chosen_here": self.chosen_here,
            **{name: known(value) for name, value in self.scores.items()},
            "baseline_f1": known(self.baseline),
            "intervals": {name: [known(low), known(high)] for name, (low, high) in self.intervals.items()},
            "per_class": [_fields(one, ClassPixels.__slots__) for one in self.per_class],
            "per_pair": [_fields(one, PairScore.__slots__) for one in self.per_pair],
            "classes": list(self.classes),
            "confusion": self.counts.confusion.tolist(),
            "histogram": self.counts.histogram.tolist(),
            "notes": list(self.notes),
        }


def evaluate_change(
    names: Sequence[str],
    counts_per_pair: Sequence[PixelCounts],
    classes: Sequence[str],
    threshold: float,
    *,
    split: str = EVERYTHING,
    seed: int = 0,
    seen: int = 0,
    chosen_here: bool = False,
) -> ChangeEvaluation:
    """Measure found changes on pairs.

    Intervals are percentile bootstrap intervals over pairs, not pixels, since the pixels of a scene are no independent
    samples; a resample in which a number is not defined is left out of its interval. The order of the pairs, and
    whether a pair comes whole or as tiles of the same name, change nothing.

    Args:
        names: of the pairs, or of the pair that a tile belongs to.
        counts_per_pair: as many.
        classes: names of the K classes, "unchanged" first.
        threshold: P(changed) from which a pixel is called changed; rounded to the nearest edge of a bin.
        split: which part of the data this is.
        seed: of the resampling.
        seen: how many of the pairs the model was trained on.
        chosen_here: whether the threshold was chosen on these pairs.

    Raises:
        DataError: no pixel has a label.
        OptionError: the threshold does not lie in 0..1.
    """
    merged: dict[str, PixelCounts] = {}
    for name, one in sorted(zip(names, counts_per_pair, strict=True), key=lambda entry: entry[0]):
        merged[name] = merged[name] + one if name in merged else one
    labelled = {name: one for name, one in merged.items() if one.pixels}
    if not labelled:
        raise DataError(
            f"No pixel of the {counted(len(merged), 'pair')} has a label other than 255 (ignored), so there is nothing "
            "to measure. Give pairs with labels, or use predict."
        )
    whole, edge = total(labelled.values()), bin_edge(threshold)
    return ChangeEvaluation(
        split=split,
        n=len(labelled),
        classes=tuple(classes),
        threshold=edge,
        scores=numbers(whole, edge),
        intervals=_intervals(list(labelled.values()), edge, seed),
        per_pair=tuple(_pair(name, one, edge) for name, one in labelled.items()),
        per_class=_classes(classes, said_table(whole, edge)),
        counts=whole,
        notes=tuple(_notes(whole, classes, len(labelled), len(merged) - len(labelled))),
        seen=min(seen, len(labelled)),
        chosen_here=chosen_here,
    )


def said_table(counts: PixelCounts, threshold: float) -> NDArray[np.int64]:
    """(K, K) pixels, rows truth, columns what is said: at the threshold for two classes, else the most probable."""
    binary = len(counts.confusion) == 2  # noqa: PLR2004
    return decided(counts.histogram, threshold) if binary else counts.confusion


def interval_text(bounds: tuple[float, float]) -> str:
    """An interval as 0.812 to 0.871; empty where there is none."""
    return "" if math.isnan(bounds[0]) else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def known(value: float) -> float | None:
    """None for a number that is not defined."""
    return float(value) if math.isfinite(value) else None


def _fields(one: ClassPixels | PairScore, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}


def _pair(name: str, counts: PixelCounts, threshold: float) -> PairScore:
    (_, false), (missed, found) = decided(counts.histogram, threshold).tolist()
    scores = numbers(counts, threshold)
    return PairScore(name, counts.pixels, found, false, missed, known(scores["f1"]), known(scores["iou"]))


def _classes(names: Sequence[str], table: NDArray[np.int64]) -> tuple[ClassPixels, ...]:
    found = class_numbers(table).values()
    rows = zip(names, table.sum(axis=1).tolist(), table.sum(axis=0).tolist(), *found, strict=True)
    return tuple(ClassPixels(*row[:3], *map(known, row[3:])) for row in rows)


def _intervals(counts: Sequence[PixelCounts], threshold: float, seed: int) -> dict[str, tuple[float, float]]:
    """By score; NaN for a single pair, which says nothing of how pairs differ."""
    classes = len(counts[0].confusion)
    columns = np.array([np.concatenate([one.confusion.ravel(), one.histogram.ravel(), [one.loss]]) for one in counts])

    def statistics(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = weights @ columns
        confusion, histogram, loss = np.split(drawn, [classes**2, classes**2 + 2 * BINS], axis=1)
        sums = confusion.reshape(-1, classes, classes), histogram.reshape(-1, 2, BINS), loss[:, 0]
        return np.stack(list(measure(*sums, threshold).values()), axis=1)

    names = list(numbers(counts[0], threshold))
    if len(counts) == 1:
        return dict.fromkeys(names, (math.nan, math.nan))
    samples = bootstrap(len(counts), statistics, seed=seed)
    found = {}
    for name, column in zip(names, samples.T, strict=True):
        defined = column[np.isfinite(column)]
        low, high = percentiles(defined[:, None])[0].tolist() if len(defined) else (math.nan, math.nan)
        found[name] = (low, high)
    return found


def _notes(whole: PixelCounts, classes: Sequence[str], pairs: int, without: int) -> list[str]:
    notes = []
    if not whole.changed:
        notes.append(
            "No labelled pixel truly changed: recall, F1, IoU and average precision of the change class are "
            f"{UNDEFINED}."
        )
    has = whole.confusion.sum(axis=1)
    absent = [repr(name) for name, pixels in zip(classes, has, strict=True) if not pixels]
    if absent and whole.changed:
        notes.append(f"No labelled pixel is {' or '.join(absent)}: left out of the means over classes.")
    if without:
        notes.append(f"{counted(without, 'pair')} without a labelled pixel took no part.")
    if pairs == 1:
        notes.append("A single pair gives no intervals: they say how numbers differ from pair to pair.")
    elif pairs < _FEW:
        notes.append(f"With only {counted(pairs, 'pair')}, intervals found by resampling are too narrow.")
    return notes
