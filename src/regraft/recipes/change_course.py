"""The course of a training on pairs, from options and data to what the loop takes: network, objective, settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.bands import BandScale, scale_for
from regraft.data.change_labels import IGNORED
from regraft.errors import DataError, OptionError
from regraft.recipes.change_options import TILE, recipe_for
from regraft.recipes.change_phases import Material, network_phase, plan_training, stored_phase

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

    from torch import Tensor, nn

    from regraft.backbones.backbone import BackboneCard
    from regraft.models.change.net import ChangeNet
    from regraft.models.change.spec import ModelSpec
    from regraft.recipes.change_data import PairData
    from regraft.recipes.change_options import Recipe
    from regraft.recipes.change_start import Start
    from regraft.recipes.listen import Clock, Listener
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.pairs import PairExamples, PairSource
    from regraft.training.plan import Planned, Settings

_STEP = 32  # networks halve an image up to five times
_SAMPLED = 64  # pairs by which bands are scaled


@dataclass(frozen=True)
class ChangeCourse:
    """What the loop takes, and what it was made from.

    Attributes:
        net: the whole network, with its first weights.
        trained: what the loop trains: the network, or what of it learns from stored maps.
        network: of the part after the backbone, in words.
        card: of the backbone.
        scale: what is done to the bands.
        tile: side of the squares that are learnt from.
        classes: K class names.
        objective: what is learnt.
        planned: the one phase.
        settings: how.
        resolved: the options with everything decided.
        chosen: the same for the report.
        train: the training tiles.
        notes: sentences that the user should see.
    """

    net: ChangeNet
    trained: nn.Module
    network: str
    card: BackboneCard
    scale: BandScale
    tile: int
    classes: tuple[str, ...]
    objective: Objective
    planned: list[Planned]
    settings: Settings
    resolved: dict[str, Any]
    chosen: dict[str, Any]
    train: PairExamples
    notes: tuple[str, ...]


def class_names(classes: int) -> tuple[str, ...]:
    """Names of K classes of a change mask."""
    return ("unchanged", "changed") if classes == 2 else ("unchanged", *(f"class {n}" for n in range(1, classes)))  # noqa: PLR2004


def make_change_course(
    asked: SimpleNamespace,
    strategy: str,
    data: PairData,
    start: Start,
    cache: Path,
    engine: Engine,
    clock: Clock,
    listener: Listener,
) -> ChangeCourse:
    """Decide everything that the user left open, build the network and plan its training.

    Args:
        asked: the options of `train`.
        strategy: "finetune", "scratch" or "linear-probe".
        data: with a train and a val part.
        start: the backbone, or the whole network, to start from.
        cache: the cache folder.
        engine: where to train.
        clock: counts the time.
        listener: is told what is decided.

    Raises:
        RegraftError: what cannot be trained so.
    """
    recipe = recipe_for(asked, strategy)
    tile = _tile(asked.size or TILE, data, listener)
    with clock.phase("model"):
        net, spec, fresh = _build(asked, strategy, recipe, data, start, listener)
    source = _source(data, asked.max_pixels)
    with clock.phase("decode"):
        source.fill()
    _check_labelled(data, source)
    scale = _scale(asked, recipe, start, data, source)
    train = _examples(data, "train", source, tile, _augment(asked, strategy), asked.seed)
    val = _examples(data, "val", source, tile, "none", asked.seed)
    options = _resolved(asked, strategy, recipe, spec, len(train), engine)
    objective, notes = _objective(options, data)
    net = net.to(engine.device)
    material = Material(net, start, fresh, scale, options, recipe, train, val, engine, cache, listener)
    trained, opener = (
        stored_phase(material, tile, clock) if strategy == "linear-probe" else (net, network_phase(material))
    )
    settings, planned = plan_training(asked, strategy, material, trained, objective, opener)
    listener.say(
        f"{strategy}, {spec.text} on {start.card.name}: {options['epochs']} epochs of {len(train)} tiles of"
        f" {tile}x{tile}, batch {settings.batch}, loss {options['loss']}, learning rate {options['lr']:.2g},"
        f" {engine.precision} ({engine.why})"
    )
    chosen = {name: options[name] for name in ("model", "epochs", "batch", "lr", "loss", "optimiser", "augment")}
    return ChangeCourse(
        net,
        trained,
        spec.text,
        start.card,
        scale,
        tile,
        class_names(data.coding.classes),
        objective,
        planned,
        settings,
        options,
        {**chosen, "augment": _augment(asked, strategy), "tile": tile, "precision": engine.precision},
        train,
        notes,
    )


def _tile(wanted: int, data: PairData, listener: Listener) -> int:
    """The side of the tiles: no more than the largest image has, which would be padding."""
    longest = max(max(size) for size in data.survey.sizes)
    tile = min(wanted, -(-longest // _STEP) * _STEP)
    if tile < wanted:
        listener.say(f"tiles of {tile} pixels instead of {wanted}: no image is larger")
    return tile


def _check_labelled(data: PairData, source: PairSource) -> None:
    """Refuse pairs of which no pixel has data in both dates and a label.

    Raises:
        DataError: naming the part.
    """
    for split in ("train", "val"):
        rows = [n for n, item in enumerate(data.pairs.items) if item.split == split]
        if not any((source.scene(n).label != IGNORED).any() for n in rows):
            raise DataError(
                f"No pixel of the {len(rows)} pairs in {split} has data in both dates and a label other than ignored:"
                " there is nothing to learn from. Look at them with regraft show."
            )


def _objective(options: dict[str, Any], data: PairData) -> tuple[Objective, tuple[str, ...]]:
    """What is learnt, and sentences about it."""
    from regraft.losses.pixels import parse_loss
    from regraft.training.change import change

    weights, note = _weights(options["class_weights"], data)
    return change(parse_loss(options["loss"]), weights), (note,) if note else ()


def _source(data: PairData, max_pixels: int) -> PairSource:
    from regraft.training.pairs import PairSource

    seen = data.survey
    kept = data.pairs.items, data.coding
    return PairSource.of(*kept, sizes=seen.sizes, bands=seen.bands, dtype=seen.dtype, max_pixels=max_pixels)


def _augment(asked: SimpleNamespace, strategy: str) -> str:
    if strategy == "linear-probe":
        return "none"
    return "default" if asked.augment == "auto" else str(asked.augment)


def _examples(data: PairData, split: str, source: PairSource, tile: int, augment: str, seed: int) -> PairExamples:
    """The tiles of one split."""
    from regraft.training.pair_augment import PairAugment
    from regraft.training.pairs import PairExamples, tiles_of

    mine = [n for n, item in enumerate(data.pairs.items) if item.split == split]
    laid = tiles_of([data.survey.sizes[n] for n in mine], tile)
    tiles = tuple(replace(one, pair=mine[one.pair]) for one in laid)
    # Of several kinds of change, one may be the reverse of another: the dates stay in their order.
    kept = None if augment == "none" else PairAugment(augment, swap=data.coding.classes == 2)  # noqa: PLR2004
    return PairExamples(source, tiles, tile, kept, seed)


def _build(
    asked: SimpleNamespace, strategy: str, recipe: Recipe, data: PairData, start: Start, listener: Listener
) -> tuple[ChangeNet, ModelSpec, frozenset[str]]:
    """The network, what it is, and the names of what no file filled."""
    from regraft.models.change.net import build_change
    from regraft.models.change.published import fill_published
    from regraft.models.change.spec import parse_model

    spec = start.spec or parse_model(asked.model or recipe.model)
    if (strategy == "linear-probe") != (spec.kind == "linear"):
        raise OptionError(
            "--model linear and --strategy linear-probe belong together: the backbone stays frozen. For the networks"
            " bit and unet use --strategy finetune or scratch."
        )
    sizes = {"bands": data.survey.bands, "classes": data.coding.classes, "seed": asked.seed}
    net, fresh = build_change(spec, start.card, start.weights, **sizes)
    if start.published is not None:
        report = fill_published(net, start.published)
        for line in start.told(report):
            listener.say(line)
        fresh = frozenset(report.missing)
    return net, spec, fresh


def _scale(asked: SimpleNamespace, recipe: Recipe, start: Start, data: PairData, source: PairSource) -> BandScale:
    """What is done to the bands, by the backbone's weights where they are RGB of 8 bits, else by the training part."""
    plain = recipe.plain or start.published is not None
    expected = start.card.preprocessing
    mean, std = ((0.5,) * 3, (0.5,) * 3) if plain else (expected.mean, expected.std)
    rows = [n for n, item in enumerate(data.pairs.items) if item.split == "train"]
    drawn = np.random.default_rng(0).permutation(rows)[:_SAMPLED]
    sample = (source.scene(int(n)).dates for n in drawn)
    return scale_for(asked.mean or mean, asked.std or std, data.survey.dtype, data.survey.bands, sample)


