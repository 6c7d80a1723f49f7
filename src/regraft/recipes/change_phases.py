"""The one phase of a training on pairs: what learns in it, on what, for how long."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from regraft.errors import OptionError
from regraft.recipes.resolve import settings_of
from regraft.recipes.training_options import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    from torch import Tensor, nn

    from regraft.data.bands import BandScale
    from regraft.models.change.difference import LinearDifference
    from regraft.models.change.net import ChangeNet
    from regraft.recipes.change_options import Recipe
    from regraft.recipes.change_start import Start
    from regraft.recipes.listen import Clock, Listener
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.pairs import PairExamples
    from regraft.training.plan import Phase, Planned, Settings

_WARM_SHARE, _WARM_MOST = 0.05, 200
_LONGEST = 300  # epochs that a budget may buy


@dataclass(frozen=True)
class Material:
    """What a phase is made from.

    Attributes:
        net: the whole network.
        start: what it starts from.
        fresh: names of what no file filled in it.
        scale: what is done to the bands.
        options: as resolved.
        recipe: that filled what the user left open.
        train: what is learnt from.
        val: what the best epoch is chosen by.
        engine: where it runs.
        cache: the cache folder.
        listener: is told what happens.
    """

    net: ChangeNet
    start: Start
    fresh: frozenset[str]
    scale: BandScale
    options: dict[str, Any]
    recipe: Recipe
    train: PairExamples
    val: PairExamples
    engine: Engine
    cache: Path
    listener: Listener


def plan_training(
    asked: SimpleNamespace,
    strategy: str,
    material: Material,
    trained: nn.Module,
    objective: Objective,
    opener: Callable[[], Any],
) -> tuple[Settings, list[Planned]]:
    """How the loop goes, and its one phase; fills in the epochs that a budget buys."""
    from regraft.training.batches import steps_per_epoch
    from regraft.training.plan import Planned

    options, count = material.options, len(material.train)
    settings = settings_of(options, judge_start=asked.init is not None)
    settings = replace(settings, metric="loss" if asked.metric == "loss" else "f1")
    if asked.budget is not None and options["epochs"] is None:
        options["epochs"] = _affordable(asked.budget, material, trained, objective, opener, settings)
    options["budget"] = None  # the epochs are decided
    steps = options["epochs"] * steps_per_epoch(count, settings.batch)
    settings = replace(settings, warm_up=min(_WARM_MOST, round(_WARM_SHARE * steps)))
    return settings, [Planned(strategy, options["epochs"], opener)]


def _prepare(scale: BandScale, engine: Engine) -> Callable[[Tensor], Tensor]:
    """Pairs as they are loaded (B, T, C, H, W) -> what the network is given."""
    import torch

    shape = (1, 1, -1, 1, 1)
    offset = torch.tensor(scale.offset, device=engine.device).view(shape)
    factor = torch.tensor(scale.scale, device=engine.device).view(shape)
    return lambda inputs: (inputs.float() - offset) * factor


def network_phase(material: Material) -> Callable[[], Any]:
    """Opens the phase in which the whole network learns."""
    from regraft.models.depthwise import fast_depthwise
    from regraft.models.freezing import depth_of, freeze_statistics
    from regraft.training.parameters import Rates, groups
    from regraft.training.plan import Phase

    options, recipe = material.options, material.recipe
    head_lr = recipe.head_lr * options["lr"] / recipe.lr
    rates = Rates(options["lr"], head_lr, options["layer_decay"], options["weight_decay"])

    @contextlib.contextmanager
    def opened() -> Iterator[Phase]:
        own = groups(
            material.net.named_parameters(),
            rates,
            lambda name: depth_of(name.removeprefix("network."), material.start.card.stages),
            {name.partition(".")[2] for name in material.fresh},
        )
        if not recipe.statistics and material.start.weights is not None:
            freeze_statistics(material.net.trunk)
        with contextlib.ExitStack() as stack:
            if material.engine.device.type == "cpu":
                stack.enter_context(fast_depthwise(material.net.trunk))
            yield Phase(own, material.train, material.val, _prepare(material.scale, material.engine))

    return opened


def _affordable(
    budget: str,
    material: Material,
    trained: nn.Module,
    objective: Objective,
    opener: Callable[[], Any],
    settings: Settings,
) -> int:
    """How many epochs the budget buys, by the measured time of a few steps."""
    from regraft.training.batches import steps_per_epoch
    from regraft.training.plan import Planned
    from regraft.training.timing import time_steps

    spent = time_steps(trained, objective, Planned("", 1, opener), settings, material.engine)
    looks = math.ceil(len(material.val) / settings.batch)
    epoch = steps_per_epoch(len(material.train), settings.batch) * spent.step + looks * spent.evaluation
    left = seconds_of(budget) - spent.opening
    if epoch > left:
        raise OptionError(f"budget {budget} is less than one epoch takes, about {epoch:.2g} s. Allow more.")
    epochs = int(min(_LONGEST, left // epoch))
    material.listener.say(f"budget {budget}: an epoch takes about {epoch:.1f} s, so {epochs} epochs")
    return epochs


def stored_phase(material: Material, tile: int, clock: Clock) -> tuple[nn.Module, Callable[[], Any]]:
    """What learns from the frozen backbone's maps, which are computed once and kept in the store, and its phase."""
    from regraft.training.parameters import Rates, groups
    from regraft.training.plan import Phase
    from regraft.training.stored_pairs import OnStored, stored_pairs

    keys = [str(item.key) for item in material.train.source.pairs]
    space, prepare = _space(material, tile), _prepare(material.scale, material.engine)
    with clock.phase("features"), material.engine.first_alone():
        (train, shapes), (val, _) = (
            stored_pairs(
                material.net,
                examples,
                keys,
                prepare,
                space,
                material.cache,
                material.engine,
                material.listener.progress,
            )
            for examples in (material.train, material.val)
        )
    trained = OnStored(cast("LinearDifference", material.net.head), shapes, tile)
    rates = Rates(material.options["lr"], material.options["lr"], 1.0, material.options["weight_decay"])

    @contextlib.contextmanager
    def opened() -> Iterator[Phase]:
        own = groups(trained.named_parameters(), rates, lambda _name: 0)
        yield Phase(own, train, val, lambda inputs: inputs)

    return trained, opened


def _space(material: Material, tile: int) -> Any:
    """Where the stored maps belong: whatever changes a value changes it."""
    from regraft.features.table import FeatureSpace

    card, scale = material.start.card, material.scale
    return FeatureSpace(
        f"{card.architecture}@change {material.options['model']}",
        material.start.weights_sha256,
        card.preprocessing,
        f"torch {material.engine.device.type}",
        material.engine.precision,
        f"tile {tile} of {scale.offset} {scale.scale}",
    )
