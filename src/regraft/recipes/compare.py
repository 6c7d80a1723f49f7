"""`regraft compare`: which strategy on which backbone to trust, told with what the data can tell apart."""

from __future__ import annotations

import inspect
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regraft.backbones import packaged
from regraft.data.decode import MAX_PIXELS
from regraft.errors import BackboneError, OptionError
from regraft.features.frozen import check_options
from regraft.features.store import cache_folder, usable_cache
from regraft.features.table import VIEWS
from regraft.recipes.backbone import backbone_names, check_names
from regraft.recipes.catalogue import AUTO, STRATEGIES
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.change_data import refuse_pairs
from regraft.recipes.choose import entry_of, feature_strategies, task_of
from regraft.recipes.compare_backbones import gather_all
from regraft.recipes.contest import measure, to_leaderboard
from regraft.recipes.contest_splits import choose_metric, make_task_splits, parse_folds
from regraft.recipes.frozen_run import frozen_run
from regraft.recipes.gather import check_flags, check_numbers, warn_of_leaks
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.nested import nested_optimism
from regraft.recipes.run import Run, choose_folder, command_line
from regraft.recipes.train import source_of, train, train_resolved, warn_of_names
from regraft.recipes.training_options import seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.evaluation.comparison import Leaderboard
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.compare_backbones import Backbones
    from regraft.recipes.contest import Contestant

_LISTENER = Listener()
_LISTS = ("backbones", "strategies")


def compare(
    data: str | os.PathLike[str],
    *,
    backbones: str | list[str] | None = None,
    strategies: str | list[str] | None = None,
    budget: str | None = None,
    folds: str = "5x3",
    nested: bool = False,
    metric: Literal["auto", "accuracy", "balanced_accuracy"] = "auto",
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    views: Literal["none", "flip"] = "none",
    precision: Literal["f32", "bf16"] = "f32",
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    resplit: bool = False,
    max_rejected: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    listener: Listener = _LISTENER,
) -> Run:
    """Compare strategies on backbones, recommend one, and leave the run of it with the leaderboard.

    Every candidate is measured on the same splits of the training part; test and validation images have no say. Of
    the candidates that the data cannot tell apart from the best, the fastest is recommended. It is fitted on all
    training images and measured once, on test where there is one, else on validation.

    Args:
        data: Labelled images, named as for `train`.
        backbones: Names separated by commas, each as --backbone of `train` takes it, such as a,b+c; by default the
            packaged ones that are installed.
        strategies: Names separated by commas; by default all that fit a head on frozen features. all takes those too
            that train the network, which is much slower.
        budget: Compare for about so long: 90s, 10m, 2h. The cheapest come first, and what did not fit is named. Fitting
            and measuring the winner comes on top.
        folds: Folds x repeats of the cross-validation.
        nested: Repeat the whole comparison inside as many outer folds, to see how much too good the winner looks.
        metric: auto is accuracy, or balanced accuracy where the largest class is over five times the smallest.
        run: The folder to leave the run in; by default a new one below `runs`.
        overwrite: Replace the run folder if it exists.
        views: flip averages the features of each image and its mirror image.
        precision: bf16 is faster on processors that have it, and gives other digits.
        runtime: What runs the backbones; auto takes CUDA where there is one, else OpenVINO.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups, which are never on both sides of a split.
        resplit: Make new splits although the data has some.
        max_rejected: Share of unreadable images above which the comparison stops.
        max_pixels: Images with more pixels are rejected before they are decoded.
        seed: Another seed gives other splits, folds and fits.
        listener: Who is told what happens.

    Returns:
        The run of the recommended candidate, with leaderboard.csv and leaderboard.json.

    Raises:
        RegraftError: whatever is wrong with the data or the options, in a sentence; nothing is left behind.
    """
    options = {k: v for k, v in locals().items() if k != "listener"}
    options |= {name: ",".join(map(str, options[name])) for name in _LISTS if isinstance(options[name], list | tuple)}
    began, clock = time.perf_counter(), Clock.start(listener)
    asked = SimpleNamespace(**options)
    plans, names = check(asked)
    cache = usable_cache(cache_folder())
    check_names(names, cache)
    source = source_of(asked)
    if source is None:
        raise OptionError("nothing to compare on: name a folder, a table or sample:textile")
    name = f"{_stem(data)}-compare"
    target = choose_folder(run, name, overwrite=overwrite)
    deadline = None if budget is None else began + seconds_of(budget)
    found = gather_all(asked, names, source, cache, began, clock, listener)
    some = next(iter(found.gathered.values()))
    listener.say(f"splits: {some.manifest.split_note}")
    leaks = [*warn_of_leaks(some.manifest, listener), *warn_of_names(some.manifest, listener)]
    with clock.phase("compare"):
        board = select(found, plans, asked, deadline, listener)
    listener.say(board.brief)
    facts = {"command": command_line(compare, options), "options": options}
    return _keep(board, found, asked, facts, target, name, tuple(leaks), clock, listener)


