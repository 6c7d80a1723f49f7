"""Whether confidence can be believed, and what is gained by keeping only confident answers, as two drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.evaluation.abstaining import confidences, keep, risk_coverage
from regraft.evaluation.calibration import equal_mass_bins
from regraft.evaluation.intervals import wilson
from regraft.evaluation.report.axes import Axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.evaluation.abstaining import Kept, RiskCoverage, Threshold
    from regraft.evaluation.predictions import Predictions

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 36
PLACES = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)  # left, right, top and bottom of what is drawn
_BINS, _IN_BIN = 10, 15  # at most so many bins, of at least about so many images
_FEWEST_KEPT = 10  # fewer kept images are not drawn: their accuracy jumps
_MOST_POINTS = 250


@dataclass(frozen=True, slots=True)
class Bin:
    """Images of similar confidence, in units of the drawing: mean confidence across, accuracy and its interval up."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often answers are right, by how sure they are.

    Attributes:
        bins: from unsure to sure.
        diagonal: ends of the line where confidence is accuracy: x, y, x, y.
        across: place and text of each mark below.
        ticks: likewise, of each line across.
        images: of each bin, at least and at most.
        told: the drawing in words.
    """

    bins: tuple[Bin, ...]
    diagonal: tuple[float, float, float, float]
    across: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    images: tuple[int, int]
    told: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """Accuracy of what is kept, by the share that is kept.

    Attributes:
        line: as an SVG polyline.
        band: 95 % intervals around it, as an SVG polygon.
        mark: where the threshold is: x, y; None where there is none, or where it keeps too little to be drawn.
        target: height of the accuracy that was asked for, or None.
        across: place and text of each mark below.
        ticks: likewise, of each line across.
        told: the drawing in words.
    """

    line: str
    band: str
    mark: tuple[float, float] | None
    target: float | None
    across: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    told: str


@dataclass(frozen=True, slots=True)
class Confidence:
    """The section: both drawings, the area under the risk, and a sentence on the threshold, empty without one."""

    reliability: Reliability
    coverage: Coverage | None
    aurc: float
    threshold: str


def describe(predictions: Predictions, threshold: Threshold | None = None) -> Confidence:
    """Lay out the section for predictions of which at least one has a known class."""
    confidence, correct = confidences(predictions)
    curve = risk_coverage(confidence, correct)
    kept = None if threshold is None else keep(confidence, correct, threshold.value)
    return Confidence(
        _reliability(confidence, correct),
        _coverage(curve, len(confidence), threshold, kept),
        curve.aurc,
        "" if threshold is None or kept is None else _on_threshold(threshold, kept),
    )


def _reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Reliability:
    position = equal_mass_bins(confidence, bins=int(np.clip(len(confidence) // _IN_BIN, 1, _BINS)))
    groups = [position == number for number in np.unique(position)]
    counts = [int(group.sum()) for group in groups]
    means = [float(confidence[group].mean()) for group in groups]
    hits = [int(correct[group].sum()) for group in groups]
    bounds = wilson(hits, counts).tolist()
    # both axes span the same values, so that the diagonal is one
    spanned = [*means, *(end for pair in bounds for end in pair)]
    up = Axis.over(spanned, bottom=HEIGHT - BOTTOM, top=TOP, share=True)
    right = Axis.over(spanned, bottom=LEFT, top=WIDTH - RIGHT, share=True)
    bins = []
    for mean, hit, count, (low, high) in zip(means, hits, counts, bounds, strict=True):
        title = f"{count:,} images of mean confidence {mean:.3f}: {hit / count:.3f} right ({low:.3f} to {high:.3f})"
        bins.append(Bin(right.place(mean), up.place(hit / count), up.place(low), up.place(high), title))
    off = sum(not low <= mean <= high for mean, (low, high) in zip(means, bounds, strict=True))
    told = f"Accuracy by confidence in {len(bins)} bins; in {off} of them confidence lies outside the 95 % interval."
    diagonal = (right.place(right.low), up.place(up.low), right.place(right.high), up.place(up.high))
    return Reliability(tuple(bins), diagonal, right.ticks, up.ticks, (min(counts), max(counts)), told)


def _coverage(curve: RiskCoverage, total: int, threshold: Threshold | None, kept: Kept | None) -> Coverage | None:
    """The curve from ten kept images on; None for fewer than two points."""
    drawn = np.flatnonzero(np.rint(curve.coverage * total) >= min(_FEWEST_KEPT, total))
    if len(drawn) > _MOST_POINTS:
        drawn = drawn[np.unique(np.linspace(0, len(drawn) - 1, _MOST_POINTS).round().astype(int))]
    if len(drawn) < 2:  # noqa: PLR2004 - one point is no line
        return None
    share, accuracy = curve.coverage[drawn], curve.accuracy[drawn]
    counts = np.rint(share * total)
    bounds = wilson(np.rint(accuracy * counts), counts)
    target = None if threshold is None else threshold.target
    spanned = [*bounds.ravel().tolist(), *([] if target is None else [target])]
    up = Axis.over(spanned, bottom=HEIGHT - BOTTOM, top=TOP, share=True)
    right = Axis.over([0.0, 1.0], bottom=LEFT, top=WIDTH - RIGHT, share=True)

    def points(values: NDArray[np.float64]) -> list[str]:
        return [f"{right.place(x)},{up.place(y)}" for x, y in zip(share.tolist(), values.tolist(), strict=True)]

    mark = None
    if kept is not None and kept.accuracy is not None and kept.kept >= min(_FEWEST_KEPT, total):
        mark = right.place(kept.coverage), up.place(kept.accuracy)
    half = int(np.searchsorted(share, 0.5))
    return Coverage(
        line=" ".join(points(accuracy)),
        band=" ".join([*points(bounds[:, 0]), *reversed(points(bounds[:, 1]))]),
        mark=mark,
        target=None if target is None else up.place(target),
        across=right.ticks,
        ticks=up.ticks,
        told=f"Accuracy {accuracy[half]:.3f} of the surest {100 * share[half]:.0f} %, {accuracy[-1]:.3f} of all.",
    )


def _on_threshold(threshold: Threshold, kept: Kept) -> str:
    """What the threshold does to these images."""
    asked = f"--abstain-at {threshold.target:g}"
    if not threshold.reached:
        asked += f", of which only {threshold.promised:.3f} could be reached,"
    if kept.accuracy is None:
        return f"With {asked} answers below confidence {threshold.value:.3f} are unsure: here, all {kept.images:,} are."
    low, high = kept.interval
    return (
        f"With {asked} answers below confidence {threshold.value:.3f} are unsure. Of these {kept.images:,} images"
        f" {kept.kept:,} are answered ({100 * kept.coverage:.0f} %), {kept.accuracy:.3f} of them rightly (95 % interval"
        f" {low:.3f} to {high:.3f}). The threshold was chosen on other images."
    )
