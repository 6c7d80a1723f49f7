"""`regraft evaluate`: a trained model's numbers again, on its own data or on other data."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from regraft.backbones.files import warnings
from regraft.data.decode import MAX_PIXELS
from regraft.errors import DataError, OptionError
from regraft.evaluation.metrics import evaluate as measure
from regraft.evaluation.scores import EVERYTHING, SPLIT_WORDS
from regraft.inference.change.bundle import is_change_model
from regraft.inference.predictor import load
from regraft.recipes.gather import Gathered, Source, check_numbers, gather, gather_file, read_and_hash
from regraft.recipes.guard_head import tell_kept
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.run import Finished, Run, choose_folder, command_line, write_run

if TYPE_CHECKING:
    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.inference.predictor import Predictor

_LISTENER = Listener()
_SHOWN = 5


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
        data: Labelled images or pairs, named as for `train`; by default those the run was trained with.
        split: Which part of the data; auto is test where there is one, else val, else all.
        run: The folder to leave the run in; by default a new one below `runs`.
        overwrite: Replace the run folder if it exists.
        features: Evaluate on this feature file instead of images.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels. The tasks of a model with several keep their columns.
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
    _check_paths(model, data)
    clock = Clock.start(listener)
    check_numbers(seed=seed, max_rejected=max_rejected, max_pixels=max_pixels)
    where = Path(model).resolve()
    home = where if (where / "bundle").is_dir() else where.parent
    target = choose_folder(run, f"{home.name}-evaluate", overwrite=overwrite)
    if target.resolve() in {home, where}:
        raise OptionError(f"--run {target} is the model itself; choose another folder for its evaluation")
    if is_change_model(Path(model)):
        from regraft.recipes.change_evaluate import evaluate_change_model

        return evaluate_change_model(evaluate, SimpleNamespace(**options), target, home, clock, listener)
    predictor = load(model, runtime=runtime)
    if predictor.tasks:
        from regraft.recipes.tasks_evaluate import evaluate_task_model

        return evaluate_task_model(SimpleNamespace(**options), predictor, target, home, clock, listener)
    source = None if data is None else Source(data, root, label, path_column, split_column, group_column)
    if source is None and features is None and (home / "manifest.csv").is_file():
        source = Source(home / "manifest.csv")
    backbones: tuple[Frozen, ...] = ()
    if features is not None:
        gathered = gather_file(Path(features), source, clock, listener, max_rejected=max_rejected)
        check_same_features(gathered, predictor, Path(features), listener)
        wanted = which_part(gathered.manifest, split)
        notes = _unknown_labels(gathered.manifest, predictor, listener)
    elif source is None:
        raise OptionError(f"{model} is a bundle without its run: name the data to evaluate it on")
    else:
        manifest, lost = read_and_hash(source, clock, listener, labelled=True)
        wanted = which_part(manifest, split)
        manifest = replace(manifest, items=tuple(i for i in manifest.items if wanted in {i.split, EVERYTHING}))
        notes = _unknown_labels(manifest, predictor, listener)  # before the long part
        with clock.phase("backbone"):
            backbones = predictor.ready()
        where_to = predictor.cache, clock, listener
        gathered = gather(manifest, lost, backbones, *where_to, max_pixels=max_pixels, max_rejected=max_rejected)
    gathered = _part(gathered, wanted)
    seen = count_seen(gathered.manifest, home)
    with clock.phase("evaluate"):
        predictions = predictor.predictions(gathered.manifest, gathered.table)
        evaluation = measure(predictions, split=wanted, seed=seed, seen=seen)
    unfilled = [warning for card in predictor.bundle.cards for warning in warnings(card)]
    notes = [*unfilled, *notes]
    listener.say(evaluation.sentence())
    for warning in (*unfilled, *([evaluation.caution] if evaluation.caution else [])):
        listener.warn(warning)
    facts = {
        "command": command_line(evaluate, options),
        "options": options,
        "model": str(where),
        "strategy": predictor.bundle.facts.get("strategy", ""),
        "backbone": predictor.bundle.backbone,
        "selection": "",
    }
    parts = {wanted: predictions}, {wanted: evaluation}
    guard = predictor.bundle.guard
    tell_kept(guard, predictions, SPLIT_WORDS.get(wanted, "evaluated"), listener)
    finished = Finished(target.name, facts, gathered, None, *parts, notes=(), left_out=tuple(notes), guard=guard)
    return write_run(finished, target, None, backbones, clock, overwrite=overwrite)


def _check_paths(model: object, data: object) -> None:
    for name, value in (("model", model), ("data", data)):
        if not isinstance(value, str | os.PathLike) and not (name == "data" and value is None):
            raise OptionError(f"{name} is {value!r}; expected the name of a folder or file")


def check_same_features(gathered: Gathered, predictor: Predictor, features: Path, listener: Listener) -> None:
    """Features of another network or view have the same shape and mean something else."""
    bundle, about = predictor.bundle, gathered.about
    trained_on = bundle.facts.get("features") or {}
    if bundle.cards:
        cards = [card.to_dict() for card in bundle.cards]
        trained_on = {"backbones": cards, "views": bundle.views, "precision": bundle.precision}
    if not about or not trained_on:
        listener.warn(f"{features} does not say what computed it: nothing shows that it fits this model")
        return
    for name in ("architecture", "weights_sha256", "preprocessing"):
        both = [_cards(trained_on), _cards(about)]
        ours, theirs = (json.dumps([card.get(name) for card in cards], sort_keys=True) for cards in both)
        if ours != theirs:
            ours, theirs = ("+".join(str(card.get("name")) for card in cards) for cards in both)
            raise DataError(
                f"{features} holds features of {theirs}, but the model was trained on those of {ours} ({name} differs):"
                f" compute them with regraft embed --backbone {ours}"
            )
    for name in ("views", "precision"):
        if trained_on.get(name) != about.get(name):
            raise DataError(
                f"{features} was computed with {name} {about.get(name)}, the model was trained with"
                f" {trained_on.get(name)}: compute it again with --{name} {trained_on.get(name)}"
            )


def _cards(about: dict[str, Any]) -> list[dict[str, Any]]:
    """What a feature file, or a model trained on one, says of its backbones."""
    return about["backbones"] if "backbones" in about else [about.get("backbone", {})]


def which_part(manifest: Manifest, split: str) -> str:
    """The part to evaluate: the one asked for, or the most honest one there is."""
    sizes = manifest.split_sizes()
    if split == "auto":
        return next((s for s in ("test", "val") if s in sizes), EVERYTHING)
    if split != EVERYTHING and split not in sizes:
        has = ", ".join(f"{s} ({n})" for s, n in sizes.items()) or "no splits"
        raise OptionError(f"split {split!r} is not in {manifest.source}, which has {has}")
    return split


def _part(gathered: Gathered, split: str) -> Gathered:
    part = gathered if split == EVERYTHING else gathered.split(split)
    if not part.manifest.items:
        raise DataError(f"{gathered.manifest.source} has no readable image to evaluate on")
    return part


def _unknown_labels(manifest: Manifest, predictor: Predictor, listener: Listener) -> list[str]:
    """Say which labels the model does not know; images of them are left out of the numbers."""
    sizes = {name: size for name, size in manifest.class_sizes().items() if size}
    unknown = {name: size for name, size in sizes.items() if name not in predictor.classes}
    if not unknown:
        return []
    shown = ", ".join(map(repr, list(unknown)[:_SHOWN])) + (", ..." if len(unknown) > _SHOWN else "")
    if len(unknown) == len(sizes):
        known = ", ".join(map(repr, predictor.classes[:_SHOWN])) + (", ..." if len(predictor.classes) > _SHOWN else "")
        raise DataError(
            f"None of the labels in {manifest.source} ({len(unknown):,}: {shown}) is one of the model's"
            f" {len(predictor.classes)} classes ({known}). Name the column of labels with --label, or rename them."
        )
    total = sum(unknown.values())
    have = "1 image has a label" if total == 1 else f"{total:,} images have labels"
    said = f"{have} that the model does not know ({shown}): not in the numbers"
    listener.warn(said)
    return [said]


def count_seen(manifest: Manifest, home: Path) -> int:
    """How many of the images were in the model's training part, by the bytes of their files."""
    own = home / "manifest.csv"
    if not own.is_file():
        return 0
    with own.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        # a task may have taken one of these names for its column
        trained = {row.get("sha256") for row in csv.DictReader(handle) if row.get("split") == "train"}
    return sum(item.key in trained for item in manifest.items)
