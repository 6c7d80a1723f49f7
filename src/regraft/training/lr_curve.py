"""A learning-rate range test: which rate its curve suggests, and the curve as a picture.

The test trains for a few steps while the rate rises by an equal factor each step, and notes the loss of each.
Source: L. Smith, "Cyclical learning rates for training neural networks" (2015, arXiv 1506.01186), section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from regraft.atomic import atomic_file
from regraft.evaluation.report.axes import Axis
from regraft.evaluation.report.lettering import INK, write_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FEWEST = 3
_WINDOW = 20  # the smoothing looks about a twentieth of the curve back and as far ahead
_SAFETY = 4.0  # how far below the lowest loss the rate must stay
_LEAST_FALL = 0.01  # of the loss at the start
_START = 10  # the level at the start is that of the first tenth
_FALL_OF_NOISE = 5.0  # a fall is more than so many standard deviations of the smoothed curve
_RISE_OF_NOISE = 4.0
_FEWEST_FOR_NOISE = 8
_SIZE = (960, 560)  # pixels of the picture
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 122, 70
_FINER = 2  # lines are drawn so many times larger and then made smaller, which makes them smooth
_PAPER, _GRID, _SOFT = (255, 255, 255), (223, 226, 229), (87, 97, 107)
_RAW, _SMOOTH, _MARK = (168, 196, 217), (0, 90, 151), (196, 78, 0)
_FEW_DECADES = 2.5
_HEADROOM = 0.4  # how far above the start a curve that diverges is shown, as a share of its fall
_NORMAL_MAD = 1.4826  # standard deviation of a normal variable over its median absolute deviation


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a range test says.

    Attributes:
        rate: the learning rate to train with, two digits; None where the curve gives none.
        why: the reason, in a sentence or two.
        lowest: the rate at which the smoothed loss was lowest; None where it never fell.
        diverges_at: the rate from which on the loss was above where it began, or no number; None if it never was.
    """

    rate: float | None
    why: str
    lowest: float | None = None
    diverges_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Course:
    """A curve until it diverges: smoothed, the level at which it starts, and the noise of an exponential mean."""

    smooth: NDArray[np.float64]
    start: float
    noise: float


