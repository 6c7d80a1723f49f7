"""Features of the same images by every backbone of a comparison, the fastest first."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regraft.data.splits import make_splits
from regraft.errors import BackboneError, RegraftError
from regraft.features.store import Store
from regraft.recipes.backbone import backbone_names, prepare_backbones
from regraft.recipes.gather import check_rejected, gather, read_and_hash
from regraft.recipes.image_times import image_times
from regraft.recipes.listen import Listener
from regraft.recipes.train import check_trainable
from regraft.recipes.training_options import seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import SimpleNamespace

    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.recipes.gather import Gathered, Source
    from regraft.recipes.listen import Clock

_FOR_FEATURES = 0.6  # share of a budget that images in networks may use


@dataclass(frozen=True)
class Backbones:
    """Features of the same images by each backbone (or several side by side) that competes.

    Attributes:
        gathered: name -> images of all splits with features, in the same order for each.
        ready: name -> its frozen backbones.
        image_ms: name -> milliseconds an image in them.
        missed: names that did not fit in the budget.
        failed: names that cannot be used, and why.
    """

    gathered: dict[str, Gathered]
    ready: dict[str, tuple[Frozen, ...]]
    image_ms: dict[str, float]
    missed: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def gather_all(
    asked: SimpleNamespace,
    names: Sequence[str],
    source: Source,
    cache: Path,
    began: float,
    clock: Clock,
    listener: Listener,
) -> Backbones:
    """Features of the same images by every backbone, the fastest first; each network runs each image once.

    Raises:
        RegraftError: the data cannot be used, or no backbone can.
    """
    manifest, lost = read_and_hash(source, clock, listener, labelled=True)
    check_rejected(lost, len(manifest) + len(lost), asked.max_rejected, Listener())
    check_trainable(make_splits(manifest, seed=asked.seed, resplit=asked.resplit))
    ready: dict[str, tuple[Frozen, ...]] = {}
    failed: dict[str, str] = {}
    for name in sorted(names, key=lambda name: len(backbone_names(name))):
        told = {one for made in ready for one in backbone_names(made)} >= set(backbone_names(name))
        try:
            ready[name] = prepare_backbones(
                name,
                cache,
                clock,
                Listener() if told else listener,
                runtime=asked.runtime,
                precision=asked.precision,
                views=asked.views,
            )
        except RegraftError as error:
            failed[name] = str(error)
            listener.warn(f"{name} is left out: {error}")
    if not ready:
        raise BackboneError(f"no backbone can be used. {next(iter(failed.values()))}")
    with clock.phase("time"):
        times = image_times([one for made in ready.values() for one in made], cache)
    image_ms = {
        name: sum(times[one.spaces[0].fingerprint()] * len(one.spaces) for one in ready[name]) for name in ready
    }
    gathered: dict[str, Gathered] = {}
    missed: list[str] = []
    limits = {"max_pixels": asked.max_pixels, "max_rejected": asked.max_rejected}
    for name in sorted(ready, key=lambda name: image_ms[name]):
        if asked.budget is not None and gathered:
            needed = sum(_to_compute(one, manifest, cache) * times[one.spaces[0].fingerprint()] for one in ready[name])
            if time.perf_counter() - began + needed / 1000 > _FOR_FEATURES * seconds_of(asked.budget):
                missed.append(name)
                continue
        told_once = Listener(listener.say, progress=listener.progress) if gathered else listener
        gathered[name] = gather(manifest, lost, ready[name], cache, clock, told_once, **limits)
    return Backbones(_alike(gathered, asked), ready, image_ms, tuple(missed), failed)


def _to_compute(one: Frozen, manifest: Manifest, cache: Path) -> int:
    """How often the network must run for what the store lacks."""
    keys = {str(item.key): item for item in manifest.items}
    return sum(len(Store.open(cache, space).missing(keys)) for space in one.spaces)


def _alike(gathered: dict[str, Gathered], asked: SimpleNamespace) -> dict[str, Gathered]:
    """The images that all have features of, with the splits of these."""
    there = set.intersection(*(set(one.table.keys) for one in gathered.values()))
    alike = {
        name: one.take([n for n, key in enumerate(one.table.keys) if key in there]) for name, one in gathered.items()
    }
    divided = make_splits(next(iter(alike.values())).manifest, seed=asked.seed, resplit=asked.resplit)
    check_trainable(divided)
    return {name: replace(one, manifest=divided) for name, one in alike.items()}