def _resolved(
    asked: SimpleNamespace, strategy: str, recipe: Recipe, spec: ModelSpec, tiles: int, engine: Engine
) -> dict[str, Any]:
    """All options as they will be; what a probe has no use for stays as it was, since it would be refused again."""
    default = {"optimiser": "adamw", "schedule": "cosine", "clip": 1.0, "loss": None}
    auto = {
        name: getattr(recipe, name) if getattr(asked, name) == value else getattr(asked, name)
        for name, value in default.items()
    }
    batch = min(asked.batch or recipe.batch, tiles)
    batch = max(engine.world, batch - batch % engine.world)
    epochs = asked.epochs
    if epochs is None and asked.budget is None:
        epochs = max(recipe.shortest, min(recipe.longest, round(recipe.steps * recipe.batch / tiles)))
    lr = recipe.lr if asked.lr == "auto" else float(asked.lr)
    own: dict[str, Any] = {}
    if strategy != "linear-probe":
        own["layer_decay"] = recipe.layer_decay if asked.layer_decay is None else asked.layer_decay
        own["augment"] = _augment(asked, strategy)
    from regraft.recipes.resolve import workers

    return {
        **vars(asked),
        **auto,
        "model": spec.text if asked.init is None else None,
        "batch": batch,
        "epochs": epochs,
        "lr": lr,
        "weight_decay": recipe.weight_decay if asked.weight_decay is None else asked.weight_decay,
        "workers": workers() if asked.workers is None else asked.workers,
        **own,
        "precision": engine.precision if engine.precision != "f16" else "auto",
    }


def _weights(wanted: str, data: PairData) -> tuple[Tensor | None, str]:
    """Weights of the classes by their pixels, where they were asked for; rare changes are what the dice loss is for."""
    if wanted != "balanced":
        return None, ""
    import torch

    from regraft.losses.cross_entropy import class_weights

    rows = [n for n, item in enumerate(data.pairs.items) if item.split == "train"]
    counts = data.survey.class_pixels[rows].sum(0)
    return torch.from_numpy(class_weights(counts)).float(), "classes are weighted by the rarity of their pixels"