def check(asked: SimpleNamespace) -> tuple[list[Strategy], list[str]]:
    """Refuse what cannot work before any work is done; returns strategies and names of backbones."""
    check_options(asked.runtime, asked.precision, "none")
    refuse_pairs(asked.data, "compare")
    check_flags(nested=asked.nested, overwrite=asked.overwrite, resplit=asked.resplit)
    check_numbers(seed=asked.seed, max_rejected=asked.max_rejected, max_pixels=asked.max_pixels)
    parse_folds(asked.folds)
    if asked.views not in VIEWS:
        raise OptionError(f"views {asked.views!r} is unknown: use {', '.join(VIEWS)}")
    choose_metric(asked.metric, np.zeros(1, np.int64))
    if asked.budget is not None:
        seconds_of(asked.budget)
    if asked.strategies is None:
        plans = feature_strategies()
    else:
        plans = _strategies(_words("strategies", asked.strategies, "linear-probe,svm"))
    if any(plan.trains for plan in plans) and (asked.views, asked.precision) != ("none", "f32"):
        raise OptionError("--views and --precision are for strategies on frozen features; leave out those that train")
    if asked.nested and not any(not plan.trains for plan in plans):
        raise OptionError("--nested repeats the comparison of strategies on frozen features; name one of those as well")
    if asked.backbones is None:
        names = [one for one in packaged.NAMES if packaged.weights_path(one) is not None]
        if not names:
            raise BackboneError("no packaged backbone is installed; name some with --backbones")
    else:
        names = _words("backbones", asked.backbones, "a,b+c")
        seen: dict[frozenset[str], str] = {}
        for one in names:
            parts = frozenset(backbone_names(one))
            if parts in seen:
                raise OptionError(f"backbones {seen[parts]!r} and {one!r} are the same features; name one of them")
            seen[parts] = one
    return list(dict.fromkeys(plans)), names


def _strategies(words: Sequence[str]) -> list[Strategy]:
    plans: list[Strategy] = []
    for word in words:
        if word.lower() == AUTO.name:
            raise OptionError(f"strategy 'auto' is a comparison itself; name all, or some of {', '.join(STRATEGIES)}")
        plans += list(STRATEGIES.values()) if word.lower() == "all" else [find_strategy(word)]
    return plans


def _words(option: str, text: str, example: str) -> list[str]:
    words = [word.strip() for word in str(text).split(",")]
    if not all(words):
        raise OptionError(f"{option} is {text!r}; expected names separated by commas, such as {example}")
    return list(dict.fromkeys(words))


def _stem(data: str | os.PathLike[str]) -> str:
    stem = Path(str(data).removeprefix("sample:")).resolve().stem or "data"
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in stem)


