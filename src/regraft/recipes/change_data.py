"""From what the user named to pairs that can be learnt from: read, survey, quarantine, split."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regraft.data.pair_checks import survey
from regraft.data.pair_splits import split_pairs
from regraft.data.pair_table import is_pair_table, read_pair_table
from regraft.data.pairs import is_pairs, read_pairs
from regraft.errors import DataError, OptionError
from regraft.recipes.change_findings import alpha_bands, leaks, one_sided, other_grids
from regraft.recipes.gather import check_rejected, tell_skipped

if TYPE_CHECKING:
    from regraft.data.change_labels import LabelCoding
    from regraft.data.manifest import Skipped
    from regraft.data.pair_checks import PairSurvey
    from regraft.data.pairs import Pairs
    from regraft.inference.change.bundle import ChangeBundle
    from regraft.recipes.listen import Clock, Listener


@dataclass(frozen=True)
class PairData:
    """Pairs that can be read.

    Attributes:
        pairs: with keys, and with splits where they were asked for.
        survey: their sizes, bands and label coding.
    """

    pairs: Pairs
    survey: PairSurvey

    @property
    def rejected(self) -> tuple[Skipped, ...]:
        """Files that could not be read, and why."""
        return self.survey.rejected

    @property
    def coding(self) -> LabelCoding:
        """What the labels' values mean."""
        assert self.survey.coding is not None
        return self.survey.coding


def names_pairs(data: object, task: str) -> bool:
    """Whether the data is pairs for change detection: asked for, or recognised by its folders.

    Raises:
        OptionError: a task that is not known.
    """
    if task not in {"auto", "classes", "change"}:
        raise OptionError(f"task {task!r} is unknown: use auto, classes, change")
    if task != "auto":
        return task == "change"
    return isinstance(data, str | os.PathLike) and (is_pair_table(data) or is_pairs(os.fspath(data)))


def refuse_pairs(data: object, verb: str) -> None:
    """For verbs that look at one image at a time.

    Raises:
        OptionError: the data is pairs.
    """
    if names_pairs(data, "auto"):
        raise OptionError(
            f"{data} holds pairs of two dates (A, B, label), and {verb} looks at one image at a time. For pairs use"
            " train, evaluate, predict and show."
        )


def read_named(data: str | os.PathLike[str], *, labelled: bool = True) -> Pairs:
    """The pairs of a folder or a table.

    Raises:
        DataError: as `read_pairs` and `read_pair_table`.
    """
    return (read_pair_table if is_pair_table(data) else read_pairs)(os.fspath(data), labelled=labelled)


def check_bands(found: PairSurvey, bundle: ChangeBundle, source: str) -> None:
    """Refuse pairs of other bands than a model learnt from.

    Raises:
        DataError: naming both.
    """
    if (found.bands, found.dtype) != (bundle.bands, bundle.dtype):
        raise DataError(
            f"{source} has {found.bands} bands of {found.dtype}, but the model was trained on {bundle.bands} of"
            f" {bundle.dtype}. Give it images like those it was trained on."
        )


def gather_pairs(
    data: str | os.PathLike[str],
    clock: Clock,
    listener: Listener,
    *,
    max_rejected: float,
    max_pixels: int,
    classes: int | None = None,
) -> PairData:
    """Read labelled pairs.

    Args:
        data: as the user named it.
        clock: counts the time.
        listener: is told what was found.
        max_rejected: share of unreadable pairs above which it stops.
        max_pixels: larger images are rejected.
        classes: K that a model knows, so that masks in which nothing is changed are fine; None to learn from them.

    Raises:
        DataError: whatever is wrong with the pairs.
        TooManyRejected: more than the share of them cannot be read.
    """
    with clock.phase("read"):
        named = read_named(data)
        tell_skipped(named.skipped, listener)
        found = survey(named, max_pixels=max_pixels, classes=classes, on_progress=listener.progress)
    check_rejected(found.rejected, len(named), max_rejected, listener)
    pairs = found.pairs
    for line in (*alpha_bands(pairs), *other_grids(pairs)):
        listener.warn(line)
    assert found.coding is not None
    listener.say(f"{len(pairs)} pairs, {found.bands} bands of {found.dtype}; {found.coding.sentence()}")
    return PairData(pairs, found)


def divided(data: PairData, listener: Listener, *, seed: int, resplit: bool) -> PairData:
    """With a train and a val part; where there is no val, some of train are set aside."""
    pairs = split_pairs(data.pairs, seed=seed, resplit=resplit)
    sizes = ", ".join(f"{name} {size}" for name, size in pairs.split_sizes().items())
    listener.say(f"splits: {pairs.split_note}" + ("" if sizes in pairs.split_note else f"; {sizes}"))
    for line in (*leaks(pairs), *one_sided(data.survey)):
        listener.warn(line)
    return replace(data, pairs=pairs)
