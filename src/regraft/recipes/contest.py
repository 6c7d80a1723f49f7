"""A contest of strategies on features: every candidate on the same splits, cheapest first, under one budget.

Nothing here knows of files or of a test part: what is not among the arrays cannot have a say.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft import heads
from regraft.errors import DataError, OptionError, RegraftError
from regraft.evaluation.comparison import AS_FAST, Candidate, Leaderboard, stand
from regraft.features.runtime import cores
from regraft.heads.head import log_softmax
from regraft.heads.prepared import prepare
from regraft.heads.threads import one_thread
from regraft.recipes.contest_splits import FOLDS, REPEATS, choose_metric, make_task_splits, score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from regraft.heads.head import Head
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.contest_splits import Split, Splits, Task

_TIMED_ROWS, _TIMED_RUNS = 64, 3
_FEW = 5  # folds that everybody shall have before anybody has more
# The cheap ones first, as long as nothing has been measured.
_ORDER = ("nearest-mean", "naive-bayes", "knn", "lda", "svm-linear", "svm-rbf", "svm", "linear-probe", "mlp-head")
_EXPECTED = {name: n for n, name in enumerate(_ORDER)}


@dataclass(frozen=True, eq=False)
class Entry:
    """Features to compete on.

    Attributes:
        backbone: whose they are, such as `a+b`.
        features: (N, D) of the images to learn from, and of no others.
        blocks: widths of several backbones' features that lie side by side.
        image_ms: what the backbones take for an image.
        size: bytes of the backbones' weights.
    """

    backbone: str
    features: NDArray[np.float32]
    blocks: tuple[int, ...] = ()
    image_ms: float = 0.0
    size: int = 0


@dataclass(eq=False)
class Contestant:
    """A candidate while it is measured."""

    entry: Entry
    strategy: Strategy
    scores: NDArray[np.float64]
    losses: NDArray[np.float64]
    seconds: list[float] = field(default_factory=list)
    head: Head | None = None
    failed: str = ""

    @property
    def name(self) -> str:
        """As `Candidate.name`."""
        return f"{self.strategy.name} on {self.entry.backbone}"

    @property
    def cost(self) -> float:
        """Seconds of a fit that shares nothing with others."""
        return float(np.mean(self.seconds)) if self.seconds else np.inf


def measure(
    entries: Sequence[Entry],
    strategies: Sequence[Strategy],
    task: Task,
    splits: Splits,
    metric: str,
    *,
    seed: int = 0,
    deadline: float | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Contestant]:
    """Fit and score every strategy on every entry, on the same splits.

    Without a deadline everything is measured, and equal arguments give equal scores. With one, each is fitted on the
    first split, the cheapest first, which tells what it costs, as long as those that are begun can have a few folds;
    these few are gone through by as many as fit, then the rest of the first repeat; then further repeats, as long as
    all had the last one.

    Args:
        entries: features; rows belong to `task`.
        strategies: those that are heads on features.
        task: labels and groups.
        splits: as `make_task_splits` gives them.
        metric: "accuracy" or "balanced_accuracy".
        seed: of the fits.
        deadline: `time.perf_counter()` after which no fit is begun.
        progress: told the number of fits done, and the total.

    Returns:
        Contestants, with NaN for what was not measured. One that cannot be fitted says why and is left alone.
    """
    empty = np.full(len(splits.parts), np.nan)
    everyone = [Contestant(entry, strategy, empty.copy(), empty.copy()) for entry in entries for strategy in strategies]
    done = [0]

    def run(job: tuple[int, list[Contestant]]) -> None:
        number, group = job
        _fit_group(group, number, splits.parts[number], task, metric, seed, deadline)
        done[0] += len(group)
        progress(done[0], len(everyone) * len(splits.parts))

    # Heads limit the threads of BLAS one by one, which is undone for all when the first of them ends. Only libraries
    # that are loaded by now are limited.
    for module in {name for strategy in strategies for name in strategy.imports}:
        import_module(module)
    with one_thread(), ThreadPoolExecutor(cores()) as pool:

        def go(numbers: Sequence[int], whom: Sequence[Contestant]) -> None:
            groups = [[one for one in whom if one.entry is entry] for entry in entries]
            list(pool.map(run, [(number, group) for number in numbers for group in groups if group]))

        if deadline is None:
            go(range(len(splits.parts)), everyone)
        else:
            _in_rounds(go, everyone, splits, deadline)
    return everyone


def _in_rounds(
    go: Callable[[Sequence[int], Sequence[Contestant]], None],
    everyone: Sequence[Contestant],
    splits: Splits,
    deadline: float,
) -> None:
    """Go through the splits as the time allows."""
    few = min(splits.folds, _FEW)
    begun: list[Contestant] = []
    for rank in sorted({_expected(one) for one in everyone}):  # the quickest on every backbone first
        if begun and _seconds(begun, few - 1) > deadline - time.perf_counter():
            break  # the time that is left is for those whose cost is known
        group = [one for one in everyone if _expected(one) == rank]
        go([0], group)
        begun += [one for one in group if one.seconds and not one.failed]
    first, *further = _by_repeat(splits)
    for numbers in filter(None, (first[1:few], first[few:])):
        fit = _that_fit(begun, len(numbers), deadline - time.perf_counter())
        go(numbers, fit)
        for one in sorted((one for one in begun if one not in fit), key=lambda one: one.cost):
            go(numbers[: max(0, int((deadline - time.perf_counter()) * cores() / one.cost))], [one])
    last = first
    for numbers in further:
        if not all(one.failed or np.isfinite(one.scores[last]).all() for one in begun):
            return
        go(numbers, _that_fit(begun, len(numbers), deadline - time.perf_counter()))
        last = numbers


def _by_repeat(splits: Splits) -> list[list[int]]:
    """Numbers of the splits, a list a repeat."""
    repeats = [part.repeat for part in splits.parts]
    return [[n for n, repeat in enumerate(repeats) if repeat == which] for which in sorted(set(repeats))]


def _seconds(contestants: Sequence[Contestant], splits: int) -> float:
    """What they take for so many splits."""
    return sum(one.cost for one in contestants) * splits / cores()


def _expected(one: Contestant) -> int:
    """The place of its strategy among all, the quickest to fit first."""
    return _EXPECTED.get(one.strategy.name, len(_EXPECTED))


def _that_fit(contestants: Sequence[Contestant], splits: int, seconds: float) -> list[Contestant]:
    """Those that can be measured on so many more splits in so many seconds, the cheapest first."""
    spent, fit = 0.0, []
    for one in sorted(contestants, key=lambda one: one.cost):
        spent += one.cost * splits / cores()
        if spent <= seconds:
            fit.append(one)
    return [one for one in contestants if one in fit]


def _fit_group(
    group: Sequence[Contestant],
    number: int,
    split: Split,
    task: Task,
    metric: str,
    seed: int,
    deadline: float | None,
) -> None:
    """Fit contestants of one entry on one split, and score them on what it holds out."""
    entry, learnt = group[0].entry, task.take(split.learn)
    rows: tuple[Any, Any, int] = entry.features[split.learn], learnt.targets, len(task.classes)
    options: dict[str, Any] = {"groups": learnt.groups, "seed": seed, "classes": task.classes, "blocks": entry.blocks}
    held_out = entry.features[split.held_out]
    prepared = None
    for one in sorted(group, key=lambda one: (one.cost, _expected(one))):
        if one.failed or (deadline is not None and time.perf_counter() > deadline):
            continue
        began = time.perf_counter()
        try:
            if number:  # on the first split everybody is fitted alone, which tells what a fit costs
                prepared = prepared or prepare(*rows, **options)
            head = heads.fit(one.strategy.head, *rows, **options, prepared=prepared).head
            seconds = time.perf_counter() - began
            logits = head.logits(held_out)
        except RegraftError as error:
            one.failed = str(error)
            continue
        if number == 0:
            one.seconds.append(seconds)
        truth = task.targets[split.held_out]
        one.scores[number] = score(metric, truth, logits.argmax(axis=1))
        one.losses[number] = -log_softmax(logits)[np.arange(len(truth)), truth].mean()
        if number == 0:
            one.head = head


def as_candidates(contestants: Sequence[Contestant], splits: Splits) -> tuple[list[Candidate], list[str]]:
    """Those that were measured on two splits at least, or as many as anybody, and the names of those that were not.

    It takes a whole repeat to be recommended.
    """
    counts = [int(np.isfinite(one.scores).sum()) for one in contestants if not one.failed]
    needed = max(1, min(2, max(counts, default=0)))
    found, missed = [], []
    for one in contestants:
        if one.failed:
            continue
        if np.isfinite(one.scores).sum() < needed or one.head is None:
            missed.append(one.name)
            continue
        size = one.entry.size + sum(array.nbytes for array in one.head.arrays().values())
        ms = one.entry.image_ms + _head_ms(one.head, one.entry.features)
        measured = one.scores, one.cost, ms, size, one.losses
        found.append(Candidate(one.entry.backbone, one.strategy.name, *measured, enough=splits.folds))
    return found, missed


def _head_ms(head: Head, features: NDArray[np.float32]) -> float:
    """Milliseconds the head takes for an image, the least of some runs over a small batch."""
    rows, times = features[:_TIMED_ROWS], []
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        head.logits(rows)
        times.append(time.perf_counter() - began)
    return 1000 * min(times) / len(rows)


def contest(
    entries: Sequence[Entry],
    strategies: Sequence[Strategy],
    task: Task,
    *,
    folds: tuple[int, int] = (FOLDS, REPEATS),
    seed: int = 0,
    metric: str = "auto",
    budget: float | None = None,
    as_fast: float = AS_FAST,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Leaderboard:
    """Compare strategies on features by repeated cross-validation.

    Args:
        entries: features to compete on.
        strategies: those that are heads on features.
        task: labels and groups.
        folds: folds and repeats.
        seed: of splits and fits.
        metric: "auto", "accuracy" or "balanced_accuracy".
        budget: seconds, or None.
        as_fast: as in `stand`.
        progress: told the number of fits done, and the total.

    Raises:
        DataError: nothing can be held out, or no candidate could be fitted.
        OptionError: an unknown metric, or a budget in which nothing could be measured.
    """
    deadline = None if budget is None else time.perf_counter() + budget
    splits = make_task_splits(task, *folds, seed=seed)
    metric = choose_metric(metric, task.targets)
    everyone = measure(entries, strategies, task, splits, metric, seed=seed, deadline=deadline, progress=progress)
    return to_leaderboard(everyone, splits, task, metric, as_fast=as_fast)


def to_leaderboard(
    contestants: Sequence[Contestant],
    splits: Splits,
    task: Task,
    metric: str,
    *,
    others: Sequence[Candidate] = (),
    as_fast: float = AS_FAST,
) -> Leaderboard:
    """Rank what was measured on features, and `others` that were measured on some of the same splits.

    Raises:
        DataError: no candidate could be fitted.
        OptionError: nothing could be measured in the time.
    """
    candidates, missed = as_candidates(contestants, splits)
    failed = {one.name: one.failed for one in contestants if one.failed}
    candidates += others
    if not candidates:
        if failed:
            raise DataError(f"no candidate could be fitted: {next(iter(failed.values()))}")
        raise OptionError("the budget was over before anything was measured; allow more, or name fewer candidates")
    standings = stand(candidates, splits.ratio, splits.images, as_fast=as_fast)
    most, told = max(one.splits for one in standings), splits.told
    if most < len(splits.parts):
        told = f"{most} of the {len(splits.parts)} splits of {told}"
    return Leaderboard(standings, metric, told, len(task.targets), tuple(missed), failed, splits.notes)
