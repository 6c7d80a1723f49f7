"""The course of a training: loss and accuracy over its epochs, as curves and as a table."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.evaluation.report.axes import Axis, amounts
from regraft.evaluation.report.text import duration, value_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 36, 36
MOST_ROWS = 400  # of the table; history.jsonl has them all
_MOST_DOTS = 120
_EPOCH_TICKS = 8
_LETTER = 5.2  # width of a letter of a phase's name, units of the drawing
_WORDS = {"train": "training", "val": "validation"}
_COLUMNS = {
    "lr": "learning rate",
    "head_lr": "learning rate of the head",
    "images_per_second": "images a second",
    "seconds": "time",
    "best": "best so far",
}


@dataclass(frozen=True, slots=True)
class Dot:
    """One evaluation on a curve, in units of the drawing."""

    x: float
    y: float
    best: bool
    title: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity of one part.

    Attributes:
        part: "train" or "val".
        lines: the stretches between values that are not numbers, as SVG polylines.
        dots: one for each number; only those that a line cannot show where there are very many.
    """

    part: str
    lines: tuple[str, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing.

    Attributes:
        name: what is drawn, "loss", "accuracy" or, of several tasks, "score".
        curves: training below, validation on top.
        ticks: height and text of each line across.
        logarithmic: whether heights are logarithms.
        told: the drawing in words.
    """

    name: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool
    told: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a phase begins and ends on the drawing; its name is empty where there is no room for it."""

    start: float
    end: float
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Course:
    """A training as drawings and text.

    Attributes:
        told: what was best and how long it took, in sentences.
        charts: of what was measured.
        phases: at least two, or none.
        best: where the best weights are, or None.
        across: place and text of each mark below.
        x_name: what is counted below.
        columns: names of the table's columns, for people.
        rows: for each row, whether it has the best weights, and its cells.
        rows_left_out: how many rows were too many for the table.
    """

    told: str
    charts: tuple[Chart, ...]
    phases: tuple[Stretch, ...]
    best: float | None
    across: tuple[tuple[float, str], ...]
    x_name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[bool, tuple[str, ...]], ...]
    rows_left_out: int


def describe(epochs: Sequence[dict[str, Any]]) -> Course | None:
    """Lay out a training.

    Args:
        epochs: one row for each evaluation, in order, as in history.jsonl: `epoch` (whole ones done), `step`,
            `phase`, `lr`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `seconds`,
            `images_per_second`, `best` (better than all before: the last such row has the best weights) and others.
            Each may be missing, None or not finite.
    """
    if not epochs:
        return None
    best = max((i for i, row in enumerate(epochs) if row.get("best") is True), default=None)
    places, across, x_name = _across(epochs)
    drawn = (_chart(name, epochs, places, best) for name in ("loss", "accuracy", "score"))
    charts = [chart for chart in drawn if chart is not None]
    columns = tuple(dict.fromkeys(key for row in epochs for key in row))
    shown = range(max(0, len(epochs) - MOST_ROWS), len(epochs))
    return Course(
        told=_told(epochs, best),
        charts=tuple(charts),
        phases=_phases(epochs, places),
        best=None if best is None else places[best],
        across=across,
        x_name=x_name,
        columns=tuple(map(_column, columns)),
        rows=tuple((i == best, tuple(_cell(c, epochs[i].get(c)) for c in columns)) for i in shown),
        rows_left_out=len(epochs) - len(shown),
    )


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _across(epochs: Sequence[dict[str, Any]]) -> tuple[list[float], tuple[tuple[float, str], ...], str]:
    """Where each row is drawn, the marks of the axis, and what they count.

    Rows are placed by their steps, so that evaluations within an epoch are too; epochs are marked where they end.
    """
    steps, counts = ([number(row.get(key)) for row in epochs] for key in ("step", "epoch"))
    settings, x_name = [float(i + 1) for i in range(len(epochs))], "evaluation"
    for candidates, name in ((counts, "epoch"), (steps, "step")):
        known = [value for value in candidates if value is not None]
        if len(known) == len(epochs) and all(a < b for a, b in itertools.pairwise(known)):
            settings, x_name = known, name
    low, high = min(settings), max(settings)
    span = WIDTH - RIGHT - LEFT - 12
    places = [
        round(LEFT + 6 + span * (x - low) / (high - low), 1) if high > low else LEFT + 6 + span / 2 for x in settings
    ]
    marks = [(place, value_text(x)) for place, x in zip(places, settings, strict=True)]
    whole = [value for value in counts if value is not None and value == int(value)]
    if (
        x_name != "evaluation"
        and len(whole) == len(epochs)
        and whole[-1] >= 1
        and all(a <= b for a, b in itertools.pairwise(whole))
    ):
        ends = {int(value): place for value, place in reversed(list(zip(whole, places, strict=True))) if value >= 1}
        marks, x_name = [(ends[value], f"{value:,}") for value in sorted(ends)], "epoch"
    every = next(n for n in _round_counts() if len(marks) <= n * _EPOCH_TICKS)
    return places, tuple(marks[every - 1 :: every]), x_name


