"""`regraft lr-find`: which learning rate suits these images and this network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regraft.atomic import check_writable
from regraft.errors import OptionError
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.change_data import refuse_pairs
from regraft.recipes.listen import Listener

if TYPE_CHECKING:
    from regraft.training.lr_curve import Suggestion

_LISTENER = Listener()
_HIGHEST, _MOST_STEPS = 1000.0, 100_000


@dataclass(frozen=True)
class RateFound:
    """What a learning-rate range test gave.

    Attributes:
        rate: the suggestion for --lr, or None where the curve shows none.
        why: in a sentence.
        rates: those that were tried.
        losses: the loss at each.
        picture: the curve as a PNG.
    """

    rate: float | None
    why: str
    rates: list[float]
    losses: list[float]
    picture: Path


def lr_find(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "lr.png",
    backbone: str = "efficientnet_lite0",
    strategy: str = "finetune",
    optimiser: Literal["adamw", "sgd"] = "adamw",
    batch: int | None = None,
    augment: str = "auto",
    head: Literal["linear", "mlp", "conv"] = "linear",
    size: int | None = None,
    unfreeze_from: str | None = None,
    precision: Literal["auto", "f32", "bf16"] = "auto",
    steps: int = 60,
    low: float = 1e-6,
    high: float = 1.0,
    seed: int = 0,
    listener: Listener = _LISTENER,
) -> RateFound:
    """Find a learning rate: train for some steps while the rate rises, and look where the loss falls fastest.

    Nothing is kept but the picture. The rate is that of the backbone, as `regraft train --lr` takes it; the head's and
    the earlier layers' rise with it.

    Args:
        data: Labelled images, named as for `train`.
        out: The picture of the curve, a PNG.
        backbone: As for `train`.
        strategy: One that trains the network.
        optimiser: AdamW, or SGD with momentum 0.9.
        batch: Images a step; by default as many as suit the data.
        augment: As for `train`.
        head: As for `train`.
        size: Side of the input in pixels, where not that of the weights.
        unfreeze_from: The first stage that partial trains.
        precision: As for `train`.
        steps: How many rates are tried.
        low: The first one.
        high: The last one.
        seed: Of splits, first weights and augmentation.
        listener: Who is told what happens.

    Returns:
        The suggestion, the curve and where its picture is.

    Raises:
        RegraftError: whatever is wrong with the data or the options, in a sentence.
    """
    options = {k: v for k, v in locals().items() if k not in {"listener", "out", "steps", "low", "high"}}
    refuse_pairs(data, "lr-find")
    plan = find_strategy(strategy)
    if not plan.trains:
        names = ", ".join(s.name for s in STRATEGIES.values() if s.trains)
        raise OptionError(f"strategy {plan.name} has no learning rate: use {names}")
    if not 0 < low < high <= _HIGHEST:
        raise OptionError(f"low is {low!r} and high is {high!r}; expected 0 < low < high <= {_HIGHEST:g}")
    if isinstance(steps, bool) or not 3 <= steps <= _MOST_STEPS:  # noqa: PLR2004 - a curve
        raise OptionError(f"steps is {steps!r}; expected a whole number from 3 to {_MOST_STEPS:,}")
    target = Path(out)
    if target.suffix.lower() != ".png":
        raise OptionError(f"out {target} is no PNG; expected a name that ends with .png")
    check_writable(target)
    rates, losses = _run(options, steps, low, high, listener)
    from regraft.training.lr_curve import draw, suggest

    found: Suggestion = suggest(rates, losses)
    draw(rates, losses, found, target)
    return RateFound(found.rate, found.why, rates, losses, target)


def _run(
    options: dict[str, Any], steps: int, low: float, high: float, listener: Listener
) -> tuple[list[float], list[float]]:
    """Rates and losses, on the training part."""
    from regraft.recipes.fine_tune import prepare

    course, engine = prepare(options, listener)
    from regraft.training.range_test import range_test

    return range_test(
        course.model,
        course.objective,
        course.planned[-1],
        course.settings,
        engine,
        lr=course.resolved["lr"],
        low=low,
        high=high,
        steps=steps,
        progress=listener.progress,
    )
