"""What `regraft rank` finds: backbones in order, the recommendation and its sentence, and the file of them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from regraft.atomic import check_writable, write_text
from regraft.errors import OptionError, RunExists

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ENDINGS = (".csv", ".json")
_AS_FAST = 1.1  # what differs by less is as fast: times on a busy machine say no more
_NAMED = 4


@dataclass(frozen=True)
class RankedBackbone:
    """One backbone's scores on the training part; intervals are of 95 %.

    Attributes:
        name: as it was named, with tags resolved; several joined by `+`.
        rank: by log loss, 1 is the best.
        rank_interval: least and greatest rank in resampled images.
        tied: whether the images cannot tell its log loss from that of the first.
        log_loss: of cross-validated logistic regression, nats; lower is better.
        log_loss_interval: low and high.
        behind_interval: of its log loss less that of the first, image by image.
        accuracy: of the same regression.
        accuracy_interval: low and high.
        knn: accuracy of the 5 nearest other images by cosine similarity.
        knn_interval: low and high.
        logme: nats an image; higher is better. Of features whose backbones have the same spread.
        h_score: regularised; higher is better.
        leep: nats, higher is better; None where the weights have no classifier.
        nce: likewise.
        seconds: an image in the network alone, measured here, all processors at work.
        dims: features an image.
        size_bytes: of the weights on disk.
    """

    name: str
    rank: int
    rank_interval: tuple[int, int]
    tied: bool
    log_loss: float
    log_loss_interval: tuple[float, float]
    behind_interval: tuple[float, float]
    accuracy: float
    accuracy_interval: tuple[float, float]
    knn: float
    knn_interval: tuple[float, float]
    logme: float
    h_score: float
    leep: float | None
    nce: float | None
    seconds: float
    dims: int
    size_bytes: int


@dataclass(frozen=True)
class Ranking:
    """Backbones by how well their features suit the training images.

    Attributes:
        backbones: in the order of their ranks.
        failed: why others could not be scored, by name.
        recommended: the cheapest of those that the images cannot tell from the first.
        sentence: says so, and why.
        images: training images that the scores are of.
        classes: how many classes these have.
        notes: what the reader of the numbers must know.
    """

    backbones: tuple[RankedBackbone, ...]
    failed: dict[str, str]
    recommended: str
    sentence: str
    images: int
    classes: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def recommend(ranked: Sequence[RankedBackbone], images: int) -> tuple[str, str]:
    """The cheapest of the backbones that are tied with the first, and the sentence that says so.

    Cheapest is fastest; of those that are as fast within 10 %, the one of best rank.

    Args:
        ranked: in the order of their ranks.
        images: that the ranks are of.
    """
    first = ranked[0]
    tied = [one for one in ranked if one.tied]
    fastest = min(one.seconds for one in tied)
    choice = next(one for one in tied if one.seconds <= _AS_FAST * fastest)
    cost = f"{1000 * choice.seconds:.3g} ms an image, {choice.size_bytes / 1e6:.3g} MB"
    if len(ranked) == 1:
        return choice.name, f"Recommended: {choice.name}, the only one that could be scored ({cost})."
    if len(tied) == 1:
        words = f"it has the least log loss ({first.log_loss:.3f}), and {images:,} images tell it from all others"
        return choice.name, f"Recommended: {choice.name} ({cost}): {words}."
    others = [one.name for one in tied if one is not first]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    cannot = f"{images:,} images cannot tell it from {', '.join(others[:_NAMED])}{more}"
    if choice is first:
        words = f"it has the least log loss ({first.log_loss:.3f}); {cannot}, none of which is cheaper"
    else:
        words = (
            f"{first.name} has the least log loss ({_apart(first.log_loss, choice.log_loss)}), but {cannot},"
            f" and of these {choice.name} is the cheapest"
        )
    return choice.name, f"Recommended: {choice.name} ({cost}): {words}."


def _apart(least: float, more: float) -> str:
    """Two numbers with as many digits as it takes to tell them apart, but no more than six."""
    for digits in range(3, 7):
        if f"{least:.{digits}f}" != f"{more:.{digits}f}":
            return f"{least:.{digits}f} against {more:.{digits}f}"
    return f"{least:.3f}, as the other to six digits"


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a file that could not be written, before the work is done.

    Raises:
        OptionError: an ending other than .csv or .json.
        RunExists: the file exists and `overwrite` is false.
        CannotWrite: no place to write in.
    """
    if target.suffix.lower() not in _ENDINGS:
        raise OptionError(f"output {target}: a ranking is written as .csv or .json; choose one of these endings")
    if target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")
    check_writable(target)


def write_ranking(ranking: Ranking, target: Path) -> None:
    """Write it, atomically: as JSON everything, as CSV a row a backbone, those that failed last."""
    if target.suffix.lower() == ".json":
        write_text(target, json.dumps(ranking.to_json(), indent=1) + "\n")
        return
    rows = [_flat(asdict(one), recommended=one.name == ranking.recommended) for one in ranking.backbones]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*rows[0], "error"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    writer.writerows({"name": name, "error": reason} for name, reason in ranking.failed.items())
    write_text(target, buffer.getvalue())


def _flat(values: dict[str, Any], *, recommended: bool) -> dict[str, Any]:
    """Intervals as two columns."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            row[name.replace("_interval", "_low")], row[name.replace("_interval", "_high")] = value
        else:
            row[name] = value
    return {**row, "recommended": recommended}