def _round_counts() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    return (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))


def _chart(name: str, epochs: Sequence[dict[str, Any]], places: Sequence[float], best: int | None) -> Chart | None:
    values = {part: [number(row.get(f"{part}_{name}")) for row in epochs] for part in _WORDS}
    finite = [v for column in values.values() for v in column if v is not None]
    if not finite:
        return None
    axis = Axis.over(finite, bottom=HEIGHT - BOTTOM, top=TOP, share=name in {"accuracy", "score"})
    curves = []
    for part, column in values.items():
        if any(value is not None for value in column):
            points = [None if v is None else (x, axis.place(v)) for x, v in zip(places, column, strict=True)]
            curves.append(_curve(part, name, points, epochs, best))
    return Chart(name, tuple(curves), axis.ticks, axis.logarithmic, _in_words(name, values, best))


def _curve(
    part: str,
    name: str,
    points: Sequence[tuple[float, float] | None],
    epochs: Sequence[dict[str, Any]],
    best: int | None,
) -> Curve:
    stretches: list[list[int]] = [[]]
    for i, point in enumerate(points):
        if point is None:
            stretches.append([])
        else:
            stretches[-1].append(i)
    drawn = [i for i, point in enumerate(points) if point is not None]
    if len(drawn) > _MOST_DOTS:
        drawn = [i for i in drawn if i == best or [i] in stretches]
    dots = []
    for i in drawn:
        x, y = points[i] or (0.0, 0.0)
        title = f"{_when(epochs[i])}: {_WORDS[part]} {name} {value_text(epochs[i][f'{part}_{name}'])}"
        dots.append(Dot(x, y, i == best, title + (", the best weights" if i == best else "")))
    lines = [" ".join("{},{}".format(*(points[i] or ())) for i in s) for s in stretches if len(s) > 1]
    return Curve(part, tuple(lines), tuple(dots))


def _in_words(name: str, values: dict[str, list[float | None]], best: int | None) -> str:
    """A chart for those who do not see it."""
    sentences = []
    for part, column in values.items():
        finite = [v for v in column if v is not None]
        if not finite:
            continue
        text = f"{_WORDS[part]} {name} {value_text(finite[0])}"
        if len(finite) > 1:
            text += f" at first, {value_text(finite[-1])} at last"
        if best is not None and column[best] is not None:
            text += f", {value_text(column[best])} with the best weights"
        lost = len(column) - len(finite)
        sentences.append(text + (f", {lost} without a number" if lost else ""))
    return f"{name.capitalize()} over the training: {'; '.join(sentences)}."


def _phases(epochs: Sequence[dict[str, Any]], places: Sequence[float]) -> tuple[Stretch, ...]:
    names = [row.get("phase") for row in epochs]
    starts = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1])]
    if len(starts) == 1:
        return ()
    # A row is written at the end of what it tells of, so a phase begins at the last row of the one before.
    edges = [float(LEFT), *(places[i - 1] for i in starts[1:]), float(WIDTH - RIGHT)]
    found = []
    for i, start, end in zip(starts, edges[:-1], edges[1:], strict=True):
        name = value_text(names[i])
        fits = len(name) * _LETTER < end - start - 4
        found.append(Stretch(start, end, name if fits else "", name))
    return tuple(found)


def _told(epochs: Sequence[dict[str, Any]], best: int | None) -> str:
    seconds = [s for row in epochs if (s := number(row.get("seconds"))) is not None]
    sentences = []
    if best is None:
        sentences.append("No evaluation is marked as the best.")
    else:
        judged = {name: number(epochs[best].get(f"val_{name}")) for name in ("accuracy", "score", "loss")}
        texts = [f"validation {name} {amounts(value)}" for name, value in judged.items() if value is not None]
        place = f"evaluation {best + 1:,} of {len(epochs):,} ({_when(epochs[best])})"
        if all(row.get("epoch") == i + 1 for i, row in enumerate(epochs)):
            place = f"epoch {best + 1:,} of {len(epochs):,}"
        sentences.append(
            f"The best weights are those of {place}{': ' if texts else ''}{', '.join(texts)}. They were chosen on the"
            " validation images, so their numbers there are a little optimistic."
        )
    if seconds:
        sentences.append(f"Training took {duration(sum(seconds))}, evaluations included.")
    return " ".join(sentences)


def _when(row: dict[str, Any]) -> str:
    """What to call a row: "epoch 3", or with a step where it is known."""
    named = [f"{key} {value_text(row[key])}" for key in ("epoch", "step") if number(row.get(key)) is not None]
    return ", ".join(named) or "one evaluation"


def _column(name: str) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name]
    part, _, rest = name.partition("_")
    return f"{_WORDS.get(part, part)} {rest}".replace("_", " ").strip()


def _cell(column: str, value: object) -> str:
    if column == "seconds" and (seconds := number(value)) is not None:
        return duration(seconds)
    if isinstance(value, float) and math.isnan(value):
        return "not a number"
    return value_text(value)
