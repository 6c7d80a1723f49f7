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

    from regraft.data.manifest import Item
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.contest import Entry
    from regraft.recipes.contest_splits import Split, Splits, Task
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Listener

SEEDS = 3
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

    A fifth of what a split learns from is set aside to choose the best epoch; the images that it holds out are
    measured once, by `train` itself. So the candidate is what `train` would keep, which is the linear probe where
    training did not improve on it. With a deadline each training gets its even share of the time that is left, and
    none is begun that would end after it.

    Args:
        entries: the backbones.
        strategies: those that train.
        part: the training part, and nothing else.
        task: its labels and groups.
        splits: those of the contest.
        metric: "accuracy" or "balanced_accuracy".
        options: further options of `train`.
        deadline: `time.perf_counter()`, or None.
        listener: is told what happens.
    """
    rivals = Rivals()
    firsts = [(n, split) for n, split in enumerate(splits.parts) if split.fold == 0][:SEEDS]
    order = sorted(strategies, key=lambda one: _QUICKEST.index(one.name) if one.name in _QUICKEST else 0)
    pairs = [(entry, plan) for plan in order for entry in sorted(entries, key=lambda entry: entry.image_ms)]
    for number, (entry, plan) in enumerate(pairs):
        name = f"{plan.name} on {entry.backbone}"
        scores = np.full(len(splits.parts), np.nan)
        seconds: list[float] = []
        for seed, (position, split) in enumerate(firsts):
            left = len(pairs[number:]) * len(firsts) - seed
            budget = None if deadline is None else (deadline - time.perf_counter()) / left
            if budget is not None and budget < max([1.0, *seconds]) / 2:
                break
            listener.say(f"{name}, seed {seed + 1} of {len(firsts)}")
            began = time.perf_counter()
            asked = {
                **options,
                "backbone": entry.backbone,
                "strategy": plan.name,
                "seed": options.get("seed", 0) + seed,
            }
            if budget is not None:
                asked["budget"] = f"{budget:.1f}s"
            try:
                scores[position] = _train_once(part, task, split, metric, asked)
            except RegraftError as error:
                if budget is None or not str(error).startswith("budget"):  # else not one epoch fits: it is missed
                    rivals.failed[name] = str(error)
                break
            seconds.append(time.perf_counter() - began)
        if len(seconds) == len(firsts):
            cost, size = float(np.mean(seconds)), entry.size
            rivals.candidates.append(Candidate(entry.backbone, plan.name, scores, cost, entry.image_ms, size))
        elif name not in rivals.failed:
            rivals.missed.append(name)
    if rivals.candidates:
        seeds = f"{len(firsts)} seeds, each on one split" if len(firsts) > 1 else "one seed on one split"
        rivals.notes.append(
            f"strategies that train the network were measured with {seeds}; they are placed by their difference from"
            " the others on the same splits"
        )
    return rivals


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
