"""The options of `train` for change detection: which make sense, and what is decided where the user says nothing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regraft.errors import OptionError
from regraft.recipes.backbone import backbone_names
from regraft.recipes.training_options import AUGMENT, check_training

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace

    from regraft.recipes.catalogue import Strategy

CHANGE = ("model", "init", "loss", "preset")
"""Options that only change detection has."""
STRATEGIES = ("finetune", "scratch", "linear-probe")
TILE = 256
_WITHOUT = (
    "views",
    "runtime",
    "calibrate",
    "abstain_at",
    "unfreeze_from",
    "freeze",
    "task_weights",
    "head",
    "mixup",
    "smoothing",
    "force",
    "features",
    "root",
    "label",
    "path_column",
    "split_column",
    "group_column",
)
_TRAINED_ONLY = ("augment", "layer_decay", "ema", "init")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done where the user does not say; `docs/change.md` tells what was tried.

    Attributes:
        model: the network after the backbone.
        loss: what is minimised.
        optimiser: its name.
        lr: peak rate of the trunk's last part.
        head_lr: of the head.
        layer_decay: how much slower each part learns than the one after it.
        weight_decay: of weights.
        schedule: of the rates.
        batch: tiles a step.
        steps: about so many; epochs follow from the number of tiles.
        shortest: epochs at least.
        longest: epochs at most.
        clip: largest norm of the gradient; 0 for no limit.
        statistics: whether BatchNorm in a pretrained backbone keeps updating its running statistics.
        plain: whether bands are scaled to -1..1 instead of as the backbone's weights expect.
    """

    model: str
    loss: str
    optimiser: str
    lr: float
    head_lr: float
    layer_decay: float
    weight_decay: float
    schedule: str
    batch: int
    steps: int
    shortest: int
    longest: int
    clip: float
    statistics: bool
    plain: bool = False


DEFAULT = Recipe(
    model="bit",
    loss="ce+dice",
    optimiser="adamw",
    lr=3e-4,
    head_lr=1e-3,
    layer_decay=1.0,
    weight_decay=0.01,
    schedule="cosine",
    batch=8,
    steps=1_000,
    shortest=8,
    longest=60,
    clip=1.0,
    statistics=False,
)
LINEAR = replace(DEFAULT, model="linear", loss="ce", lr=1e-2, head_lr=1e-2, weight_decay=1e-4)
# Chen, Qi and Shi 2021: SGD with momentum 0.9, 200 epochs, and pixels scaled by mean = std = 0.5.
OFFICIAL = replace(
    DEFAULT,
    model="bit:neck=last",
    loss="ce",
    optimiser="sgd",
    lr=0.01,
    head_lr=0.01,
    weight_decay=5e-4,
    schedule="linear",
    shortest=200,
    longest=200,
    clip=0.0,
    statistics=True,
    plain=True,
)
PRESETS = {"official": OFFICIAL}


def recipe_for(asked: SimpleNamespace, strategy: str) -> Recipe:
    """The recipe that fills what the user left open."""
    if asked.preset is not None:
        return PRESETS[asked.preset]
    return LINEAR if strategy == "linear-probe" else DEFAULT


def check_change(asked: SimpleNamespace, options: dict[str, Any], plan: Strategy, train: Callable[..., Any]) -> None:
    """Refuse what has no meaning here, or would fail later on.

    Raises:
        OptionError: naming the option and what was expected.
    """
    parameters = inspect.signature(train).parameters
    _check_texts(options)
    if plan.name not in {"auto", *STRATEGIES}:
        raise OptionError(
            f"strategy {plan.name} is not for change detection: use {', '.join(STRATEGIES)}; auto is finetune"
        )
    linear = plan.name == "linear-probe"
    for name in (*_WITHOUT, *(_TRAINED_ONLY if linear else ())):
        if options[name] != parameters[name].default:
            beside = "--strategy linear-probe on pairs" if name in _TRAINED_ONLY else "change detection"
            raise OptionError(f"--{name.replace('_', '-')} has no effect with {beside}: leave it out")
    if len(backbone_names(asked.backbone)) > 1:
        raise OptionError(f"change detection takes one backbone, not {asked.backbone}")
    if asked.metric not in {"accuracy", "loss"}:
        raise OptionError(
            f"metric {asked.metric} is of one class an image; here the best epoch is chosen by the F1 of changed"
            " pixels, or by --metric loss"
        )
    if asked.augment not in {"auto", *AUGMENT}:
        raise OptionError(f"augment {asked.augment!r} is not for pairs: use {', '.join(AUGMENT)}")
    if asked.preset is not None and (asked.preset not in PRESETS or linear):
        raise OptionError(
            f"preset {asked.preset!r} is unknown here: use {', '.join(PRESETS)}, with a network that trains"
        )
    if asked.init is not None:
        _check_init(asked, options, parameters)
    check_training(asked, plan)


def _check_texts(options: dict[str, Any]) -> None:
    for name in CHANGE:
        if options[name] is not None and not isinstance(options[name], str):
            raise OptionError(f"{name} is {options[name]!r}; expected a text")
    size = options["size"]
    whole = isinstance(size, int) and not isinstance(size, bool)
    if size is not None and not (whole and 32 <= size <= 4096):  # noqa: PLR2004
        raise OptionError(f"size is {size!r}; expected the side of a tile from 32 to 4096 pixels")


def _check_init(asked: SimpleNamespace, options: dict[str, Any], parameters: Any) -> None:
    if not (asked.init.startswith("file:") and asked.init.endswith("@bit")):
        raise OptionError(
            f"init {asked.init!r} is unknown: use file:FILE@bit, a checkpoint of the published BIT network"
        )
    for name in ("backbone", "model"):
        if options[name] != parameters[name].default:
            raise OptionError(f"--{name} follows from the checkpoint of --init: leave it out")


def check_not_change(options: dict[str, Any], train: Callable[..., Any]) -> None:
    """Refuse options that only change detection has.

    Raises:
        OptionError: naming the option.
    """
    parameters = inspect.signature(train).parameters
    for name in CHANGE:
        if options[name] != parameters[name].default:
            raise OptionError(
                f"--{name} is for change detection, which learns from a folder with A, B and label; this data has none"
            )
