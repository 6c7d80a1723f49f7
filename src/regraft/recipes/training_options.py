"""The options of `train` that only strategies have that train the network, and whether they make sense."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.data.tasks import means_tasks
from regraft.errors import OptionError
from regraft.recipes.backbone import absolute_name, backbone_names, short_name

if TYPE_CHECKING:
    from types import SimpleNamespace

    from regraft.recipes.catalogue import Strategy

TRAINING = (
    "unfreeze_from",
    "freeze",
    "task_weights",
    "epochs",
    "budget",
    "lr",
    "head",
    "augment",
    "class_weights",
    "ema",
    "mixup",
    "smoothing",
    "batch",
    "accumulate",
    "optimiser",
    "schedule",
    "layer_decay",
    "weight_decay",
    "clip",
    "metric",
    "early_stop",
    "eval_every",
    "save_every",
    "keep",
    "tensorboard",
    "workers",
    "force",
)
CACHED = ("partial", "gradual")
SEVERAL = ("finetune", "lp-ft", "scratch")
"""What trains several backbones as one model."""
AUGMENT = ("none", "light", "default", "heavy")
_MOST, _SMALLEST_MIXUP = 1_000_000, 1e-3
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def check_training(asked: SimpleNamespace, plan: Strategy) -> None:
    """Refuse option values that would fail or mislead later on.

    Raises:
        OptionError: naming the value and what was expected.
    """
    for name in ("epochs", "batch", "accumulate", "keep", "devices", "nodes"):
        _whole(asked, name, 1)
    for name in ("early_stop", "eval_every", "workers"):
        _whole(asked, name, 0)
    for name in ("ema", "tensorboard", "force", "overwrite"):
        if not isinstance(getattr(asked, name), bool):
            raise OptionError(f"{name} is {getattr(asked, name)!r}; expected True or False")
    _check_numbers(asked)
    if asked.epochs is not None and asked.budget is not None:
        raise OptionError("--epochs and --budget both say how long to train: give one of them")
    if asked.budget is not None:
        seconds_of(asked.budget)
    _check_words(asked)
    if asked.unfreeze_from is not None and not (isinstance(asked.unfreeze_from, str) and asked.unfreeze_from):
        raise OptionError(f"unfreeze-from is {asked.unfreeze_from!r}; expected the name of a stage, such as blocks.6")
    if asked.unfreeze_from is not None and plan.name != "partial":
        raise OptionError(f"--unfreeze-from has no effect with --strategy {plan.name}: it is for partial")
    if asked.head != "linear" and plan.name == "lp-ft":
        raise OptionError(f"--head {asked.head} has no effect with --strategy lp-ft, whose head is the linear probe")
    check_views(asked.views, plan)
    _check_several(asked, plan)
    _check_task_weights(asked)
    _check_augment(asked.augment)


def _check_numbers(asked: SimpleNamespace) -> None:
    limits = {"mixup": 100.0, "clip": 1e6, "save_every": 1e6, "weight_decay": 10.0, "smoothing": 0.9}
    for name, most in limits.items():
        _number(asked, name, 0.0, most)
    if 0 < asked.mixup < _SMALLEST_MIXUP:
        raise OptionError(f"mixup is {asked.mixup!r}; expected 0, or a number from {_SMALLEST_MIXUP:g} to 100")
    _number(asked, "layer_decay", 0.01, 1.0)
    if asked.lr != "auto":
        _number(asked, "lr", 1e-12, 10.0)


def _check_words(asked: SimpleNamespace) -> None:
    words = {
        "head": ("linear", "mlp", "conv"),
        "class_weights": ("auto", "none", "balanced"),
        "optimiser": ("adamw", "sgd"),
        "task_weights": ("equal", "uncertainty"),
        "metric": ("accuracy", "balanced_accuracy", "macro_f1", "loss"),
    }
    for name, known in words.items():
        if getattr(asked, name) not in known:
            raise OptionError(f"{name.replace('_', '-')} {getattr(asked, name)!r} is unknown: use {', '.join(known)}")
    from regraft.training.schedules import parse_schedule

    parse_schedule(asked.schedule)


def _check_task_weights(asked: SimpleNamespace) -> None:
    words = [] if asked.label is None else [asked.label] if isinstance(asked.label, str) else list(asked.label)
    if asked.task_weights != "equal" and not means_tasks(words):
        raise OptionError(f"--task-weights {asked.task_weights} has no effect with one task: it is for several --label")


def _check_several(asked: SimpleNamespace, plan: Strategy) -> None:
    names = backbone_names(asked.backbone)
    if len(names) > 1 and plan.name not in SEVERAL:
        raise OptionError(
            f"strategy {plan.name} trains one backbone, not {len(names)} ({asked.backbone}). Name one, or use"
            f" {', '.join(SEVERAL)}."
        )
    if len(names) > 1 and asked.head == "conv":
        raise OptionError(f"--head conv is for one backbone, not {len(names)} ({asked.backbone}). Use linear or mlp.")
    frozen_branches(asked.freeze, asked.backbone)


def frozen_branches(freeze: object, backbone: str) -> tuple[int, ...]:
    """The positions of the backbones in `a+b` that `--freeze` names.

    Args:
        freeze: names separated by commas, as they stand in `backbone` or without their place; None for none.
        backbone: the names, with pluses between them.

    Raises:
        OptionError: there is one backbone only, none of that name, or all would be frozen.
    """
    if freeze is None:
        return ()
    names = backbone_names(backbone)
    if not isinstance(freeze, str):
        raise OptionError(f"freeze is {freeze!r}; expected names of backbones, separated by commas")
    if len(names) == 1:
        raise OptionError(
            f"--freeze has no effect with one backbone ({backbone}): it is for several, such as --backbone a+b"
        )
    found = set()
    for word in freeze.split(","):
        wanted = absolute_name(word.strip()) if word.strip() else ""
        at = [n for n, name in enumerate(names) if absolute_name(name) == wanted or short_name(name) == word.strip()]
        if len(at) != 1:
            raise OptionError(f"freeze {word.strip()!r} is none of the backbones: use {', '.join(names)}")
        found.add(at[0])
    if len(found) == len(names):
        raise OptionError(
            f"--freeze {freeze} leaves nothing of {backbone} to train. Leave one out, or use a strategy on frozen"
            " features, such as linear-probe."
        )
    return tuple(sorted(found))


def _check_augment(name: object) -> None:
    """A word that is no preset and no file is told before the long part; what is in a file is checked with it."""
    if not isinstance(name, str):
        raise OptionError(f"augment is {name!r}; expected {', '.join(AUGMENT)}, or the path of a YAML file")
    if name not in {*AUGMENT, "auto"} and not Path(name).expanduser().is_file():
        raise OptionError(f"augment {name!r} is unknown and no file: use {', '.join(AUGMENT)}, or a YAML file")


def check_views(views: str, plan: Strategy) -> None:
    """Refuse `views` that mean nothing to the strategy."""
    if views == "auto":
        return
    if plan.name not in CACHED:
        raise OptionError(f"views {views!r} has no effect with --strategy {plan.name}, which augments anew each epoch")
    if views != "fresh" and not (str(views).isdecimal() and int(views) >= 1):
        raise OptionError(f"views {views!r} is unknown: use auto, fresh, or a whole number above 0")


def seconds_of(text: str) -> float:
    """Seconds of `90s`, `10m`, `1.5h` or `1h30m`; a bare number is seconds.

    Raises:
        OptionError: anything else.
    """
    bare = "".join(str(text).split()).lower()
    number = r"\d+(?:\.\d+)?"
    form = rf"{number}|(?=.)(?:({number})h)?(?:({number})m)?(?:({number})s)?"
    found = re.fullmatch(form, bare)
    if found is None:
        seconds = 0.0
    elif any(found.groups()):
        parts = zip(found.groups(), "hms", strict=True)
        seconds = sum(float(count or 0) * _SECONDS[unit] for count, unit in parts)
    else:
        seconds = float(bare)
    if not 0 < seconds < math.inf:
        raise OptionError(f"budget {text!r} is not a time: use 90s, 10m, 2h or 1h30m")
    return seconds


def _whole(asked: SimpleNamespace, name: str, least: int) -> None:
    value = getattr(asked, name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST):
        raise OptionError(f"{name.replace('_', '-')} is {value!r}; expected a whole number from {least} to {_MOST:,}")


def _number(asked: SimpleNamespace, name: str, least: float, most: float) -> None:
    value = getattr(asked, name)
    if value is None:
        return
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least
    if not fits or value > most:
        raise OptionError(f"{name.replace('_', '-')} is {value!r}; expected a number from {least:g} to {most:g}")
