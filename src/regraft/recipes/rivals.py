"""Strategies that train the network, measured for a comparison on some of the splits that all are measured on."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.manifest import table_csv
from regraft.errors import RegraftError
from regraft.evaluation.comparison import Candidate
from regraft.heads.folds import make_folds
from regraft.recipes.train import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.data.manifest import Item
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.contest import Entry
    from regraft.recipes.contest_splits import Split, Splits, Task
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Listener

SEEDS = 3
_LEAST, _SHORTEST = 10.0, 0.5  # seconds: what a training should have, and what is not even begun
_QUICKEST = ("partial", "lora", "gradual", "lp-ft", "finetune", "scratch")


@dataclass(eq=False)
class Rivals:
    """What became of the strategies that train.

    Attributes:
        candidates: those that were measured.
        missed: names of those that did not fit in the budget.
        failed: names of those that could not be trained, and why.
        notes: what the reader must know.
    """

    candidates: list[Candidate] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def measure_rivals(
    entries: Sequence[Entry],
    strategies: Sequence[Strategy],
    part: Gathered,
    task: Task,
    splits: Splits,
    metric: str,
    options: dict[str, Any],
    *,
    deadline: float | None,
    listener: Listener,
) -> Rivals:
    """Train each strategy on each backbone with `SEEDS` seeds: seed s on the first split of repeat s.

    Where there are fewer repeats, the second split of each comes next. A fifth of what a split learns from is set aside
    to choose the best epoch; the images that it holds out are measured once, by `train` itself. So the candidate is
    what `train` would keep, which is the linear probe where training did not improve on it.

    With a deadline the quickest come first, as many as can have `_LEAST` seconds a training, each with its even share
    of the time that is left. Where that buys no epoch, fewer share it.

    Args:
        entries: the backbones.
        strategies: those that train.
        part: the training part, and nothing else.
        task: its labels and groups.
        splits: those of the contest.
        metric: "accuracy" or "balanced_accuracy".
        options: further options of `train`; its seed is the first one's.
        deadline: `time.perf_counter()`, or None.
        listener: is told what happens.
    """
    rivals = Rivals()
    positions = sorted(range(len(splits.parts)), key=lambda n: (splits.parts[n].fold, splits.parts[n].repeat))[:SEEDS]
    order = sorted(strategies, key=lambda one: _QUICKEST.index(one.name) if one.name in _QUICKEST else 0)
    waiting = [(entry, plan) for plan in order for entry in sorted(entries, key=lambda entry: entry.image_ms)]
    sharing = len(waiting)
    if deadline is not None:
        sharing = min(sharing, max(1, int((deadline - time.perf_counter()) / (_LEAST * len(positions)))))
    pace = _Pace(deadline)
    while waiting:
        entry, plan = waiting[0]
        sharing = min(sharing, len(waiting))
        tried = _Tried(f"{plan.name} on {entry.backbone}", np.full(len(splits.parts), np.nan))
        how = {**options, "backbone": entry.backbone, "strategy": plan.name}
        if sharing:
            _try(tried, part, task, splits, metric, positions, how, sharing, pace, listener)
        if tried.short and not tried.seconds and sharing > 1:
            sharing //= 2
            continue
        waiting.pop(0)
        if tried.failed:
            rivals.failed[tried.name] = tried.failed
            continue
        sharing -= 1 if deadline is not None else 0
        if tried.seconds:
            cost = float(np.mean(tried.seconds))
            measured = tried.scores, cost, entry.image_ms, entry.size
            rivals.candidates.append(Candidate(entry.backbone, plan.name, *measured))
        else:
            rivals.missed.append(tried.name)
    if rivals.candidates:
        most = max(int(np.isfinite(one.scores).sum()) for one in rivals.candidates)
        seeds = f"{most} seeds, each on one split" if most > 1 else "one seed on one split"
        rivals.notes.append(
            f"strategies that train the network were measured with {seeds}; they are placed by their difference from"
            " the others on the same splits"
        )
    return rivals


@dataclass(eq=False)
class _Tried:
    """What became of one candidate; `short` says that the time was over, or bought no epoch."""

    name: str
    scores: NDArray[np.float64]
    seconds: list[float] = field(default_factory=list)
    failed: str = ""
    short: bool = False


@dataclass(eq=False)
class _Pace:
    """Shares of the time that is left; what a training takes beyond its own budget (its report) is taken off."""

    deadline: float | None
    beyond: float = 0.0

    def share(self, parts: int) -> float | None:
        """Seconds for one of so many trainings; None without a deadline."""
        return None if self.deadline is None else (self.deadline - time.perf_counter()) / parts - self.beyond

    def learn(self, took: float, share: float | None) -> None:
        """A training that was allowed `share` seconds took so many."""
        if share is not None:
            self.beyond = max(self.beyond, took - share)


def _try(
    tried: _Tried,
    part: Gathered,
    task: Task,
    splits: Splits,
    metric: str,
    positions: Sequence[int],
    options: dict[str, Any],
    sharing: int,
    pace: _Pace,
    listener: Listener,
) -> None:
    """Train one candidate with its seeds, as long as the time lasts that it shares with so many others."""
    for n, position in enumerate(positions):
        share = pace.share(sharing * len(positions) - n)
        tried.short = share is not None and share < _SHORTEST
        if tried.short:
            return
        listener.say(f"{tried.name}, training {n + 1} of {len(positions)}")
        asked = {**options, "seed": options.get("seed", 0) + n}
        asked |= {} if share is None else {"budget": f"{share:.1f}s"}
        began = time.perf_counter()
        try:
            tried.scores[position] = _train_once(part, task, splits.parts[position], metric, asked)
        except RegraftError as error:
            tried.short = share is not None and str(error).startswith("budget")  # not one epoch fits
            tried.failed = "" if tried.short else str(error)
            return
        tried.seconds.append(time.perf_counter() - began)
        pace.learn(tried.seconds[-1], share)


def _train_once(part: Gathered, task: Task, split: Split, metric: str, options: dict[str, Any]) -> float:
    """Train on what a split learns from, and measure on what it holds out; nothing is left behind."""
    items: list[Item] = [replace(item, split="train") for item in part.manifest.items]
    for row in split.held_out:
        items[row] = replace(items[row], split="test")
    inner = make_folds(
        task.targets[split.learn],
        groups=None if task.groups is None else task.groups[split.learn],
        seed=options["seed"],
    )
    for row in split.learn[inner.held_out_in == 0]:
        items[row] = replace(items[row], split="val")
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        table = Path(folder) / "table.csv"
        table.write_text(table_csv(items), "utf-8", "surrogateescape", newline="")
        run = train(table, run=Path(folder) / "run", **options)
        return float(run.evaluation.scores[metric])
