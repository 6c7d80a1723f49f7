"""The report of a model that finds changes: numbers, curves, and tiles with their errors in colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regraft.evaluation.change import IGNORED
from regraft.evaluation.change_scores import UNDEFINED, interval_text
from regraft.evaluation.report import change_curves, change_pictures, epochs, sections
from regraft.evaluation.report.change_pictures import embedded, errors_picture, label_picture
from regraft.evaluation.report.write import environment
from regraft.evaluation.scores import SPLIT_WORDS, counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.backbones.backbone import BackboneCard
    from regraft.data.manifest import Skipped
    from regraft.evaluation.change_scores import ChangeEvaluation
    from regraft.evaluation.report.content import DecodeNote
    from regraft.evaluation.report.pictures import Picture

PAIRS_SHOWN = 200  # rows of the table; metrics.json has them all
_SHADES = 10
_KIND = "of the change class"
_FIGURES = {
    "precision": ("Precision", f"{_KIND}: share of what is called changed that is"),
    "recall": ("Recall", f"{_KIND}: share of what changed that is found"),
    "iou": ("IoU", f"{_KIND}: found pixels over all that changed or are called so"),
    "average_precision": ("Average precision", f"{_KIND}, over all thresholds; chance gives {{share:.3f}}"),
    "mean_f1": ("Mean F1", "mean over the classes, unchanged among them"),
    "mean_iou": ("Mean IoU", "mean over the classes, unchanged among them"),
    "accuracy": ("Pixel accuracy", "calling nothing changed gives {nothing:.3f}"),
    "kappa": ("Kappa", "agreement beyond chance (Cohen)"),
    "loss": ("Log loss", "of a pixel, nats; lower is better"),
}


@dataclass(frozen=True, eq=False)
class Tile:
    """One pair, or a window of it, to look at.

    Attributes:
        name: of the pair.
        before: (H, W, 3) uint8; `change_pictures.to_picture` makes one of any bands.
        after: likewise.
        truth: (H, W) uint8 classes, 255 ignored.
        predicted: (H, W) uint8 classes.
        where: which part of the pair this is, in words; empty for all of it.
    """

    name: str
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    where: str = ""


@dataclass(frozen=True)
class ChangeReport:
    """Everything that the report shows; what is empty is left out. Other fields are as in `content.Report`.

    Attributes:
        evaluation: the headline's numbers.
        worst: tiles with many wrong pixels, see `tiles_to_show`.
        best: tiles that went well.
        others: the numbers of other parts.
        split_sizes: how many pairs each part has, in manifest words.
        threshold_note: where the threshold comes from, in a sentence.
        epochs: as in `epochs.describe`; `val_f1` and `train_f1` of a row are the F1 of the change class.
    """

    title: str
    command: str
    evaluation: ChangeEvaluation
    worst: tuple[Tile, ...] = ()
    best: tuple[Tile, ...] = ()
    others: tuple[ChangeEvaluation, ...] = ()
    split_sizes: dict[str, int] = field(default_factory=dict)
    split_note: str = ""
    threshold_note: str = ""
    selection: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
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
class Card:
    """A tile as the page shows it: four pictures with their words, and the tile's own numbers."""

    name: str
    where: str
    pictures: tuple[tuple[str, Picture], ...]
    told: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A field of the confusion matrix: pixels, share of the row, and its style."""

    pixels: int
    share: float
    style: str


def tiles_to_show(evaluation: ChangeEvaluation, worst: int = 12, best: int = 4) -> tuple[list[str], list[str]]:
    """Names of the pairs with most wrong pixels, and of others with the highest F1, each in this order."""
    ordered = sorted(evaluation.per_pair, key=lambda one: (-one.wrong, one.name))
    bad = [one.name for one in ordered if one.wrong][:worst]
    good = [one for one in ordered if one.found and one.name not in set(bad)]
    good.sort(key=lambda one: (-(one.f1 or 0.0), -one.found, one.name))
    return bad, [one.name for one in good[:best]]


def render_change_report(report: ChangeReport) -> str:
    """The report as HTML text, a function of its argument alone."""
    evaluation = report.evaluation
    pairs = sorted(evaluation.per_pair, key=lambda one: (-one.wrong, one.name))
    return (
        environment()
        .get_template("change.html.jinja")
        .render(
            report=report,
            evaluation=evaluation,
            f1=number_text(evaluation.scores["f1"]),
            interval=interval_text(evaluation.intervals["f1"]),
            meaning=_meaning(evaluation),
            figures=_figures(evaluation),
            others=[other.sentence() for other in report.others],
            sizes=", ".join(f"{SPLIT_WORDS.get(s, s)} {counted(n, 'pair')}" for s, n in report.split_sizes.items()),
            curves=change_curves.describe(evaluation.counts.histogram, evaluation.threshold),
            curves_size=(change_curves.WIDTH, change_curves.HEIGHT, change_curves.PLACES),
            matrix=_matrix(evaluation),
            worst=[_card(tile, len(evaluation.classes)) for tile in report.worst],
            best=[_card(tile, len(evaluation.classes)) for tile in report.best],
            legend=_legend(evaluation),
            pairs=pairs[:PAIRS_SHOWN],
            course=_course(report.epochs),
            course_size=(epochs.WIDTH, epochs.HEIGHT, epochs.LEFT, epochs.RIGHT, epochs.TOP, epochs.BOTTOM),
            history=None,
            parts=(),
            skipped=sections.by_reason(report.skipped),
            rejected=sections.by_reason(report.rejected),
            longest=max(report.timings.values(), default=0.0) or 1.0,
            total=sum(report.timings.values()),
        )
    )


def number_text(value: float | None) -> str:
    """A number with three decimals, or that it is not defined."""
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.3f}"


def _meaning(evaluation: ChangeEvaluation) -> str:
    """The headline in counts, for a reader who does not know the words."""
    counts = evaluation.counts
    found = sum(one.found for one in evaluation.per_pair)
    text = f"{counted(evaluation.n, 'pair')}, {counts.pixels:,} pixels."
    if not counts.changed:
        return f"{text} None of them changed; {evaluation.false:,} are called changed."
    return (
        f"{text} {found:,} of {counts.changed:,} changed pixels are found, and {evaluation.false:,} unchanged ones are "
        "called changed. F1 is the harmonic mean of precision and recall of the change class over all pixels."
    )


def _figures(evaluation: ChangeEvaluation) -> list[tuple[str, str, str, str]]:
    """Label, number, interval and hint of each score but the F1."""
    share = evaluation.counts.changed / evaluation.counts.pixels
    return [
        (
            label,
            number_text(evaluation.scores[name]),
            interval_text(evaluation.intervals[name]),
            hint.format(share=share, nothing=1 - share),
        )
        for name, (label, hint) in _FIGURES.items()
    ]


def _matrix(evaluation: ChangeEvaluation) -> list[tuple[str, int, list[Cell]]]:
    """For each true class its name, its pixels, and what they were taken for; empty for very many classes."""
    if len(evaluation.classes) > sections.MATRIX_CLASSES:
        return []
    rows = []
    for i, (name, row) in enumerate(zip(evaluation.classes, evaluation.table.tolist(), strict=True)):
        shares = [pixels / max(sum(row), 1) for pixels in row]
        cells = [
            Cell(pixels, share, f"{'d' if i == j else 'e'} {f's{math.ceil(share * _SHADES)}' if pixels else 'z'}")
            for j, (pixels, share) in enumerate(zip(row, shares, strict=True))
        ]
        rows.append((name, sum(row), cells))
    return rows


def _card(tile: Tile, classes: int) -> Card:
    known = tile.truth != IGNORED
    is_change, said = (tile.truth > 0) & known, (tile.predicted > 0) & known
    found, false, missed = (int(part.sum()) for part in (is_change & said, ~is_change & said, is_change & ~said))
    f1 = 2 * found / (2 * found + false + missed) if found + missed else math.nan
    return Card(
        tile.name,
        tile.where,
        (
            ("before", embedded(tile.before, photo=True)),
            ("after", embedded(tile.after, photo=True)),
            ("truth", embedded(label_picture(tile.truth, classes), photo=False)),
            ("prediction", embedded(errors_picture(tile.truth, tile.predicted), photo=False)),
        ),
        f"F1 {number_text(f1)}; pixels: {found:,} found, {false:,} false, {missed:,} missed",
    )


def _legend(evaluation: ChangeEvaluation) -> list[tuple[str, str]]:
    """Colour and words of what the prediction's picture shows."""
    entries = [
        (change_pictures.FOUND, "change found"),
        (change_pictures.FALSE, "false: called changed, is not"),
        (change_pictures.MISSED, "missed change"),
        (change_pictures.UNCHANGED, "unchanged"),
        (change_pictures.GREY, "ignored"),
    ]
    if len(evaluation.classes) > 2:  # noqa: PLR2004
        entries.insert(3, (change_pictures.OTHER, "another kind of change"))
    return [("#{:02x}{:02x}{:02x}".format(*colour), words) for colour, words in entries]


def _course(rows: tuple[dict[str, Any], ...]) -> epochs.Course | None:
    """The training, with the F1 of the change class drawn as `epochs` draws a score."""
    plain = [{key.replace("_f1", "_score") if _of_change(key) else key: row[key] for key in row} for row in rows]
    course = epochs.describe(plain)
    if course is None or not any(_of_change(key) for row in rows for key in row):
        return course
    return replace(
        course,
        told=_named(course.told),
        columns=tuple(map(_named, course.columns)),
        charts=tuple(_named_chart(chart) if chart.name == "score" else chart for chart in course.charts),
    )


def _named_chart(chart: epochs.Chart) -> epochs.Chart:
    curves = (
        replace(curve, dots=tuple(replace(dot, title=_named(dot.title)) for dot in curve.dots))
        for curve in chart.curves
    )
    return replace(chart, name="change F1", told=_named(chart.told).replace("Score", "Change F1"), curves=tuple(curves))


def _of_change(key: str) -> bool:
    return key in {"train_f1", "val_f1"}


def _named(text: str) -> str:
    return text.replace(" score", " change F1")
