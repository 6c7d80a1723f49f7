"""Which strategy on features to take for images whose features are there: `train --strategy auto`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.errors import DataError
from regraft.heads.folds import stratified_subset
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.contest import Entry, contest
from regraft.recipes.contest_splits import FOLDS, REPEATS, Task
from regraft.recipes.fit_head import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.evaluation.comparison import Leaderboard
    from regraft.features.frozen import Frozen
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock, Listener

_FEW, _MOST_ROWS = 500, 1000
FALLBACK = "linear-probe"


@dataclass(frozen=True, eq=False)
class Choice:
    """A strategy that was chosen.

    Attributes:
        strategy: which one.
        leaderboard: of the comparison, or None where nothing could be compared.
        note: what the user should know.
    """

    strategy: Strategy
    leaderboard: Leaderboard | None
    note: str


def feature_strategies() -> list[Strategy]:
    """The strategies that are heads on frozen features."""
    return [plan for plan in STRATEGIES.values() if not plan.trains]


def task_of(gathered: Gathered) -> Task:
    """Labels and groups of the images; it takes the training part, and must not be given another."""
    manifest = gathered.manifest
    return Task(np.array(manifest.targets(), np.int64), manifest.classes, groups_of(manifest))


def entry_of(backbone: str, gathered: Gathered, backbones: Sequence[Frozen] = (), image_ms: float = 0.0) -> Entry:
    """The features of the images as an entry of a contest; it takes the training part, likewise."""
    size = sum(one.weights.stat().st_size for one in backbones)
    return Entry(backbone, gathered.table.features, gathered.blocks, image_ms, size)


def choose(gathered: Gathered, backbones: Sequence[Frozen], seed: int, clock: Clock, listener: Listener) -> Choice:
    """Compare all strategies on features by cross-validation within the training part, and say which one to take.

    Up to 500 images 5 folds are dealt three times; of more, a stratified part of about 1,000 images is dealt once. The
    clock has no say: equal data gives an equal choice. As all strategies share the backbone, what a head adds to its
    time is not weighed: of those that cannot be told apart the highest mean is taken.

    Args:
        gathered: all images; only its training part is looked at.
        backbones: whose features they are; none for a feature file.
        seed: of parts, splits and fits.
        clock: counts the time.
        listener: is told the outcome.
    """
    part = gathered.split("train")
    rows = stratified_subset(task_of(part).targets, _MOST_ROWS, seed=seed)
    notes = []
    if len(rows) < len(part.manifest):
        notes.append(f"compared on {len(rows):,} of the {len(part.manifest):,} training images, a stratified part")
        part = part.take(rows.tolist())
    few = len(part.manifest) <= _FEW
    plans = feature_strategies()
    clock.import_now(*{name for plan in plans for name in plan.imports})
    name = "+".join(one.card.name for one in backbones) or "features"
    try:
        with clock.phase("compare"):
            board = contest(
                [entry_of(name, part, backbones, np.nan)],
                plans,
                task_of(part),
                folds=(FOLDS, REPEATS if few else 1),
                seed=seed,
                as_fast=np.inf,
                progress=listener.progress,
            )
    except DataError as error:
        note = f"{FALLBACK} was taken without a comparison: {error}"
        listener.warn(note)
        return Choice(STRATEGIES[FALLBACK], None, note)
    board = replace(board, notes=(*board.notes, *notes))
    listener.say(board.brief)
    for note in board.notes:
        listener.say(f"  {note}")
    return Choice(STRATEGIES[board.recommended.candidate.strategy], board, board.brief)
