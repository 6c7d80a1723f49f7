"""The course of a training, from options and data to what the loop takes: model, objective, phases, settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regraft.errors import DataError, OptionError
from regraft.features.pixels import keep_pixels
from regraft.recipes.resolve import resolve, settings_of
from regraft.recipes.training_options import CACHED, frozen_branches, seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import SimpleNamespace

    from regraft.backbones.backbone import BackboneCard
    from regraft.backbones.preprocessing import Preprocessing
    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.models.classifier import Classifier
    from regraft.recipes.goal import Goal
    from regraft.recipes.listen import Clock, Listener
    from regraft.training.augment import Augment
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.phases import Material, Part
    from regraft.training.plan import Planned, Settings

_CONV = 256
_LONGEST = 300  # epochs that a budget may buy
_WARM_SHARE, _WARM_MOST = 0.1, 500


@dataclass(frozen=True)
class Course:
    """What the loop takes, and what it was made from.

    Attributes:
        model: backbone and head, with their first weights.
        cards: of the backbones; the architecture of one alone may have got convolutions.
        frozen: positions of the backbones that stay as they are.
        goal: what is to be learnt.
        objective: the same as the loop takes it.
        planned: the phases.
        settings: how.
        resolved: the options with everything decided.
        chosen: the same for the report.
        train: the training part.
        augment: what is done to its images, or None.
        notes: sentences that the user should see.
    """

    model: Classifier
    cards: tuple[BackboneCard, ...]
    frozen: tuple[int, ...]
    goal: Goal
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
    backbones: tuple[Frozen, ...],
    goal: Goal,
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
        backbones: the pretrained ones.
        goal: what is to be learnt.
        cache: the cache folder.
        engine: where to train.
        clock: counts the time.
        listener: is told what is decided.

    Raises:
        RegraftError: what cannot be trained so.
    """
    from regraft.models.joint import largest
    from regraft.training.augment import augmentation
    from regraft.training.batches import steps_per_epoch
    from regraft.training.parameters import Rates
    from regraft.training.phases import Material, plan_phases
    from regraft.training.rules import rule_for

    preprocessing = largest([one.card.preprocessing for one in backbones])
    still = frozen_branches(asked.freeze, asked.backbone)
    count = len(manifest.split("train"))
    options, notes = resolve(asked, strategy, count, preprocessing.size, engine)
    augment = augmentation(options["augment"], preprocessing)
    with clock.phase("pixels"), engine.first_alone():
        view = "plain" if augment is None else "frame"
        train = _part(manifest, "train", preprocessing, goal, cache, asked, view, listener)
        val = _part(manifest, "val", preprocessing, goal, cache, asked, "plain", listener)
    with clock.phase("model"):
        model, cards, fresh = _build(asked, strategy, backbones, still, goal, engine)
    for note in goal.notes:
        listener.say(note)
    material = Material(
        model,
        cards,
        still,
        backbones[0].spaces[0].weights_sha256,
        fresh,
        train,
        val,
        augment,
        0 if strategy not in CACHED or options["views"] == "fresh" else int(options["views"]),
        rule_for(count).statistics or strategy == "scratch",
        Rates(options["lr"], options.pop("head_lr"), options["layer_decay"], options["weight_decay"]),
        asked.seed,
        cache,
        engine,
        listener.say,
        listener.progress,
    )
    objective = goal.objective(options["smoothing"])
    settings = replace(settings_of(options, judge_start=goal.start is not None), metric=goal.metric)
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
    if len(cards) > 1:
        listener.say(_together(cards, still, preprocessing))
    return Course(
        model,
        cards,
        still,
        goal,
        objective,
        planned,
        replace(settings, warm_up=warm_up),
        options,
        {**chosen, "precision": engine.precision, "head": asked.head},
        train,
        augment,
        (*notes, *goal.notes),
    )


def _together(cards: Sequence[BackboneCard], still: Sequence[int], preprocessing: Preprocessing) -> str:
    """What is done with several backbones."""
    height, width = preprocessing.size
    told = [f"{card.name} {'frozen' if n in still else 'trained'}" for n, card in enumerate(cards)]
    return f"  one model of {', '.join(told)}; pictures of {width}x{height}, made smaller for those that take less"


def _part(
    manifest: Manifest,
    split: str,
    preprocessing: Preprocessing,
    goal: Goal,
    cache: Path,
    asked: SimpleNamespace,
    view: Any,
    listener: Listener,
) -> Part:
    from regraft.training.phases import Part

    items = manifest.split(split).items
    kept = keep_pixels(
        items, preprocessing, cache, view=view, max_pixels=asked.max_pixels, on_progress=listener.progress
    )
    if kept.rejected:  # they could be read a moment ago, when the features were computed
        first = kept.rejected[0]
        raise DataError(f"{first.path} {first.reason}. Run it again when nothing else writes there.")
    if kept.note:
        listener.say(f"  {kept.note}")
    return Part(items, goal.targets(split), kept.pixels)


def _build(
    asked: SimpleNamespace,
    strategy: str,
    backbones: tuple[Frozen, ...],
    still: Sequence[int],
    goal: Goal,
    engine: Engine,
) -> tuple[Classifier, tuple[BackboneCard, ...], frozenset[str]]:
    """The model, the cards of its backbones, and the names of what no pretraining filled in it."""
    import torch

    from regraft.backbones.convolutions import with_convolutions
    from regraft.models.classifier import Classifier
    from regraft.models.heads import make_head
    from regraft.models.joint import build_trunk

    cards = tuple(one.card for one in backbones)
    if asked.head == "conv":
        cards = (replace(cards[0], architecture=with_convolutions(cards[0].architecture, _CONV)),)
    # What is frozen stays as it is, so it is never without its pretrained weights.
    weights = [None if strategy == "scratch" and n not in still else one.weights for n, one in enumerate(backbones)]
    trunk, fresh = build_trunk(cards, weights, asked.seed)
    if strategy == "lora":
        from regraft.models.lora import add_lora

        trunk = add_lora(trunk, size=cards[0].preprocessing.size, seed=asked.seed)
    head = make_head(
        "mlp" if asked.head == "mlp" else "linear",
        sum(card.feature_dim for card in cards),
        goal.outputs,
        probe=goal.start,
        seed=asked.seed,
    )
    model = Classifier(trunk, head, goal.weighing).to(memory_format=torch.channels_last)
    return model.to(engine.device), cards, fresh


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
