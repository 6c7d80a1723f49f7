"""How optimistic choosing the best of many is: the whole comparison, repeated inside outer folds."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from regraft import heads
from regraft.errors import RegraftError
from regraft.evaluation.comparison import Optimism, mean_interval
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.contest import contest
from regraft.recipes.contest_splits import make_task_splits, parse_folds, score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import SimpleNamespace

    from regraft.evaluation.comparison import Leaderboard
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.contest import Entry
    from regraft.recipes.contest_splits import Task
    from regraft.recipes.listen import Listener


def nested_optimism(
    entries: Sequence[Entry],
    strategies: Sequence[Strategy],
    task: Task,
    board: Leaderboard,
    asked: SimpleNamespace,
    deadline: float | None,
    listener: Listener,
) -> Optimism | None:
    """The score of what the procedure recommends, on outer folds that it never saw, beside the winner's own mean.

    The candidate that is fitted in an outer fold has as many images to learn from as one has in the comparison
    itself, so the difference is what choosing adds. Strategies that train take no part.

    Source: S. Varma and R. Simon, "Bias in error estimation when using cross-validation for model selection", BMC
    Bioinformatics 7 (2006).

    Args:
        entries: features of the training part.
        strategies: heads on features.
        task: labels and groups.
        board: the comparison itself.
        asked: its options.
        deadline: shared evenly by the outer folds; None for no limit.
        listener: is told how it goes.

    Returns:
        The estimate, or None where it could not be made, which is told.
    """
    folds = parse_folds(asked.folds)
    outer = make_task_splits(task, folds[0], 1, seed=asked.seed + folds[1])  # not one of the comparison's own
    scores, chosen = [], []
    for number, part in enumerate(outer.parts):
        left = None if deadline is None else (deadline - time.perf_counter()) / (len(outer.parts) - number)
        if left is not None and left <= 0:
            listener.warn(f"the nested estimate did not fit in the budget: {number} of {len(outer.parts)} outer folds")
            return None
        learnt = task.take(part.learn)
        inner = [replace(entry, features=entry.features[part.learn]) for entry in entries]
        try:
            found = contest(
                inner, strategies, learnt, folds=folds, seed=asked.seed, metric=board.metric, budget=left,
                progress=listener.progress,
            )  # fmt: skip
        except RegraftError as error:
            listener.warn(f"the nested estimate could not be made: {error}")
            return None
        winner = found.recommended.candidate
        entry = next(one for one in entries if one.backbone == winner.backbone)
        fitted = heads.fit(
            STRATEGIES[winner.strategy].head,
            entry.features[part.learn],
            learnt.targets,
            len(task.classes),
            groups=learnt.groups,
            seed=asked.seed,
            classes=task.classes,
            blocks=entry.blocks,
        )
        predicted = fitted.head.logits(entry.features[part.held_out]).argmax(axis=1)
        scores.append(score(board.metric, task.targets[part.held_out], predicted))
        chosen.append(winner.name)
        listener.say(f"outer fold {number + 1} of {len(outer.parts)}: {winner.name}, {scores[-1]:.3f}")
    low, high = mean_interval(np.array(scores), outer.ratio, outer.images)
    return Optimism(board.recommended.mean, float(np.mean(scores)), low, high, tuple(chosen))
