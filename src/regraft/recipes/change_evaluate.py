"""`regraft evaluate` for a model of change detection."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import OptionError
from regraft.evaluation.scores import EVERYTHING
from regraft.inference.change.bundle import read_change_bundle
from regraft.inference.change.predictor import ChangePredictor
from regraft.recipes.change_data import check_bands, gather_pairs
from regraft.recipes.change_measure import measure_pairs
from regraft.recipes.change_run import FinishedChange, write_change_run
from regraft.recipes.run import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import SimpleNamespace

    from regraft.data.pairs import Pair, Pairs
    from regraft.recipes.listen import Clock, Listener
    from regraft.recipes.run import Run

_WITHOUT = ("features", "root", "label", "path_column", "split_column", "group_column")


def evaluate_change_model(
    evaluate: Callable[..., Any], asked: SimpleNamespace, target: Path, home: Path, clock: Clock, listener: Listener
) -> Run:
    """Measure a model of change detection on labelled pairs and leave a run.

    Args:
        evaluate: the public function whose options these are.
        asked: the options.
        target: the folder of the new run.
        home: the model's own run, or where its bundle lies.
        clock: counts the time.
        listener: is told what happens.

    Raises:
        RegraftError: as `evaluate`.
    """
    for name in _WITHOUT:
        if getattr(asked, name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} has no effect with a change model: leave it out")
    if asked.runtime == "openvino":
        raise OptionError("--runtime openvino: a model of change detection runs on torch; leave it out")
    bundle = read_change_bundle(Path(asked.model))
    named = asked.data if asked.data is not None else home / "manifest.csv"
    if asked.data is None and not named.is_file():
        raise OptionError(f"{asked.model} is a bundle without its run: name the pairs to evaluate it on")
    data = gather_pairs(
        named,
        clock,
        listener,
        max_rejected=asked.max_rejected,
        classes=len(bundle.classes),
        max_pixels=asked.max_pixels,
    )
    check_bands(data.survey, bundle, str(named))
    split, part = _part(data.pairs, asked.split)
    with clock.phase("model"):
        predictor = ChangePredictor(bundle)
        _ = predictor.net
    measured = measure_pairs(predictor.predict, part, data.coding, asked.max_pixels, clock, listener)
    facts = {
        "command": command_line(evaluate, vars(asked)),
        "options": vars(asked),
        "model": str(Path(asked.model).resolve()),
        "strategy": bundle.facts.get("strategy", ""),
        "backbone": bundle.card.name,
        "selection": "",
    }
    done = FinishedChange(
        target.name,
        facts,
        replace(data, pairs=replace(data.pairs, items=tuple(part))),
        bundle,
        {split: measured},
        predictor.predict,
        chosen={"threshold": bundle.threshold},
        seen={split: count_seen(part, home)},
        chosen_on="val" if asked.data is None else "",
        seed=asked.seed,
    )
    run = write_change_run(done, target, None, clock, listener, overwrite=asked.overwrite)
    if run.evaluation.caution:
        listener.warn(run.evaluation.caution)
    return run


def _part(pairs: Pairs, wanted: str) -> tuple[str, Sequence[Pair]]:
    """The part to evaluate: the one asked for, or the most honest one there is."""
    sizes = pairs.split_sizes()
    split = next((s for s in ("test", "val") if s in sizes), EVERYTHING) if wanted == "auto" else wanted
    if split == EVERYTHING:
        return split, pairs.items
    if split not in sizes:
        has = ", ".join(f"{name} ({size})" for name, size in sizes.items()) or "no splits"
        raise OptionError(f"split {split!r} is not in {pairs.source}, which has {has}")
    return split, pairs.split(split).items


def count_seen(pairs: Sequence[Pair], home: Path) -> int:
    """How many of the pairs were in the model's training part, by the bytes of their files."""
    own = home / "manifest.csv"
    if not own.is_file():
        return 0
    with own.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        trained = {row.get("sha256") for row in csv.DictReader(handle) if row.get("split") == "train"}
    return sum(pair.key in trained for pair in pairs)
