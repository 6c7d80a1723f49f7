"""`regraft rank`: which pretrained backbone suits these images, told before anything is trained."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from regraft.backbones.catalogue import available
from regraft.data.decode import MAX_PIXELS
from regraft.data.splits import make_splits
from regraft.errors import BackboneError, OptionError, RegraftError
from regraft.features.frozen import check_options
from regraft.features.store import cache_folder, usable_cache
from regraft.heads.folds import stratified_subset
from regraft.recipes.backbone import check_names, prepare_backbones
from regraft.recipes.change_data import refuse_pairs
from regraft.recipes.gather import Source, check_flags, check_numbers, check_rejected, gather, read_and_hash
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.rank_scores import images_held_out, rank_gathered
from regraft.recipes.ranking import Ranking, check_target, recommend, write_ranking

if TYPE_CHECKING:
    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.recipes.gather import Gathered

_LISTENER = Listener()
_MOST_IMAGES = 2000


def rank(
    data: str | os.PathLike[str],
    *,
    backbones: str | list[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
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
) -> Ranking:
    """Rank pretrained backbones by how well their features suit labelled images, before training.

    Only the training part is looked at, at most about 2,000 images of it. Each image goes through each backbone
    once, ever; scores are computed from the features. Ranks are by the log loss of a cross-validated logistic
    regression, with 95 % intervals; the other scores stand beside it as second opinions.

    Args:
        data: Labelled images, named as for `train`.
        backbones: Names separated by commas, each as --backbone of `train` takes it, such as a,b+c; by default all
            that can be used right now, as `regraft backbones` lists them.
        output: A .csv or .json file to write the table to.
        overwrite: Replace the file if it exists.
        precision: bf16 is faster on processors that have it, and gives other digits.
        runtime: What runs the backbones; auto takes CUDA where there is one, else OpenVINO.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups, which are never on both sides of a fold.
        resplit: Make new splits although the data has some.
        max_rejected: Share of unreadable images above which the command stops.
        max_pixels: Images with more pixels are rejected before they are decoded.
        seed: Of splits, folds and resampling.
        listener: Who is told what happens.

    Returns:
        The scored backbones in the order of their ranks, those that failed, and the recommendation.

    Raises:
        RegraftError: whatever is wrong with the data or the options, or with every backbone, in a sentence.
    """
    check_options(runtime, precision, "none")
    refuse_pairs(data, "rank")
    check_flags(overwrite=overwrite, resplit=resplit)
    check_numbers(seed=seed, max_rejected=max_rejected, max_pixels=max_pixels)
    target = None if output is None else Path(output)
    if target is not None:
        check_target(target, overwrite=overwrite)
    clock = Clock.start(listener)
    cache = usable_cache(cache_folder())
    names = _named(backbones, cache)
    check_names(names, cache)
    source = Source(data, root, label, path_column, split_column, group_column)
    manifest, lost = read_and_hash(source, clock, listener, labelled=True)
    divided = make_splits(manifest, seed=seed, resplit=resplit)
    listener.say(f"splits: {divided.split_note}")
    check_rejected(lost, len(manifest) + len(lost), max_rejected, listener)
    notes: list[str] = []
    part = _training_part(divided, seed, notes)
    images_held_out(part.items, seed)  # what cannot be scored is told before the long part
    gathered: dict[str, tuple[tuple[Frozen, ...], Gathered]] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            ready = prepare_backbones(name, cache, clock, listener, runtime=runtime, precision=precision, views="none")
        except RegraftError as error:
            failed[name] = str(error)
            listener.warn(f"{name} is left out: {error}")
            continue
        told = Listener(listener.say, progress=listener.progress) if gathered else listener  # warned of images once
        found = gather(part, (), ready, cache, clock, told, max_pixels=max_pixels, max_rejected=max_rejected)
        gathered[name] = ready, found
    if not gathered:
        raise BackboneError(f"No backbone could be scored. {names[0]}: {failed[names[0]]}")
    ranked, images = rank_gathered(list(gathered.values()), notes, seed, cache, listener)
    recommended, sentence = recommend(ranked, images)
    classes = len({item.label for item in part.items})
    ranking = Ranking(tuple(ranked), failed, recommended, sentence, images, classes, tuple(notes))
    if target is not None:
        write_ranking(ranking, target)
        listener.say(f"wrote {target}")
    return ranking


def _named(backbones: str | list[str] | None, cache: Path) -> list[str]:
    """The names to rank, each once."""
    if backbones is None:
        names = available(cache)
        if not names:
            raise BackboneError(
                "No backbone can be used right now. Name some with --backbones; regraft backbones lists them."
            )
        return names
    given: object = ",".join(map(str, backbones)) if isinstance(backbones, list | tuple) else backbones
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else []
    if not names or not all(names):
        raise OptionError(f"backbones is {backbones!r}; expected names separated by commas, such as a,b or a,b+c")
    return list(dict.fromkeys(names))


def _training_part(divided: Manifest, seed: int, notes: list[str]) -> Manifest:
    """The images that are scored: all of the training part, or the same share of each class of many."""
    part = divided.split("train")
    chosen = stratified_subset(np.array(part.targets(), np.int64), _MOST_IMAGES, seed=seed)
    if len(chosen) < len(part):
        notes.append(
            f"scores are of {len(chosen):,} of the {len(part):,} training images, the same share of each class"
        )
    return replace(part, items=tuple(part.items[n] for n in chosen))
