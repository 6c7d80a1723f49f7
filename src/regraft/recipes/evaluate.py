"""`regraft evaluate`: a trained model's numbers again, on its own data or on other data."""

from __future__ import annotations

import csv
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from regraft.data.decode import MAX_PIXELS
from regraft.errors import DataError, OptionError
from regraft.evaluation.metrics import evaluate as measure
from regraft.inference.predictor import load
from regraft.recipes.gather import Gathered, Source, gather, gather_file, read_and_hash
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.run import Finished, Run, choose_folder, command_line, write_run

if TYPE_CHECKING:
    from regraft.data.manifest import Manifest
    from regraft.inference.predictor import Predictor

_LISTENER = Listener()
_EVERYTHING = "all"


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    split: Literal["auto", "train", "val", "test", "all"] = "auto",
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    features: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    max_rejected: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    listener: Listener = _LISTENER,
) -> Run:
    """Evaluate a trained model and leave a run with its numbers, predictions and report.

    Args:
        model: A run folder, or a bundle.
        data: Labelled images, named as for `train`; by default those the run was trained with.
        split: Which part of the data; auto is test where there is one, else val, else all.
        run: The folder to leave the run in; by default a new one below `runs`.
        overwrite: Replace the run folder if it exists.
        features: Evaluate on this feature file instead of images.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups.
        max_rejected: Share of unreadable images above which evaluation stops.
        max_pixels: Images with more pixels are rejected before they are decoded.
        seed: Of the bootstrap that gives the intervals.
        runtime: What runs the backbone; auto is what the model was trained with.
        listener: Who is told what happens.

    Returns:
        The run that was left.

    Raises:
        RegraftError: whatever is wrong with the model or the data, in a sentence; nothing is left behind.
    """
    options = {k: v for k, v in locals().items() if k != "listener"}
    clock = Clock()
    if listener.started is not None:
        clock.add("import", time.perf_counter() - listener.started)
    predictor = load(model, runtime=runtime)
    where = Path(model).resolve()
    home = where if (where / "bundle").is_dir() else where.parent
    name = f"{home.name}-evaluate"
    target = choose_folder(run, name, overwrite=overwrite)
    source = None if data is None else Source(data, root, label, path_column, split_column, group_column)
    if source is None and features is None and (home / "manifest.csv").is_file():
        source = Source(home / "manifest.csv")
    if features is not None:
        ready, gathered = None, gather_file(Path(features), source, clock, listener)
        gathered = _part(gathered, _which(gathered.manifest, split))
    else:
        if source is None:
            raise OptionError(f"{model} is a bundle without its run: name the data to evaluate it on")
        manifest, lost = read_and_hash(source, clock, listener, labelled=True)
        wanted = _which(manifest, split)
        items = tuple(i for i in manifest.items if wanted in {i.split, _EVERYTHING})
        with clock.phase("backbone"):
            ready = predictor.ready()
        gathered = gather(
            replace(manifest, items=items),
            lost,
            ready,
            predictor.cache,
            clock,
            listener,
            max_pixels=max_pixels,
            max_rejected=max_rejected,
        )
        gathered = _part(gathered, wanted)
    notes = (
        *_unknown_labels(gathered.manifest, predictor, listener),
        *_seen(gathered.manifest, home, listener),
    )
    with clock.phase("evaluate"):
        predictions = predictor.predictions(gathered.manifest, gathered.table)
        name_of_part = gathered.manifest.items[0].split or _EVERYTHING
        if any(item.split != name_of_part for item in gathered.manifest.items):
            name_of_part = _EVERYTHING
        evaluation = measure(predictions, split=name_of_part, seed=seed)
    listener.say(evaluation.sentence())
    facts = {
        "command": command_line(evaluate, options),
        "options": options,
        "model": str(where),
        "strategy": predictor.bundle.facts.get("strategy", ""),
        "backbone": None if predictor.bundle.card is None else predictor.bundle.card.name,
        "selection": "",
    }
    finished = Finished(name, facts, gathered, None, {name_of_part: predictions}, {name_of_part: evaluation}, notes)
    return write_run(finished, target, None, ready, clock, overwrite=overwrite)


def _which(manifest: Manifest, split: str) -> str:
    """The part to evaluate: the one asked for, or the most honest one there is."""
    sizes = manifest.split_sizes()
    if split == "auto":
        return next((s for s in ("test", "val") if s in sizes), _EVERYTHING)
    if split != _EVERYTHING and split not in sizes:
        has = ", ".join(f"{s} ({n})" for s, n in sizes.items()) or "no splits"
        raise OptionError(f"split {split!r} is not in {manifest.source}, which has {has}")
    return split


def _part(gathered: Gathered, split: str) -> Gathered:
    part = gathered if split == _EVERYTHING else gathered.split(split)
    if not part.manifest.items:
        raise DataError(f"{gathered.manifest.source} has no readable image to evaluate on")
    return part


def _unknown_labels(manifest: Manifest, predictor: Predictor, listener: Listener) -> list[str]:
    unknown = [name for name, size in manifest.class_sizes().items() if size and name not in predictor.classes]
    if not unknown:
        return []
    if len(unknown) == sum(size > 0 for size in manifest.class_sizes().values()):
        raise DataError(
            f"None of the labels in {manifest.source} ({', '.join(unknown[:5])}) is a class of the model"
            f" ({', '.join(predictor.classes[:5])}). Name the column of labels with --label, or rename them."
        )
    said = f"the model does not know {', '.join(map(repr, unknown))}: images of them are left out of the numbers"
    listener.warn(said)
    return [said]


def _seen(manifest: Manifest, home: Path, listener: Listener) -> list[str]:
    """Say which of the images the model has been trained on: numbers on them say nothing."""
    own = home / "manifest.csv"
    if not own.is_file() or all(item.split == "train" for item in manifest.items):
        return []
    with own.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        trained = {row["sha256"] for row in csv.DictReader(handle) if row["split"] == "train"}
    again = [item for item in manifest.items if item.key in trained]
    if not again:
        return []
    said = f"{len(again)} of {len(manifest)} images were in the model's training part: the numbers are too good by them"
    listener.warn(said)
    return [said]
