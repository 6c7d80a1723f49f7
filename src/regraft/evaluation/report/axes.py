"""A vertical axis: where a value is drawn, and which round values are written beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 3  # ticks
_DECADES = 2.0  # values that span more are drawn as logarithms
_MOST_DECADES = 5  # ticks of a logarithmic axis
_SLACK = 0.05
_NEAR_ZERO = 0.3  # of the highest value: an axis that comes so near to zero begins there
_ROUNDING = 1e-9  # differences no larger than this share are of rounding
_NOTHING = 1e-200  # below this, values are drawn as zero


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis, in units of a drawing whose y grows downwards.

    Attributes:
        low: the value at `bottom`.
        high: the value at `top`.
        bottom: where `low` is.
        top: where `high` is.
        logarithmic: whether places are logarithms of values.
        ticks: place and text of round values, from below.
    """

    low: float
    high: float
    bottom: float
    top: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(cls, values: Sequence[float], *, bottom: float, top: float, share: bool = False) -> Axis:
        """The axis that shows finite values, at least one.

        Args:
            values: what is drawn.
            bottom: y of its low end.
            top: y of its high end.
            share: the values lie in 0..1, and so does the axis.
        """
        low, high = min(values), max(values)
        if not share and low > 0 and math.log10(high) - math.log10(low) > _DECADES:
            return _logarithmic(low, high, bottom, top)
        slack = _slack(low, high)
        low, high = low - slack, high + slack
        if share:
            low, high = max(0.0, low), min(1.0, high)
        elif min(values) >= 0:
            low = 0.0 if low < high * _NEAR_ZERO else low
        step = _round_step(high / _FEWEST - low / _FEWEST)
        bare = cls(low, high, bottom, top, logarithmic=False, ticks=())
        numbers = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        digits = max(0, -math.floor(math.log10(step) + _ROUNDING))
        return cls(low, high, bottom, top, logarithmic=False, ticks=bare.marks(numbers, digits))

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        share = (at / 2 - low / 2) / (high / 2 - low / 2)
        return round(self.bottom + share * (self.top - self.bottom), 1)

    def marks(self, values: Sequence[float], digits: int) -> tuple[tuple[float, str], ...]:
        """Place and text of values."""
        return tuple((self.place(value), _tick_text(value, digits)) for value in values)


def amounts(value: float) -> str:
    """A loss or an accuracy in a sentence: three decimals, or four digits where that says too little or too much."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"  # noqa: PLR2004


def _slack(low: float, high: float) -> float:
    """How far an axis goes beyond its values; more where they are all the same."""
    size, half = max(abs(low), abs(high)), high / 2 - low / 2  # halved, as the span of two extremes is no float
    if size < _NOTHING:
        return _SLACK
    slack = 2 * _SLACK * half if half > size * _ROUNDING else size * _SLACK / 2
    return slack if math.isfinite(size + slack) else 0.0


def _logarithmic(low: float, high: float, bottom: float, top: float) -> Axis:
    low, high = math.log10(low), math.log10(high)
    slack = (high - low) * _SLACK
    # within what a float can be
    low, high = 10.0 ** max(low - slack, -307.0), 10.0 ** min(high + slack, 308.0)
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, math.ceil((last - first + 1) / _MOST_DECADES))
    bare = Axis(low, high, bottom, top, logarithmic=True, ticks=())
    ticks = bare.marks([10.0**n for n in range(first, last + 1, every)], 0)
    return Axis(low, high, bottom, top, logarithmic=True, ticks=ticks)


def _round_step(most: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is no larger."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(factor * power for factor in (0.5, 1.0, 2.0, 5.0) if factor * power <= most)


def _tick_text(value: float, digits: int) -> str:
    value += 0.0  # no minus before a zero
    if value and not 1e-4 <= abs(value) < 1e5:  # noqa: PLR2004 - what has room beside the axis
        mantissa, power = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:,.{digits}f}" if value == int(value) or digits else f"{value:.4g}"
