"""The course of a training, from options and data to what the loop takes: model, objective, phases, settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import BackboneError, DataError, OptionError
from regraft.features.pixels import keep_pixels
from regraft.recipes.training_options import CACHED, seconds_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.backbones.backbone import BackboneCard
    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.heads.linear_probe import LinearProbe
    from regraft.models.classifier import Classifier
    from regraft.recipes.listen import Clock, Listener
    from regraft.training.augment import Augment
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.phases import Material, Part
    from regraft.training.plan import Planned, Settings

_IMBALANCE = 5.0
_CONV = 256
_LONGEST = 300  # epochs that a budget may buy
_WARM_SHARE, _WARM_MOST = 0.1, 500


@dataclass(frozen=True)
class Course:
    """What the loop takes, and what it was made from.

    Attributes:
        model: backbone and head, with their first weights.
        card: of the backbone, whose architecture may have got convolutions.
        objective: what is learnt.
        planned: the phases.
        settings: how.
        resolved: the options with everything decided.
        chosen: the same for the report.
        train: the training part.
        augment: what is done to its images, or None.
        notes: sentences that the user should see.
    """

    model: Classifier
    card: BackboneCard
    objective: Objective
    planned: list[Planned]
    settings: Settings
    resolved: dict[str, Any]
    chosen: dict[str, Any]
    train: Part
    augment: Augment | None
    notes: tuple[str, ...]


def make_course(
    asked: SimpleNamespace,
    strategy: str,
    manifest: Manifest,
    ready: Frozen,
    probe: LinearProbe | None,
    cache: Path,
    engine: Engine,
    clock: Clock,
    listener: Listener,
) -> Course:
    """Decide everything that the user left open, build the model and plan the phases.

    Args:
        asked: the options of `train`.
        strategy: one that trains.
        manifest: with a train and a val part.
        ready: the pretrained backbone.
        probe: the linear probe on its features, where the strategy starts from it.
        cache: the cache folder.
        engine: where to train.
        clock: counts the time.
        listener: is told what is decided.

    Raises:
        RegraftError: what cannot be trained so.
    """
    from regraft.training.augment import augmentation
    from regraft.training.batches import steps_per_epoch
    from regraft.training.objectives import classification
    from regraft.training.parameters import Rates
    from regraft.training.phases import Material, plan_phases
    from regraft.training.rules import rule_for

    preprocessing = ready.card.preprocessing
    count = len(manifest.split("train"))
    options, notes = _resolve(asked, strategy, count, preprocessing.size, engine)
    augment = augmentation(options["augment"], preprocessing)
    with clock.phase("pixels"), engine.first_alone():
        train = _part(manifest.split("train"), ready, cache, asked, "plain" if augment is None else "frame", listener)
        val = _part(manifest.split("val"), ready, cache, asked, "plain", listener)
    with clock.phase("model"):
        model, card, fresh = _build(asked, strategy, manifest, ready, probe, engine)
    weights, told = _class_weights(asked.class_weights, train.targets, manifest, listener)
    rule = rule_for(count)
    material = Material(
        model,
        card,
        ready.spaces[0].weights_sha256,
        fresh,
        train,
        val,
        augment,
        0 if strategy not in CACHED or options["views"] == "fresh" else int(options["views"]),
        rule.statistics or strategy == "scratch",
        Rates(options["lr"], options.pop("head_lr"), options["layer_decay"], options["weight_decay"]),
        asked.seed,
        cache,
        engine,
        listener.say,
        listener.progress,
    )
    objective = classification(weights=weights, smoothing=options["smoothing"], mixup=asked.mixup)
    settings = replace(_settings(asked, options), judge_start=probe is not None)
    if asked.budget is not None and options["epochs"] is None:
        options["epochs"] = _affordable(asked, strategy, material, objective, settings, count, listener)
    planned = plan_phases(strategy, material, options["epochs"], asked.unfreeze_from)
    options["epochs"] = sum(phase.epochs for phase in planned)
    options["budget"] = None  # the epochs are decided
    steps = options["epochs"] * steps_per_epoch(count, settings.batch)
    warm_up = min(_WARM_MOST, round(_WARM_SHARE * steps / len(planned)))
    chosen = {name: options[name] for name in ("epochs", "batch", "lr", "optimiser", "schedule", "augment")}
    listener.say(
        f"{strategy}: {options['epochs']} epochs of {count} images, batch {settings.batch}, learning rate"
        f" {options['lr']:.2g}, augmentation {options['augment']}, {engine.precision} ({engine.why})"
    )
    return Course(
        model,
        card,
        objective,
        planned,
        replace(settings, warm_up=warm_up),
        options,
        {**chosen, "precision": engine.precision, "head": asked.head},
        train,
        augment,
        (*notes, *told),
    )


def _resolve(
    asked: SimpleNamespace, strategy: str, images: int, size: tuple[int, int], engine: Engine
) -> tuple[dict[str, Any], list[str]]:
    """All options as they will be, with `head_lr` besides."""
    from regraft.training.rules import PACES, augmentation_for, batch_for, pace_for, rule_for

    rule, notes = rule_for(images), []
    batch = asked.batch or batch_for(images)
    if batch > images:
        batch = images
        notes.append(f"the batch is all of the {images} training images")
    batch = max(engine.world, batch - batch % engine.world)
    pace = pace_for(strategy, optimiser=asked.optimiser, batch=batch, lr=None if asked.lr == "auto" else asked.lr)
    epochs = asked.epochs
    if epochs is None and asked.budget is None:
        epochs = max(1, round(rule.epochs * PACES[strategy].longer))
    auto = {
        "augment": augmentation_for(*size) if asked.augment == "auto" else asked.augment,
        "views": (rule.views if strategy in CACHED else "auto") if asked.views == "auto" else asked.views,
        "precision": engine.precision if engine.precision != "f16" else "auto",
        "epochs": epochs,
        "batch": batch,
        "lr": pace.lr,
        "head_lr": pace.head_lr,
        "layer_decay": pace.layer_decay if asked.layer_decay is None else asked.layer_decay,
        "weight_decay": pace.weight_decay if asked.weight_decay is None else asked.weight_decay,
        "smoothing": pace.smoothing if asked.smoothing is None else asked.smoothing,
        "workers": _workers() if asked.workers is None else asked.workers,
        "budget": asked.budget,
    }
    return {**vars(asked), **auto, "views": str(auto["views"])}, notes


def _workers() -> int:
    """Without a GPU the steps need every core themselves."""
    import torch

    from regraft.features.runtime import cores

    return min(8, cores()) if torch.cuda.is_available() else 0


def _settings(asked: SimpleNamespace, options: dict[str, Any]) -> Settings:
    from regraft.training.plan import Settings
    from regraft.training.schedules import parse_schedule

    return Settings(
        batch=options["batch"],
        schedule=parse_schedule(asked.schedule),
        accumulate=min(asked.accumulate, options["batch"]),
        optimiser=asked.optimiser,
        clip=asked.clip,
        metric=asked.metric,
        average=asked.ema,
        patience=asked.early_stop,
        budget=None if asked.budget is None else seconds_of(asked.budget),
        eval_every=asked.eval_every,
        save_every=asked.save_every,
        keep=asked.keep,
        workers=options["workers"],
        seed=asked.seed,
    )


def _part(
    manifest: Manifest, ready: Frozen, cache: Path, asked: SimpleNamespace, view: Any, listener: Listener
) -> Part:
    kept = keep_pixels(
        manifest.items,
        ready.card.preprocessing,
        cache,
        view=view,
        max_pixels=asked.max_pixels,
        on_progress=listener.progress,
    )
    if kept.rejected:  # they could be read a moment ago, when the features were computed
        first = kept.rejected[0]
        raise DataError(f"{first.path} {first.reason}. Run it again when nothing else writes there.")
    if kept.note:
        listener.say(f"  {kept.note}")
    from regraft.training.phases import Part

    return Part(manifest.items, np.array(manifest.targets(), np.int64), kept.pixels)


def _build(
    asked: SimpleNamespace,
    strategy: str,
    manifest: Manifest,
    ready: Frozen,
    probe: LinearProbe | None,
    engine: Engine,
) -> tuple[Classifier, BackboneCard, frozenset[str]]:
    """The model, the card of its backbone, and the names of what no pretraining filled in it."""
    import torch
    from safetensors.torch import load_file

    from regraft.backbones.catalogue import build_module
    from regraft.backbones.convolutions import with_convolutions
    from regraft.models.classifier import Classifier
    from regraft.models.heads import make_head

    card = ready.card
    if asked.head == "conv":
        card = replace(card, architecture=with_convolutions(card.architecture, _CONV))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        backbone = build_module(card.architecture)
    fresh = frozenset(backbone.state_dict())
    if strategy != "scratch":
        state = load_file(ready.weights)
        unexpected = backbone.load_state_dict(state, strict=False).unexpected_keys
        if unexpected:
            raise BackboneError(f"{card.architecture} has no {unexpected[0]}, which its weights have. Prune the cache.")
        fresh -= state.keys()
    if strategy == "lora":
        from regraft.models.lora import add_lora

        backbone = add_lora(backbone, size=card.preprocessing.size, seed=asked.seed)
    head = make_head(
        "mlp" if asked.head == "mlp" else "linear",
        card.feature_dim,
        len(manifest.classes),
        probe=probe,
        seed=asked.seed,
    )
    model = Classifier(backbone, head).to(memory_format=torch.channels_last)
    return model.to(engine.device), card, fresh


def _class_weights(
    wanted: str, targets: NDArray[np.int64], manifest: Manifest, listener: Listener
) -> tuple[Tensor | None, list[str]]:
    """Weights of the classes, and what to say of them."""
    import torch

    from regraft.losses.cross_entropy import class_weights

    counts = np.bincount(targets, minlength=len(manifest.classes))
    there = counts[counts > 0]
    ratio = float(there.max() / there.min())
    if wanted == "none" or (wanted == "auto" and ratio <= _IMBALANCE):
        return None, []
    note = (
        f"the largest class has {ratio:.1f} times as many training images as the smallest: classes are weighted by"
        " their rarity (--class-weights none does not)"
    )
    listener.say(note)
    return torch.from_numpy(class_weights(counts)).float(), [note]


def _affordable(
    asked: SimpleNamespace,
    strategy: str,
    material: Material,
    objective: Objective,
    settings: Settings,
    images: int,
    listener: Listener,
) -> int:
    """How many epochs the budget buys, by the measured time of a few steps of the costliest phase."""
    from regraft.training.batches import steps_per_epoch
    from regraft.training.phases import plan_phases
    from regraft.training.timing import time_steps

    costliest = plan_phases(strategy, material, 1, asked.unfreeze_from)[-1]
    spent = time_steps(material.model, objective, costliest, settings, material.engine)
    epoch = (
        steps_per_epoch(images, settings.batch) * spent.step
        + math.ceil(len(material.val.items) / settings.batch) * spent.evaluation
    )
    budget = seconds_of(asked.budget) - spent.opening
    epochs = int(min(_LONGEST, max(1, budget // epoch)))
    if epoch > budget:
        raise OptionError(
            f"budget {asked.budget} is less than one epoch takes, about {epoch:.2g} s. Allow more, or choose partial"
            " or a smaller --size."
        )
    listener.say(f"budget {asked.budget}: an epoch takes about {epoch:.1f} s, so {epochs} epochs")
    return epochs
