"""Writing the report: one HTML file, everything inside, nothing fetched."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from regraft.atomic import write_text
from regraft.evaluation.report import confidence, epochs, feature_map, history, leaderboard, sections
from regraft.evaluation.report.pictures import Picture, make_pictures, read_thumbnail
from regraft.evaluation.report.text import duration, file_name, printable, value_text
from regraft.evaluation.scores import SPLIT_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jinja2 import Environment
    from markupsafe import Markup
    from PIL import Image

    from regraft.evaluation.report.content import Report
    from regraft.evaluation.scores import Evaluation

_BREAKS = re.compile(r"[_\-./\\]+")  # none of these occurs in an escape such as &#39;
_LABELS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
}
_HINTS = {
    "balanced_accuracy": "mean recall, every class counting the same",
    "macro_f1": "mean F1 of the classes",
    "calibration_error": "lower is better: how far confidence is from being right",
}


def write_report(report: Report, target: Path, *, thumbnail: Callable[[str], Image.Image] = read_thumbnail) -> None:
    """Write a report as one HTML file, atomically.

    Args:
        report: what it shows.
        target: the file to write.
        thumbnail: gives the decoded image of a path, of 150 pixels or more on its shorter side; an image that
            it cannot give is replaced by a note that says why.
    """
    chosen = sections.gallery(report.predictions, report.unlike)
    paths = [*(path for path, _ in report.batch), *chosen.paths()]
    write_text(target, render_report(report, chosen, make_pictures(paths, thumbnail)))


def render_report(report: Report, chosen: sections.Gallery, pictures: dict[str, Picture]) -> str:
    """The report as HTML text, a function of its arguments alone.

    Args:
        report: what it shows.
        chosen: the images of the gallery.
        pictures: a thumbnail for every path in `report.batch` and `chosen`.
    """
    evaluation = report.evaluation
    points = None
    if report.features is not None:
        points = feature_map.feature_map(report.features, report.predictions)
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            evaluation=evaluation,
            secondary=secondary(evaluation),
            meaning=_meaning(evaluation),
            pictures=pictures,
            confidence=confidence.describe(report.predictions, report.threshold),
            confidence_size=(confidence.WIDTH, confidence.HEIGHT, confidence.PLACES),
            leaderboard=leaderboard.describe(report.leaderboard),
            leaderboard_size=(leaderboard.WIDTH, leaderboard.HEIGHT),
            matrix=sections.matrix(evaluation),
            mistakes=evaluation.n - int(evaluation.confusion.trace()),
            pairs=sections.confused_pairs(evaluation),
            gallery=chosen,
            classes=sections.weakest_first(evaluation),
            map=points,
            map_size=(feature_map.WIDTH, feature_map.HEIGHT),
            history=history.describe(report.history, report.chosen),
            curve_size=(history.WIDTH, history.HEIGHT),
            course=epochs.describe(report.epochs),
            course_size=(epochs.WIDTH, epochs.HEIGHT, epochs.LEFT, epochs.RIGHT, epochs.TOP, epochs.BOTTOM),
            parts=sections.part_sizes(report.class_sizes),
            skipped=sections.by_reason(report.skipped),
            rejected=sections.by_reason(report.rejected),
            longest=max(report.timings.values(), default=0.0) or 1.0,
            total=sum(report.timings.values()),
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates, with all filters; nothing is printed unescaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("regraft.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(duration=duration, value=value_text, file=file_name, score=score_text, named=history.named)
    made.filters["breakable"] = _breakable
    made.globals.update(words=SPLIT_WORDS, marker=feature_map.marker)
    return made


def _visible(value: Any) -> Any:
    """Applied to everything that a template prints, so that no name can break the file."""
    return printable(value) if type(value) is str else value


def _breakable(text: str) -> Markup:
    """A name that may be broken after an underscore, a hyphen, a point or a slash."""
    from markupsafe import Markup, escape

    escaped = str(escape(printable(text)))
    return Markup(_BREAKS.sub(r"\g<0><wbr>", escaped))  # noqa: S704 - escaped just before


def score_text(value: float | None) -> str:
    """A score with three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def secondary(evaluation: Evaluation) -> list[tuple[str, float, tuple[float, float], str]]:
    """Label, value, interval and hint of each score but the accuracy."""
    rows = []
    for name, value in evaluation.scores.items():
        if name == "accuracy":
            continue
        if name.startswith("top_"):
            k = name.split("_")[1]
            label, hint = f"Top-{k} accuracy", f"the true class is among the {k} most probable"
        else:
            label, hint = _LABELS[name], _HINTS.get(name, "")
        if name == "log_loss":
            hint = f"lower is better: guessing evenly gives {math.log(len(evaluation.classes)):.2f}"
        rows.append((label, value, evaluation.intervals[name], hint))
    return rows


def _meaning(evaluation: Evaluation) -> str:
    """What the headline says, for a reader who does not know the words."""
    hits, (low, high) = int(evaluation.confusion.trace()), evaluation.intervals["accuracy"]
    images = f"{evaluation.split_word} images".lstrip()
    text = f"{hits:,} of {evaluation.n:,} {images} are named rightly."
    if evaluation.is_new:
        text += f" On new images of the same kind, expect an accuracy between {low:.3f} and {high:.3f}."
    if low <= evaluation.baseline_accuracy:
        text += f" So few images cannot tell this model from one that always answers '{evaluation.baseline_class}'."
    return text
