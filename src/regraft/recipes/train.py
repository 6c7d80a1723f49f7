"""`regraft train`: from images to a model one can trust, on the features of a frozen backbone."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regraft import heads
from regraft.backbones.files import warnings
from regraft.backbones.recognise import FileOptions
from regraft.data.decode import MAX_PIXELS
from regraft.data.splits import make_splits
from regraft.errors import DataError, OptionError
from regraft.evaluation.metrics import evaluate as measure
from regraft.evaluation.predictions import Predictions
from regraft.features.frozen import check_options
from regraft.features.store import cache_folder, usable_cache
from regraft.inference.bundle import Bundle
from regraft.recipes.backbone import prepare_backbone, short_name
from regraft.recipes.catalogue import Strategy
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.gather import (
    Gathered,
    Source,
    check_numbers,
    check_rejected,
    gather,
    gather_file,
    read_and_hash,
    warn_of_leaks,
)
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.run import Finished, Run, choose_folder, command_line, write_run

if TYPE_CHECKING:
    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.heads.head import Fitted

_LISTENER = Listener()


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    backbone: str = "efficientnet_lite0",
    strategy: str = "linear-probe",
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    views: Literal["none", "flip"] = "none",
    precision: Literal["f32", "bf16"] = "f32",
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    part: str | None = None,
    trust: bool = False,
    allow_partial: float = 0.9,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    size: int | None = None,
    features: str | os.PathLike[str] | None = None,
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
    """Train a model on labelled images and leave a run: model, numbers, predictions and report.

    The backbone is frozen: each image goes through it once, ever; what is fitted is a head on its features.

    Args:
        data: A folder with one folder of images a class (also within train, val, test), a table (CSV, TSV,
            Parquet), a meta list, or sample:textile. May be left out with --features.
        backbone: Which pretrained network, as `regraft backbones` lists them; or file:FILE[@ARCHITECTURE], a checkpoint
            of your own; or run:RUN, the backbone of a run.
        strategy: linear-probe, svm, svm-linear, svm-rbf, naive-bayes, knn or mlp-head.
        run: The folder to leave the run in; by default a new one below `runs`.
        overwrite: Replace the run folder if it exists.
        views: flip averages the features of each image and its mirror image.
        precision: bf16 is faster on processors that have it, and gives other digits.
        runtime: What runs the backbone; auto takes CUDA where there is one, else OpenVINO.
        part: Of a checkpoint file with several state dicts, which one (`regraft checkpoint inspect` lists them).
        trust: Unpickle a checkpoint file that asks for foreign classes, which runs its code.
        allow_partial: Smallest share of the backbone's parameters that a checkpoint file must have.
        mean: Channel means (0..1) that the network of a checkpoint file expects, where not those of its zoo.
        std: Channel standard deviations, likewise.
        size: Side of the input in pixels, likewise.
        features: Train on this feature file (.npz, .parquet) instead of running a backbone.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups, such as patients, that must not straddle splits.
        resplit: Make new splits although the data has some.
        max_rejected: Share of unreadable images above which training stops.
        max_pixels: Images with more pixels are rejected before they are decoded.
        seed: Another seed gives other splits and folds.
        listener: Who is told what happens.

    Returns:
        The run that was left.

    Raises:
        RegraftError: whatever is wrong with the data or the options, in a sentence; nothing is left behind.
    """
    options = {k: v for k, v in locals().items() if k != "listener"}
    clock = Clock.start(listener)
    plan = find_strategy(strategy)
    check_options(runtime, precision, views)
    own = FileOptions(part, trust, allow_partial, mean=mean, std=std, size=size)
    own.check()
    check_numbers(seed=seed, max_rejected=max_rejected, max_pixels=max_pixels)
    if features is not None:
        _refuse_without_effect(options)
    source = None if data is None else Source(data, root, label, path_column, split_column, group_column)
    name = _name(data, features, backbone, plan)
    target = choose_folder(run, name, overwrite=overwrite)
    cache = usable_cache(cache_folder())
    if features is not None:
        ready, gathered = None, gather_file(Path(features), source, clock, listener, max_rejected=max_rejected)
        divided = make_splits(gathered.manifest, seed=seed, resplit=resplit)
    elif source is None:
        raise OptionError("nothing to train on: name a folder, a table or sample:textile, or give --features FILE")
    else:
        manifest, lost = read_and_hash(source, clock, listener, labelled=True)
        check_rejected(lost, len(manifest) + len(lost), max_rejected, Listener())
        # What cannot be split or learnt from is refused before the long part.
        divided = make_splits(manifest, seed=seed, resplit=resplit)
        _check_trainable(divided)
        ready = prepare_backbone(
            backbone, cache, clock, listener, runtime=runtime, precision=precision, views=views, options=own
        )
        gathered = gather(
            manifest, lost, ready, cache, clock, listener, max_pixels=max_pixels, max_rejected=max_rejected
        )
        if len(gathered.manifest) < len(manifest):  # some could not be decoded: divide what is left
            divided = make_splits(gathered.manifest, seed=seed, resplit=resplit)
    gathered = replace(gathered, manifest=divided)
    outcome = _fit_and_measure(gathered, plan, seed, clock, listener)
    facts = {
        "command": command_line(train, options),
        "options": options,
        "strategy": plan.name,
        "backbone": None if ready is None else ready.card.name,
        "selection": plan.selection,
    }
    notes = outcome.notes if ready is None else (*warnings(ready.card), *outcome.notes)
    finished = Finished(name, facts, gathered, outcome.fitted, outcome.predictions, outcome.evaluations, notes)
    bundle = _bundle(gathered, ready, outcome, plan, views, precision)
    return write_run(finished, target, bundle, ready, clock, overwrite=overwrite)


def _refuse_without_effect(options: dict[str, Any]) -> None:
    """A feature file decides these; saying something else would go unheard."""
    defaults = inspect.signature(train).parameters
    own = ("part", "trust", "allow_partial", "mean", "std", "size")
    for name in ("backbone", "views", "precision", "runtime", "max_pixels", *own):
        if options[name] != defaults[name].default:
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag} has no effect with --features: that file's features are taken as they are")


def _name(
    data: str | os.PathLike[str] | None,
    features: str | os.PathLike[str] | None,
    backbone: str,
    plan: Strategy,
) -> str:
    what = str(data).removeprefix("sample:") if data is not None else str(features or "data")
    parts = [Path(what).resolve().stem or "data", short_name(backbone) if features is None else "features", plan.name]
    return "-".join("".join(c if c.isalnum() or c in "._-" else "_" for c in part) for part in parts)


@dataclass(frozen=True)
class _Outcome:
    """What fitting gave: the head, and predictions and evaluations by split, the headline's first."""

    fitted: Fitted
    predictions: dict[str, Predictions]
    evaluations: dict[str, Any]
    notes: tuple[str, ...]


