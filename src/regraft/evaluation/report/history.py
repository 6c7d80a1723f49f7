"""The comparison that chose the settings: a table of candidates, and a curve where one number was varied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.evaluation.report.text import value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 30
_FEWEST = 3
_FOLDS = "fold_"  # `fold_log_loss` holds the folds' scores beside `log_loss`, their mean
_DECADES = 1.0  # a setting that spans more than this is drawn on a logarithmic axis


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One candidate on the curve; low and high are its worst and best fold, equal where folds are not known."""

    x: float
    y: float
    low: float
    high: float
    chosen: bool
    title: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A setting against a score, in units of the drawing.

    Attributes:
        points: in order of the setting.
        line: the points as an SVG polyline.
        x_name: the setting.
        y_name: the score.
        x_ends: text at the left and right end of the axis.
        y_ends: text at the bottom and top of the axis.
    """

    points: tuple[CurvePoint, ...]
    line: str
    x_name: str
    y_name: str
    x_ends: tuple[str, str]
    y_ends: tuple[str, str]


@dataclass(frozen=True, slots=True)
class History:
    """Candidates as text.

    Attributes:
        columns: names of the columns, for people.
        rows: for each candidate, whether it was chosen and its cells.
        curve: where exactly one number was varied, or None.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[bool, tuple[str, ...]], ...]
    curve: Curve | None


def describe(history: Sequence[dict[str, Any]], chosen: dict[str, Any]) -> History | None:
    """Lay out the candidates that were compared.

    A row is the chosen one where every setting it shares with `chosen` is equal.

    Args:
        history: one row for each candidate, JSON values.
        chosen: the settings that were chosen.
    """
    if not history:
        return None
    columns = tuple(dict.fromkeys(key for row in history for key in row))
    marks = [_is_chosen(row, chosen) for row in history]
    if all(marks):
        marks = [False] * len(marks)
    cells = [tuple(value_text(row.get(column)) for column in columns) for row in history]
    return History(tuple(map(named, columns)), tuple(zip(marks, cells, strict=True)), _curve(history, columns, marks))


def named(name: str) -> str:
    """A setting's or score's name for people: `fold_log_loss` is "log loss of each fold"."""
    of = " of each fold" if name.startswith(_FOLDS) else ""
    return name.removeprefix(_FOLDS).replace("_", " ") + of


def _is_chosen(row: dict[str, Any], chosen: dict[str, Any]) -> bool:
    shared = {key for key in row.keys() & chosen.keys() if not isinstance(row[key], list)}
    return bool(shared) and all(row[key] == chosen[key] for key in shared)


def _numeric(history: Sequence[dict[str, Any]], column: str) -> list[float] | None:
    values = [row.get(column) for row in history]
    if all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        return [float(v) for v in values if v is not None]
    return None


def _curve(history: Sequence[dict[str, Any]], columns: Sequence[str], marks: Sequence[bool]) -> Curve | None:
    """The first column of numbers against the score, where nothing else was varied."""
    numbers = {column: values for column in columns if (values := _numeric(history, column)) is not None}
    if len(history) < _FEWEST or len(numbers) < 2:  # noqa: PLR2004 - a setting and a score
        return None
    x_name, y_name = next(iter(numbers)), _score_name(history, list(numbers))
    settings, scores = numbers[x_name], numbers[y_name]
    texts = {c for c in columns if c not in numbers and not any(isinstance(r.get(c), list) for r in history)}
    varied = any(len({value_text(row.get(column)) for row in history}) > 1 for column in texts)
    if varied or x_name == y_name or len(set(settings)) < len(settings):
        return None
    folds = [_fold_range(row.get(_FOLDS + y_name), score) for row, score in zip(history, scores, strict=True)]
    logarithmic = min(settings) > 0 and math.log10(max(settings) / min(settings)) > _DECADES
    across = [math.log10(s) for s in settings] if logarithmic else settings
    low, high = min(a for a, _ in folds), max(b for _, b in folds)
    points = []
    for x, setting, score, fold, mark in zip(across, settings, scores, folds, marks, strict=True):
        heights = [_scale(value, low, high, HEIGHT - _BOTTOM, _TOP) for value in (score, *fold)]
        title = f"{named(x_name)} {value_text(setting)}: {named(y_name)} {value_text(score)}"
        left = _scale(x, min(across), max(across), _LEFT, WIDTH - _RIGHT)
        points.append(CurvePoint(left, heights[0], heights[1], heights[2], mark, title))
    points.sort(key=lambda point: point.x)
    return Curve(
        points=tuple(points),
        line=" ".join(f"{p.x},{p.y}" for p in points),
        x_name=named(x_name) + (" (logarithmic)" if logarithmic else ""),
        y_name=named(y_name),
        x_ends=(value_text(min(settings)), value_text(max(settings))),
        y_ends=(value_text(low), value_text(high)),
    )


def _score_name(history: Sequence[dict[str, Any]], numbers: Sequence[str]) -> str:
    """The column that the folds were scored by; else a mean; else the last."""
    folded = [name for name in numbers if isinstance(history[0].get(_FOLDS + name), list)]
    return next(iter([*folded, *(name for name in numbers if "mean" in name), numbers[-1]]))


def _fold_range(folds: object, score: float) -> tuple[float, float]:
    """The lowest and highest of a candidate's scores, the mean among them."""
    scores = folds if isinstance(folds, list) else []
    finite = [float(v) for v in scores if isinstance(v, int | float) and math.isfinite(v)]
    return min([score, *finite]), max([score, *finite])


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return round(start + share * (end - start), 1)
