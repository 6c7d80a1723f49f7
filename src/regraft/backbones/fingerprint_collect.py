"""What the installed zoos' networks are made of: every tensor's name and shape, and what part it plays.

Networks are built on torch's meta device, so no memory is filled and no weights are needed. Each is built three
times: as it is; for other classes, channels and a larger image; and without a head, as Regraft uses it. What changes
shows what a tensor is for.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.backbones.fingerprints import ANY, BODY, HEAD, POSITION, STEM, Slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from regraft.checkpoints.checkpoint import Shape

_CLASSES, _CHANNELS, _RGB = 7, 5, 3
_TIMM, _TORCHVISION = "timm/", "torchvision/"
_AUXILIARY = ("googlenet", "inception_v3")
_CONVOLUTION = 4  # dimensions of an image convolution's weight


@dataclass(frozen=True, slots=True)
class Record:
    """One network of a zoo.

    Attributes:
        architecture: as `catalogue.build_module` takes it.
        family: the module that defines it, its last word.
        published: whether its zoo publishes weights for it.
        size: image height and width by default.
        width: number of features that its head sees.
        parameters: number of parameters without the head.
        slots: its tensors in the order of its state dict; last, those of a head that it has only on demand.
        modules: names of its modules that hold no tensors, nor do modules inside them.
    """

    architecture: str
    family: str
    published: bool
    size: tuple[int, int]
    width: int
    parameters: int
    slots: tuple[Slot, ...]
    modules: tuple[str, ...]


def architectures() -> list[str]:
    """Every classification network of the installed torchvision, then every network of the installed timm."""
    import timm
    from torchvision import models

    return [
        *(f"{_TORCHVISION}{name}" for name in sorted(models.list_models(module=models))),
        *(f"{_TIMM}{name}" for name in sorted(timm.list_models())),
    ]


def record(architecture: str) -> Record:
    """Build one network in its variants and compare."""
    module, other, bare, size = _thrice(architecture)
    slots = _slots(module, other, bare)
    heads = {slot.name for slot in slots if slot.role == HEAD}
    return Record(
        architecture=architecture,
        family=_function(architecture).__module__.rpartition(".")[2],
        published=architecture.startswith(_TORCHVISION) or architecture in _published(),
        size=size,
        width=_width(architecture, module, slots),
        parameters=sum(p.numel() for name, p in module.named_parameters() if name not in heads),
        slots=slots,
        modules=_empty_modules(module),
    )


def _thrice(architecture: str) -> tuple[nn.Module, nn.Module, nn.Module, tuple[int, int]]:
    """The network; for other classes, channels and a larger image; without a head. And its image size."""
    with weightless():
        try:
            return _built(architecture)
        except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
            pass
    return _built(architecture)


def _built(architecture: str) -> tuple[nn.Module, nn.Module, nn.Module, tuple[int, int]]:
    module = build(architecture)
    size = _size(architecture, module)
    other = _other(architecture, size)
    bare = build(architecture, num_classes=0) if architecture.startswith(_TIMM) else other
    return module, other, bare, size


@contextlib.contextmanager
def weightless() -> Iterator[None]:
    """Networks that are built here take no memory and give no warnings."""
    import torch

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        yield


def build(architecture: str, **options: Any) -> nn.Module:
    """The network as its zoo builds it by default, with classifier and random weights."""
    import timm
    from torchvision import models

    zoo, _, name = architecture.partition("/")
    if zoo == "timm":
        made: nn.Module = timm.create_model(name, **options)
        return made
    if name in _AUXILIARY:
        options = {"init_weights": False, **options}
    module: nn.Module = models.get_model(name, weights=None, **options)
    return module


def _other(architecture: str, size: tuple[int, int]) -> nn.Module:
    """The network for other classes and, as far as its builder takes them, other channels and a larger image."""
    height, width = 2 * size[0], 2 * size[1]
    if architecture.startswith(_TORCHVISION):
        larger = {"image_size": height} if "/vit_" in architecture else {}
        without = {"aux_logits": False} if architecture.removeprefix(_TORCHVISION) in _AUXILIARY else {}
        return build(architecture, num_classes=_CLASSES, **larger, **without)
    channels = {"in_chans": _CHANNELS}
    images: list[dict[str, Any]] = [{"img_size": (height, width)}, {"img_size": height}, {}]
    for options in [*({**channels, **image} for image in images), *images]:
        if made := built(architecture, num_classes=_CLASSES, **options):
            return made
    return build(architecture)


def built(architecture: str, **options: Any) -> nn.Module | None:
    """As `build`; None if the network does not take one of the options."""
    try:
        return build(architecture, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError):
        return None


def _size(architecture: str, module: nn.Module) -> tuple[int, int]:
    if architecture.startswith(_TIMM):
        config: Any = module.pretrained_cfg
        return tuple(config["input_size"][1:])
    from torchvision import models

    preset: Any = models.get_model_weights(architecture.removeprefix(_TORCHVISION)).DEFAULT.transforms()
    side = 224 if "/vit_" in architecture else preset.crop_size[0]
    return (side, side)


def _function(architecture: str) -> Any:
    from timm.models import model_entrypoint
    from torchvision import models

    zoo, _, name = architecture.partition("/")
    return model_entrypoint(name) if zoo == "timm" else models.get_model_builder(name)


@functools.cache
def _published() -> frozenset[str]:
    from timm.models import list_pretrained

    return frozenset(f"{_TIMM}{name.partition('.')[0]}" for name in list_pretrained())


def _slots(module: nn.Module, other: nn.Module, bare: nn.Module) -> tuple[Slot, ...]:
    first, second, kept = module.state_dict(), other.state_dict(), bare.state_dict()
    slots = []
    for name, tensor in first.items():
        shape, integer = tuple(tensor.shape), not tensor.is_floating_point()
        larger = tuple(second[name].shape) if name in second else shape
        role, pattern = _role(shape, larger)
        if name not in second or (name not in kept and role != HEAD):
            role, pattern, larger = HEAD, shape, shape
        slots.append(Slot(name, shape, larger, integer, role, pattern))
    for name, tensor in second.items():
        if name not in first:
            pattern = tuple(ANY if n == _CLASSES else n for n in tensor.shape)
            slots.append(Slot(name, pattern, pattern, not tensor.is_floating_point(), HEAD, pattern))
    return _with_stem(slots)


def _role(shape: Shape, larger: Shape) -> tuple[int, Shape]:
    if shape == larger:
        return BODY, shape
    if len(shape) != len(larger):
        return POSITION, tuple(ANY for _ in shape)
    pattern = tuple(n if n == m else ANY for n, m in zip(shape, larger, strict=True))
    changed = [(n, m) for n, m in zip(shape, larger, strict=True) if n != m]
    if all(m == _CLASSES for _, m in changed):
        return HEAD, pattern
    if all(n * _CHANNELS == m * _RGB for n, m in changed):
        return STEM, pattern
    return POSITION, pattern


def _with_stem(slots: list[Slot]) -> tuple[Slot, ...]:
    """Where the builder took no channels: the first convolution over three channels is the stem."""
    if not any(slot.role == STEM for slot in slots):
        for place, slot in enumerate(slots):
            if slot.role == BODY and len(slot.shape) == _CONVOLUTION and slot.shape[1] == _RGB:
                pattern = (slot.shape[0], ANY, *slot.shape[2:])
                slots[place] = Slot(slot.name, slot.shape, slot.shape, slot.integer, STEM, pattern)
                break
    return tuple(slots)


def _width(architecture: str, module: nn.Module, slots: tuple[Slot, ...]) -> int:
    """The inputs of the head's first layer; auxiliary heads, which only torchvision's networks have, come before."""
    for slot in slots:
        matrix = slot.role == HEAD and len(slot.pattern) > 1 and slot.pattern[1] > 0
        if matrix and (architecture.startswith(_TIMM) or slot.pattern[0] == ANY):
            return slot.pattern[1]
    return int(getattr(module, "head_hidden_size", 0) or getattr(module, "num_features", 0))


def _empty_modules(module: nn.Module) -> tuple[str, ...]:
    holding = set()
    for name in module.state_dict():
        words = name.split(".")
        holding |= {".".join(words[:count]) for count in range(1, len(words))}
    return tuple(name for name, _ in module.named_modules() if name and name not in holding)