def suggest(rates: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """Choose a learning rate from the curve of a range test.

    The loss is smoothed, and the rate is where it falls most steeply against the logarithm of the rate: there a step
    teaches most. (L. Smith reads off a range, from where the loss begins to fall to where it becomes ragged; the
    steepest point as one number of it is what practice made of that, fastai's `lr_find` for instance.) A quarter of
    the rate of the lowest loss is the most that is suggested, because a curve may fall steeply right up to a cliff.

    The answer does not change when all losses are multiplied by a number.

    Args:
        rates: of each step, above 0, in any order.
        losses: of each step. What is not finite counts as divergence where only such losses follow, else as missing.

    Raises:
        ValueError: not as many losses as rates.
    """
    x, y, stopped = _usable(rates, losses)
    if len(x) < FEWEST:
        return Suggestion(
            None,
            f"The loss was a number at only {len(x)} of {len(rates)} rates, at least {FEWEST} are needed: begin with a"
            " lower rate.",
            diverges_at=stopped,
        )
    course = _until_divergence(x, y)
    smooth, bottom = course.smooth, int(course.smooth.argmin())
    diverges = float(x[len(smooth)]) if len(smooth) < len(x) else stopped
    needed = max(_LEAST_FALL * abs(course.start), _FALL_OF_NOISE * course.noise)
    if bottom == 0 or course.start - smooth[bottom] <= needed:
        return Suggestion(
            None,
            f"The loss did not fall by more than its noise at any rate from {_rate(x[0])} to {_rate(x[-1])}: widen the"
            " range, take more steps, or look at the labels.",
            diverges_at=diverges,
        )
    lowest = float(x[bottom])
    steepest = _steepest(x[: bottom + 1], smooth[: bottom + 1])
    rate = float(f"{min(steepest, lowest / _SAFETY):.1e}")
    return Suggestion(rate, _why(steepest, lowest, diverges, last=bottom == len(x) - 1), lowest, diverges)


def smoothed(losses: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Exponential means of a curve (N,), free of the pull towards 0 at its start.

    Each value is the mean of those up to it, each weighing `weight` of its follower; dividing by the sum of the weights
    corrects the start, as Adam does (Kingma and Ba 2014, arXiv 1412.6980, section 3).
    """
    return _sums(losses, weight) / _sums(np.ones_like(losses), weight)


def both_ways(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with weights that fall to both sides, so that the curve does not lag."""
    weight, ones = _weight(len(losses)), np.ones_like(losses)
    left, right = (_sums(y, weight) + _sums(y[::-1], weight)[::-1] - y for y in (losses, ones))
    result: NDArray[np.float64] = left / right
    return result


def _sums(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    result, total = np.empty_like(values), 0.0
    for i, value in enumerate(values):
        total = weight * total + value
        result[i] = total
    return result


def _weight(count: int) -> float:
    return math.exp(-_WINDOW / count)


def _usable(
    rates: Sequence[float], losses: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float | None]:
    """Rates and finite losses in order of the rate, and the rate at which the losses stopped being numbers."""
    if len(rates) != len(losses):
        raise ValueError(f"{len(losses)} losses for {len(rates)} rates; expected one for each")
    x, y = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    order = np.argsort(x[x > 0], kind="stable")
    x, y = x[x > 0][order], y[x > 0][order]
    finite = np.isfinite(y)
    last = int(np.flatnonzero(finite)[-1]) if finite.any() else -1
    stopped = float(x[last + 1]) if last + 1 < len(x) else None
    return x[finite], y[finite], stopped


def _until_divergence(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Course:
    """The smoothed curve up to where it rises above its start for good."""
    start = float(np.median(y[: max(1, len(y) // _START)]))
    # An exploding loss says no more than a high one, and its squares would drown everything.
    y = np.minimum(y, start + 2 * (start - float(y.min())) + _LEAST_FALL * abs(start))
    noise, weight = _noise(y), _weight(len(y))
    noise *= math.sqrt((1 - weight) / (1 + weight))  # of an exponential mean
    ahead = smoothed(y, weight)
    above = start + max(_RISE_OF_NOISE * noise, (start - float(y.min())) / 10)
    after = int(ahead.argmin()) + 1
    end = next((i for i in range(after, len(x)) if min(y[i], ahead[i]) > above), len(x))
    return _Course(both_ways(y[:end]), start, noise)


def _noise(y: NDArray[np.float64]) -> float:
    """Standard deviation of the losses about a curve that bends slowly, from their second differences."""
    if len(y) < _FEWEST_FOR_NOISE:
        return 0.0
    second = y[:-2] - 2 * y[1:-1] + y[2:]
    return float(np.median(np.abs(second - np.median(second)))) * _NORMAL_MAD / math.sqrt(6)


def _steepest(x: NDArray[np.float64], smooth: NDArray[np.float64]) -> float:
    """The rate, between two of the test, where the curve falls most for a factor of the rate."""
    logs = np.log(x)
    steps = np.maximum(np.diff(logs), 1e-12)
    slopes = both_ways(np.diff(smooth) / steps)
    steepest = int(slopes.argmin())
    return math.exp((logs[steepest] + logs[steepest + 1]) / 2)


def _why(steepest: float, lowest: float, diverges: float | None, *, last: bool) -> str:
    if steepest <= lowest / _SAFETY:
        text = f"The loss falls most steeply at {_rate(steepest)}"
    else:
        text = (
            f"A quarter of the rate of the lowest loss, which comes right after its steepest fall at {_rate(steepest)}"
        )
    text += f"; it is lowest at {_rate(lowest)}"
    if diverges is not None:
        text += f" and above its start from {_rate(diverges)} on"
    if last:
        text += ". It still fell at the highest rate: a wider range may suggest more"
    return text + "."


def _rate(value: float) -> str:
    """A rate with at most two digits: `0.0013`, `3.2e-5`."""
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")


def draw(rates: Sequence[float], losses: Sequence[float], suggestion: Suggestion, target: Path) -> None:
    """Write the curve as a PNG, atomically: losses as they were, smoothed, and what is suggested.

    Losses far above the start are drawn at the upper edge.

    Args:
        rates: as given to `suggest`.
        losses: likewise.
        suggestion: what it answered.
        target: the file, .png.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    x, y, _ = _usable(rates, losses)
    page = Image.new("RGB", tuple(side * _FINER for side in _SIZE), _PAPER)  # type: ignore[arg-type]
    pen = ImageDraw.Draw(page)
    if len(x):
        course = _until_divergence(x, y)
        rise = course.start - float(y.min()) or 0.01 * abs(course.start)
        top = course.start + (_HEADROOM * rise if len(course.smooth) < len(x) else rise)
        shown = np.minimum(y, max(top, float(course.smooth.max())))
        axis = Axis.over(shown.tolist(), bottom=_SIZE[1] - _BOTTOM, top=_TOP)
        low, high = float(x[0]), float(x[-1])
        across = [_across(rate, low, high) for rate in x.tolist()]
        _draw_axes(pen, axis, low, high)
        for values, colour, width in ((shown, _RAW, 1.5), (course.smooth, _SMOOTH, 3.0)):
            _draw_line(pen, list(zip(across, map(axis.place, values.tolist()), strict=False)), colour, width)
        if suggestion.rate is not None and low <= suggestion.rate <= high:
            place = _across(suggestion.rate, low, high)
            height = float(np.interp(math.log(suggestion.rate), np.log(x[: len(course.smooth)]), course.smooth))
            _draw_line(pen, [(place, _TOP), (place, _SIZE[1] - _BOTTOM)], _MARK, 1.5)
            _draw_dot(pen, place, axis.place(height), 6, _MARK)
    _draw_words(pen, suggestion)
    with atomic_file(target) as temporary:
        page.resize(_SIZE, Image.Resampling.BOX).save(temporary, format="PNG", optimize=True)


def _across(rate: float, low: float, high: float) -> float:
    share = math.log(rate / low) / math.log(high / low) if high > low else 0.5
    return _LEFT + share * (_SIZE[0] - _RIGHT - _LEFT)


def _draw_axes(pen: ImageDraw.ImageDraw, axis: Axis, low: float, high: float) -> None:
    floor, right = _SIZE[1] - _BOTTOM, _SIZE[0] - _RIGHT
    for place, text in axis.ticks:
        _draw_line(pen, [(_LEFT, place), (right, place)], _GRID, 1)
        _write(pen, (_LEFT - 10, place), text, 14, "rm", _SOFT)
    factors = (1,) if math.log10(high / low) > _FEW_DECADES else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for tick in (factor * 10.0**power for power in powers for factor in factors):
        if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9):
            place = _across(tick, low, high)
            _draw_line(pen, [(place, _TOP), (place, floor + 5)], _GRID, 1)
            _write(pen, (place, floor + 10), _rate(tick), 14, "ma", _SOFT)
    _draw_line(pen, [(_LEFT, _TOP), (_LEFT, floor), (right, floor)], _SOFT, 1.5)
    _write(pen, ((_LEFT + right) / 2, _SIZE[1] - 14), "learning rate (logarithmic)", 15, "md", INK)
    _write(pen, (_LEFT, _TOP - 12), "loss" + (" (logarithmic)" if axis.logarithmic else ""), 15, "ld", INK)


def _draw_words(pen: ImageDraw.ImageDraw, suggestion: Suggestion) -> None:
    title = (
        "No learning rate suggested"
        if suggestion.rate is None
        else f"Suggested learning rate: {_rate(suggestion.rate)}"
    )
    _write(pen, (24, 18), title, 22, "la", INK if suggestion.rate is None else _MARK)
    _write(pen, (24, 52), suggestion.why, 14, "la", _SOFT)
    at = _SIZE[0] - _RIGHT - 10
    for text, colour in (("smoothed", _SMOOTH), ("as it was", _RAW)):
        _write(pen, (at - 66, _TOP - 14), text, 14, "ld", _SOFT)
        _draw_line(pen, [(at - 104, _TOP - 21), (at - 74, _TOP - 21)], colour, 3)
        at -= 130


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str, ink: tuple[int, int, int]
) -> None:
    place = (at[0] * _FINER, at[1] * _FINER)
    write_line(pen, place, text, size * _FINER, (_SIZE[0] - 48) * _FINER, ink=ink, anchor=anchor)


def _draw_line(
    pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: float
) -> None:
    if len(points) > 1:
        pen.line([(x * _FINER, y * _FINER) for x, y in points], colour, round(width * _FINER), joint="curve")
    elif points:
        _draw_dot(pen, *points[0], 2 * width, colour)


def _draw_dot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    pen.ellipse([(v + sign * radius) * _FINER for sign in (-1, 1) for v in (x, y)], colour)