def _fit_and_measure(gathered: Gathered, plan: Strategy, seed: int, clock: Clock, listener: Listener) -> _Outcome:
    manifest = gathered.manifest
    _check_trainable(manifest)
    listener.say(f"splits: {manifest.split_note}")
    notes = warn_of_leaks(manifest, listener)
    part = gathered.split("train")
    clock.import_now(*plan.imports)
    with clock.phase("fit"):
        groups = None
        if any(item.group is not None for item in part.manifest.items):
            # An image without a group is a group of its own.
            groups = np.array([i.group if i.group is not None else f"\0{i.key}" for i in part.manifest.items])
        fitted = heads.fit(
            plan.head,
            part.table.features,
            np.array(part.manifest.targets(), np.int64),
            len(manifest.classes),
            groups=groups,
            seed=seed,
            classes=manifest.classes,
        )
    for note in fitted.notes:
        listener.warn(note)
    predictions, evaluations = {}, {}
    with clock.phase("evaluate"):
        for split in ("test", "val"):
            rest = gathered.split(split)
            if len(rest.manifest):
                predictions[split] = predict_table(rest, fitted.head.logits(rest.table.features))
                evaluations[split] = measure(predictions[split], split=split, seed=seed)
    headline = next(iter(evaluations.values()))
    listener.say(headline.sentence())
    if headline.caution:
        listener.say(headline.caution)
    return _Outcome(fitted, predictions, evaluations, (*notes, *fitted.notes))


def predict_table(part: Gathered, logits: np.ndarray) -> Predictions:
    """Logits of a part, beside what is true of its images."""
    return Predictions(
        tuple(item.path for item in part.manifest.items),
        part.table.keys,
        part.manifest.classes,
        np.array(part.manifest.targets(), np.int64),
        logits,
    )


def _check_trainable(manifest: Manifest) -> None:
    sizes = manifest.split("train").class_sizes()
    present = [name for name, size in sizes.items() if size]
    if len(present) < 2:  # noqa: PLR2004 - a choice needs two
        raise DataError(
            f"The training part of {manifest.source} has images of {len(present)} class ({', '.join(present)});"
            f" expected at least two classes."
        )
    # A class without any image (a class list may name more than the data has) is the head's to note.
    everywhere = manifest.class_sizes()
    unseen = [name for name, size in sizes.items() if not size and everywhere[name]]
    if unseen:
        raise DataError(
            f"No training image of {', '.join(map(repr, unseen))}, although other splits have some. Add images, or"
            f" leave the class out of the other splits."
        )
    if not any(item.split in {"val", "test"} for item in manifest.items):
        raise DataError(
            f"{manifest.source} has a training part only; there is nothing to measure the model on. Add val or test,"
            f" or let Regraft make them with --resplit."
        )


def _bundle(
    gathered: Gathered, ready: Frozen | None, outcome: _Outcome, plan: Strategy, views: str, precision: str
) -> Bundle:
    return Bundle(
        classes=gathered.manifest.classes,
        head=outcome.fitted.head,
        card=None if ready is None else ready.card,
        views=views,
        precision=precision if ready is None else ready.spaces[0].precision,
        runtime="none" if ready is None else ready.spaces[0].runtime,
        feature_dim=gathered.table.features.shape[1],
        facts={"strategy": plan.name, "chosen": outcome.fitted.chosen, "features": gathered.about},
    )
