"""All classification networks of the installed torchvision, with their weights' own transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.backbones.preprocessing import Preprocessing
from regraft.backbones.zoo import Entry, split_size
from regraft.errors import BackboneError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

NAME = "torchvision"
DISTRIBUTIONS = ("torch", "torchvision")
_PREFIX = "torchvision/"

# Heads for training only are left away; all published weights of these two expect the input transformed.
_AUXILIARY = {"aux_logits": False, "transform_input": True, "init_weights": False}
_OPTIONS: dict[str, dict[str, Any]] = {"googlenet": _AUXILIARY, "inception_v3": _AUXILIARY}
_CLASSES = 1000
_VIT_SIDE = 224  # the vision transformers' default


def entries() -> list[Entry]:
    """Every network with each of its weights, the default ones first."""
    from torchvision import models

    found = []
    for model in models.list_models(module=models):
        enum = models.get_model_weights(model)
        default = enum.DEFAULT
        found += [_entry(model, weights) for weights in [default, *(w for w in enum if w is not default)]]
    return found


def _entry(model: str, weights: Any) -> Entry:
    name = f"{_PREFIX}{model}.{weights.name}"
    architecture = name if _options(model, weights) != _options(model) else f"{_PREFIX}{model}"
    return Entry(name=name, architecture=architecture, weights=weights.name, url=weights.url)


def _weights(name: str) -> Any:
    """`torchvision/resnet50.IMAGENET1K_V1` -> the member of torchvision's enumeration."""
    from torchvision import models

    model, _, tag = name.removeprefix(_PREFIX).partition(".")
    return models.get_model_weights(model)[tag]


def _options(model: str, weights: Any = None) -> dict[str, Any]:
    """What the builder must be told; some weights of the vision transformers are for larger images."""
    side = weights.meta.get("min_size", (0, 0))[0] if weights is not None else 0
    larger = {"image_size": side} if model.startswith("vit_") and side > _VIT_SIDE else {}
    return {**_OPTIONS.get(model, {}), **larger}


def build_module(architecture: str, classes: int = 0) -> nn.Module:
    """The network with random weights, in eval mode: images -> features (B, D), or logits (B, classes).

    Args:
        architecture: `torchvision/NAME`, or with the tag of weights that are for larger images than usual.
        classes: 0 removes the classifier.
    """
    from torchvision import models

    name, side = split_size(architecture)
    model, _, tag = name.removeprefix(_PREFIX).partition(".")
    try:
        options = _options(model, _weights(name) if tag else None)
        options |= {"image_size": side} if side else {}
        module: nn.Module = models.get_model(model, weights=None, num_classes=classes or _CLASSES, **options)
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"torchvision here has no classification network {architecture!r}; see `regraft backbones torchvision/`."
        ) from error
    if not classes:
        _remove_classifier(module)
    return module.eval()


def fixed_size(architecture: str) -> tuple[int, int] | None:
    """Height and width of the input that the network is built for: the vision transformers only; else None."""
    name, side = split_size(architecture)
    model, _, tag = name.removeprefix(_PREFIX).partition(".")
    if not model.startswith("vit_"):
        return None
    side = side or _options(model, _weights(name) if tag else None).get("image_size", _VIT_SIDE)
    return side, side


def _remove_classifier(module: nn.Module) -> None:
    """Put an identity where the last layer gives one output a class.

    SqueezeNet's last layer is a convolution before the pooling; all others end with a linear layer.
    """
    from torch import nn

    for name, layer in reversed(list(module.named_modules())):
        outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and outputs == _CLASSES:
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, nn.Identity())
            return
    raise BackboneError(f"{type(module).__name__} has no last layer with {_CLASSES} outputs that could be removed.")


def load(entry: Entry, path: Path) -> nn.Module:
    """The network with all its weights; raises CheckpointError if one is missing from the file."""
    from regraft.checkpoints.match import match
    from regraft.checkpoints.read import read_state_dict

    module = build_module(entry.architecture)
    match(read_state_dict(path), module, allow_partial=1, head=())
    return module


def preprocessing(entry: Entry) -> Preprocessing:
    """From the transforms that torchvision publishes with the weights (its ImageClassification preset)."""
    preset = _weights(entry.name).transforms()
    crop, resize = list(preset.crop_size), list(preset.resize_size)
    red, green, blue = preset.mean
    red_std, green_std, blue_std = preset.std
    return Preprocessing(
        size=(crop[0], crop[-1]),
        resize=resize[0],
        mode="shorter",
        interpolation=preset.interpolation.value,
        mean=(red, green, blue),
        std=(red_std, green_std, blue_std),
    )


def licence(entry: Entry) -> str:
    """As far as torchvision says, which is seldom."""
    return str(_weights(entry.name).meta.get("license", "unknown"))
