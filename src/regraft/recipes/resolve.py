"""What the user left open about a training, decided by the data, the strategy and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.recipes.training_options import CACHED, seconds_of

if TYPE_CHECKING:
    from types import SimpleNamespace

    from numpy.typing import NDArray

    from regraft.training.engine import Engine
    from regraft.training.plan import Settings

_IMBALANCE = 5.0


def resolve(
    asked: SimpleNamespace, strategy: str, images: int, size: tuple[int, int], engine: Engine
) -> tuple[dict[str, Any], list[str]]:
    """All options as they will be, with `head_lr` besides, and sentences for the user.

    Args:
        asked: the options of `train`.
        strategy: one that trains.
        images: for training.
        size: height and width of the network's input, pixels.
        engine: where to train.
    """
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
        "workers": workers() if asked.workers is None else asked.workers,
        "budget": asked.budget,
    }
    return {**vars(asked), **auto, "views": str(auto["views"])}, notes


def workers() -> int:
    """Without a GPU the steps need every core themselves."""
    import torch

    from regraft.features.runtime import cores

    return min(8, cores()) if torch.cuda.is_available() else 0


def settings_of(options: dict[str, Any], *, judge_start: bool) -> Settings:
    """What of the resolved options the loop goes by; the warm-up is not known yet.

    Args:
        options: from `resolve`.
        judge_start: whether the weights are good already, and judged before the first step.
    """
    from regraft.training.plan import Settings
    from regraft.training.schedules import parse_schedule

    return Settings(
        batch=options["batch"],
        schedule=parse_schedule(options["schedule"]),
        accumulate=min(options["accumulate"], options["batch"]),
        optimiser=options["optimiser"],
        clip=options["clip"],
        metric=options["metric"],
        average=options["ema"],
        patience=options["early_stop"],
        budget=None if options["budget"] is None else seconds_of(options["budget"]),
        judge_start=judge_start,
        eval_every=options["eval_every"],
        save_every=options["save_every"],
        keep=options["keep"],
        workers=options["workers"],
        seed=options["seed"],
    )


def class_weighting(wanted: str, targets: NDArray[np.int64], classes: int) -> tuple[NDArray[np.float64] | None, float]:
    """Weights of the classes, or None, and how many times as many images the largest class has as the smallest.

    Args:
        wanted: "auto" (where the largest class is more than 5 times the smallest), "none" or "balanced".
        targets: (N,) class indices; -1 where it is not known.
        classes: K.
    """
    from regraft.losses.cross_entropy import class_weights

    counts = np.bincount(targets[targets >= 0], minlength=classes)
    there = counts[counts > 0]
    ratio = float(there.max() / there.min())
    if wanted == "none" or (wanted == "auto" and ratio <= _IMBALANCE):
        return None, ratio
    return class_weights(counts), ratio