def select(
    found: Backbones, plans: Sequence[Strategy], asked: SimpleNamespace, deadline: float | None, listener: Listener
) -> Leaderboard:
    """Compare on the training part; from here on no other image is in sight.

    Raises:
        DataError: nothing can be held out, or no candidate could be fitted.
        OptionError: the budget was over before anything was measured.
    """
    parts = {name: one.split("train") for name, one in found.gathered.items()}
    part = next(iter(parts.values()))
    task = task_of(part)
    entries = [entry_of(name, one, found.ready.get(name, ()), found.image_ms[name]) for name, one in parts.items()]
    splits = make_task_splits(task, *parse_folds(asked.folds), seed=asked.seed)
    metric = choose_metric(asked.metric, task.targets)
    heads = [plan for plan in plans if not plan.trains]
    trained = [plan for plan in plans if plan.trains]
    outer = splits.folds if asked.nested else 0
    inner = _inner_deadline(deadline, outer=outer, trained=bool(trained and heads))
    progress = listener.progress
    everyone = measure(entries, heads, task, splits, metric, seed=asked.seed, deadline=inner, progress=progress)
    others, missed, failed, notes = [], [], dict(found.failed), list(splits.notes)
    nested = asked.nested
    if nested and inner is not None and not _whole_repeat(everyone, splits.folds):
        nested = False
        notes.append("the nested estimate was left out: its share of the budget is needed for the comparison itself")
        listener.warn(notes[-1])
        inner = _inner_deadline(deadline, outer=0, trained=bool(trained and heads))
        everyone = measure(entries, heads, task, splits, metric, seed=asked.seed, deadline=inner, progress=progress)
    if trained:
        from regraft.recipes.rivals import measure_rivals

        train_options = {name: getattr(asked, name) for name in ("runtime", "max_pixels", "max_rejected", "seed")}
        rivals = measure_rivals(
            entries, trained, part, task, splits, metric, train_options, deadline=deadline, listener=listener
        )
        others, missed, failed = rivals.candidates, rivals.missed, {**failed, **rivals.failed}
        notes += rivals.notes
    board = to_leaderboard(everyone, splits, task, metric, others=others)
    missed += [f"{plan.name} on {name}" for name in found.missed for plan in plans]
    board = replace(board, missed=(*board.missed, *missed), failed={**board.failed, **failed}, notes=(*notes,))
    if nested:
        found_out = nested_optimism(entries, heads, task, board, asked, deadline, listener)
        if found_out is None:
            notes.append("the nested estimate could not be made in the time, or of these images")
        board = replace(board, optimism=found_out, notes=(*notes,))
    return board


def _whole_repeat(everyone: Sequence[Contestant], folds: int) -> bool:
    """Whether anybody was measured on one."""
    return any(np.isfinite(one.scores).sum() >= folds for one in everyone)


def _inner_deadline(deadline: float | None, *, outer: int, trained: bool) -> float | None:
    """When the strategies on features must be done: half the time for what trains, one share beside each outer fold."""
    if deadline is None:
        return None
    now = time.perf_counter()
    share = (0.5 if trained else 1.0) / (1 + outer)
    return now + share * (deadline - now)


def _keep(
    board: Leaderboard,
    found: Backbones,
    asked: SimpleNamespace,
    facts: dict[str, Any],
    target: Path,
    name: str,
    leaks: tuple[str, ...],
    clock: Clock,
    listener: Listener,
) -> Run:
    """Fit the recommended candidate on all training images, measure it once, and write the run."""
    winner = board.recommended.candidate
    plan = STRATEGIES[winner.strategy]
    if plan.trains:
        return _keep_trained(board, asked, facts["command"], target, listener)
    gathered, ready = found.gathered[winner.backbone], found.ready[winner.backbone]
    how = SimpleNamespace(seed=asked.seed, overwrite=asked.overwrite, calibrate="auto", abstain_at=None)
    whole = how, facts, name, target, clock, listener
    return frozen_run(gathered, ready, plan, *whole, notes=leaks, leaderboard=board)


def _keep_trained(board: Leaderboard, asked: SimpleNamespace, command: str, target: Path, listener: Listener) -> Run:
    """Train the recommended candidate on all training images, as `train` does."""
    defaults = {name: p.default for name, p in inspect.signature(train).parameters.items() if name != "listener"}
    data = ("root", "label", "path_column", "split_column", "group_column", "resplit", "max_rejected", "max_pixels")
    options = {name: getattr(asked, name) for name in (*data, "data", "runtime", "seed", "overwrite")}
    winner = board.recommended.candidate
    own = {"strategy": winner.strategy, "backbone": winner.backbone, "run": target}
    return train_resolved({**defaults, **options, **own}, None, listener, board, command)
