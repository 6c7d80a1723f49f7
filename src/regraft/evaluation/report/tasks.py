"""The report of a model with several tasks: one table of all, then a section for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.multilabel import MultilabelEvaluation
from regraft.evaluation.report import epochs, scatter, sections
from regraft.evaluation.report.pictures import make_pictures, read_thumbnail
from regraft.evaluation.report.text import value_text
from regraft.evaluation.report.write import environment, secondary
from regraft.evaluation.scores import Evaluation
from regraft.evaluation.task_scores import MEAN_IS

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from regraft.backbones.backbone import BackboneCard
    from regraft.data.manifest import Item, Skipped
    from regraft.evaluation.multilabel import LabelScore
    from regraft.evaluation.report.content import DecodeNote
    from regraft.evaluation.scores import ClassScore
    from regraft.evaluation.task_scores import TaskOutputs, TaskScores
    from regraft.evaluation.tasks import TaskEvaluation

_WRONG_SHOWN = 4  # images a task
_WEAK_SHOWN = 10
_LABELS_SHOWN = 200
_KINDS = {"classes": "one of {} classes", "multilabel": "any of {} labels", "regression": "a number"}
_MULTILABEL = {
    "mean_average_precision": ("Mean average precision", "over the labels; chance gives {}"),
    "macro_f1": ("Macro F1", "mean F1 of the labels; the best constant answer gives {}"),
    "micro_f1": ("Micro F1", "all answers counted together; the best constant answer gives {}"),
}
_NUMBERS = {
    "mae": ("Mean absolute error", "always answering the training median gives {}"),
    "rmse": ("Root mean squared error", "always answering the training mean gives {}"),
    "r2": ("R2", "share of the variance that is told; 0 is what the mean gives"),
    "spearman": ("Spearman", "correlation of the ranks"),
}


@dataclass(frozen=True)
class TaskReport:
    """Everything that the report shows; what is empty is left out. The other fields are as in `content.Report`.

    Attributes:
        scores: the headline's numbers.
        outputs: what each task was told, in the order of the tasks.
        items: the images that the outputs are of.
        others: the numbers of other parts.
        chosen: for each task the settings that were chosen, as text.
    """

    title: str
    command: str
    scores: TaskScores
    outputs: tuple[TaskOutputs, ...]
    items: tuple[Item, ...]
    others: tuple[TaskScores, ...] = ()
    split_note: str = ""
    selection: str = ""
    chosen: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    rejected: tuple[Skipped, ...] = ()
    left_out: tuple[str, ...] = ()
    from_file: bool = False
    decode_notes: tuple[DecodeNote, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    backbones: tuple[BackboneCard, ...] = ()
    epochs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of tasks.

    Attributes:
        name: the task, or the number of a task that has several.
        anchor: of its section.
        kind: in words.
        images: of which it is known here.
        measure: what `value` is.
        value: the number.
        interval: its 95 % interval, or None.
        alone: what a model of this task alone reaches, in words; empty where that is not known.
        constant: what a constant answer reaches; None where that is not known.
        answer: which one.
    """

    name: str
    anchor: str
    kind: str
    images: int
    measure: str
    value: float | None
    interval: tuple[float, float] | None
    alone: str
    constant: float | None
    answer: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of the strip below a task's name; numbers as text, since units differ."""

    label: str
    value: str
    interval: str
    hint: str


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a regression task."""

    name: str
    strip: tuple[Figure, ...]
    scatter: scatter.Scatter


@dataclass(frozen=True)
class Section:
    """One task; what does not belong to its kind is empty."""

    name: str
    anchor: str
    lead: str
    notes: tuple[str, ...]
    strip: tuple[Figure, ...] = ()
    names: tuple[str, ...] = ()
    matrix: tuple[sections.MatrixRow, ...] = ()
    pairs: tuple[sections.Pair, ...] = ()
    classes: tuple[ClassScore, ...] = ()
    learnt: dict[str, int] = field(default_factory=dict)
    wrong: tuple[sections.Card, ...] = ()
    wrong_total: int = 0
    labels: tuple[tuple[LabelScore, float], ...] = ()  # with the probability that is its threshold
    labels_total: int = 0
    numbers: tuple[Number, ...] = ()


def render_tasks(report: TaskReport, thumbnail: Callable[[str], Image.Image] = read_thumbnail) -> str:
    """The report as HTML text, a function of its arguments and the pictures alone.

    Args:
        report: what it shows.
        thumbnail: gives the decoded image of a path.
    """
    outputs = {own.name: own for own in report.outputs}
    parts = [
        _section(f"task-{n}", task, outputs[task.name], report.items) for n, task in enumerate(report.scores.tasks, 1)
    ]
    shown = [card.path for part in parts for card in part.wrong]
    shown += [error.path for part in parts for number in part.numbers for error in number.scatter.errors]
    return (
        environment()
        .get_template("tasks.html.jinja")
        .render(
            report=report,
            scores=report.scores,
            mean_is=MEAN_IS,
            rows=[
                row
                for part, task in zip(parts, report.scores.tasks, strict=True)
                for row in _rows(part.anchor, task, outputs[task.name])
            ],
            parts_of_tasks=parts,
            pictures=make_pictures(shown, thumbnail),
            weak=_WEAK_SHOWN,
            places=scatter.PLACES,
            chart_size=(scatter.WIDTH, scatter.HEIGHT),
            course=epochs.describe(report.epochs),
            course_size=(epochs.WIDTH, epochs.HEIGHT, epochs.LEFT, epochs.RIGHT, epochs.TOP, epochs.BOTTOM),
            history=None,
            parts=(),
            skipped=sections.by_reason(report.skipped),
            rejected=sections.by_reason(report.rejected),
            longest=max(report.timings.values(), default=0.0) or 1.0,
            total=sum(report.timings.values()),
        )
    )


def _rows(anchor: str, task: TaskEvaluation, own: TaskOutputs) -> list[Row]:
    """The lines of a task in the table of all: one, or one a number."""
    measure, value = task.score
    kind = _KINDS[task.kind].format(len(own.classes))
    alone = "" if task.alone is None else "the same" if task.alone == value else f"{task.alone:.3f}"
    told = task.evaluation
    if isinstance(told, Evaluation):
        bounds = told.intervals["accuracy"]
        always = f"always ‘{told.baseline_class}’"
        return [Row(task.name, anchor, kind, told.n, "accuracy", value, bounds, alone, told.baseline_accuracy, always)]
    if isinstance(told, MultilabelEvaluation):
        base = told.baselines[measure]
        bounds = told.intervals[measure]
        return [Row(task.name, anchor, kind, told.n, "mean average precision", value, bounds, alone, base, "by chance")]
    rows = []
    for number in told.numbers:
        name = task.name if len(told.numbers) == 1 else f"{task.name}: {number.name}"
        fit, error = number.scores["r2"], number.scores["rmse"]
        base_fit = None
        if fit is not None and error:  # both errors over the same spread
            base_fit = round(1 - (1 - fit) * (number.baseline_rmse / error) ** 2, 3) + 0.0  # no minus before a zero
        bounds_fit = number.intervals.get("r2")
        of_one = alone if len(told.numbers) == 1 or alone == "the same" else ""
        rows.append(Row(name, anchor, kind, number.n, "R2", fit, bounds_fit, of_one, base_fit, "the training mean"))
    return rows


def _section(anchor: str, task: TaskEvaluation, own: TaskOutputs, items: tuple[Item, ...]) -> Section:
    told = task.evaluation
    if isinstance(told, Evaluation):
        found = sections.gallery(own.predictions(items))
        learnt = np.bincount(own.training[own.training >= 0], minlength=len(own.classes)).tolist()
        images = f"{told.n:,} images with a class; {int(told.confusion.trace()):,} named rightly."
        return Section(
            task.name,
            anchor,
            images,
            told.notes,
            strip=tuple(_class_figures(told)),
            names=told.classes,
            matrix=sections.matrix(told),
            pairs=sections.confused_pairs(told)[:_WEAK_SHOWN],
            classes=sections.weakest_first(told),
            learnt=dict(zip(own.classes, learnt, strict=True)),
            wrong=found.wrong[:_WRONG_SHOWN],
            wrong_total=found.wrong_total,
        )
    if isinstance(told, MultilabelEvaluation):
        figures = [
            Figure(label, f"{told.scores[key]:.3f}", _bounds(told.intervals[key]), hint.format(f"{base:.3f}"))
            for (key, (label, hint)), base in zip(_MULTILABEL.items(), told.baselines.values(), strict=True)
        ]
        ordered = sorted(told.per_label, key=lambda one: (one.average_precision is None, one.average_precision or 0.0))
        lead = f"{told.n:,} images of which labels are known."
        shown = tuple((one, 1 / (1 + math.exp(-np.clip(one.threshold, -700, 700)))) for one in ordered[:_LABELS_SHOWN])
        return Section(task.name, anchor, lead, told.notes, tuple(figures), labels=shown, labels_total=len(ordered))
    numbers = []
    for column, number in enumerate(told.numbers):
        strip = []
        baselines = {"mae": number.baseline_mae, "rmse": number.baseline_rmse}
        for key, (label, hint) in _NUMBERS.items():
            score = number.scores[key]
            if score is not None:
                base = value_text(baselines.get(key))
                text = f"{score:.3f}" if key in {"r2", "spearman"} else value_text(score)
                strip.append(Figure(label, text, _bounds(number.intervals[key]), hint.format(base)))
        drawn = scatter.describe(items, own.targets[:, column], own.outputs[:, column])
        numbers.append(Number(number.name, tuple(strip), drawn))
    return Section(task.name, anchor, "", told.notes, numbers=tuple(numbers))


def _class_figures(told: Evaluation) -> list[Figure]:
    low, high = told.intervals["accuracy"]
    hint = f"always answering ‘{told.baseline_class}’ gives {told.baseline_accuracy:.3f}"
    first = Figure("Accuracy", f"{told.scores['accuracy']:.3f}", _bounds((low, high)), hint)
    return [first, *(Figure(label, f"{v:.3f}", _bounds(b), hint) for label, v, b, hint in secondary(told))]


def _bounds(pair: tuple[float, float]) -> str:
    small = max(map(abs, pair)) < 10  # noqa: PLR2004 - scores and small numbers have three decimals
    return " to ".join(f"{value:.3f}" if small else f"{value:.4g}" for value in pair)
