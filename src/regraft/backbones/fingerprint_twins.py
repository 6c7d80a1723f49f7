"""Which networks with equal tensors are also the same function.

A state dict cannot tell `efficientnet_b0` from `tf_efficientnet_b0`: they differ in padding only. DeiT and ViT in
turn are two names of one network. Two networks are taken for the same function if all their modules have the same
classes and settings; otherwise, up to a size, if they give the same output with the same random weights.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from regraft.backbones.fingerprint_collect import build, built, weightless
from regraft.backbones.fingerprints import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from regraft.backbones.fingerprint_collect import Record

_LARGEST = 150_000_000  # parameters; larger networks are compared by their settings only
_CLOSE = 1e-7  # of the outputs' spread, in float64; an eps of 1e-5 instead of 1e-6 shows at about 1e-5
_CLASSES = 7
# Settings that change nothing in eval mode for an image of the network's size.
_IRRELEVANT = {
    "training", "num_classes", "drop_rate", "p", "drop_prob", "inplace", "pretrained_cfg", "default_cfg",
    "img_size", "grad_checkpointing", "scale_by_keep", "attn_drop", "out_features", "transform_input",
}  # fmt: skip


def functions(twins: Sequence[Record]) -> list[int]:
    """A number for each of the networks with equal tensors; the same function has the same number."""
    size = min(twin.size for twin in twins)
    sized = len({twin.size for twin in twins}) > 1
    makers = [functools.partial(_build, twin.architecture, size if sized else None) for twin in twins]
    settings = [_settings(_on_meta(make)) for make in makers]
    classes: list[int] = []
    outputs: dict[int, Tensor | None] = {}
    for place, twin in enumerate(twins):
        if settings[place] in settings[:place]:
            classes.append(classes[settings.index(settings[place])])
            continue
        number = len(outputs)
        if twin.parameters <= _LARGEST:
            outputs[number] = _output(makers[place], size)
            same = [n for n in range(number) if _close(outputs[n], outputs[number])]
        else:
            outputs[number], same = None, []
        classes.append(same[0] if same else number)
    return classes


def _build(architecture: str, size: tuple[int, int] | None) -> nn.Module:
    """For a small number of classes, and for the common image size if it takes one."""
    options: dict[str, Any] = {"num_classes": _CLASSES}
    if architecture.removeprefix("torchvision/") in {"googlenet", "inception_v3"}:
        options["aux_logits"] = False
    if size:
        for image in ({"img_size": size}, {"img_size": size[0]}):
            if made := built(architecture, **options, **image):
                return made
    return build(architecture, **options)


def _on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with weightless():
        return make()


def _settings(module: nn.Module) -> str:
    """All modules with their names, classes and plain attributes, as one text."""
    lines = []
    for name, part in module.named_modules():
        known = {
            key: _plain(value)
            for key, value in sorted(vars(part).items())
            if key not in _IRRELEVANT and not key.startswith("_")
        }
        lines.append(f"{name} {type(part).__module__}.{type(part).__qualname__} {known}")
    return "\n".join(lines)


def _plain(value: object) -> object:
    if isinstance(value, (int, float, str, type(None))):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, functools.partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return getattr(value, "__qualname__", type(value).__qualname__)


def _output(make: Callable[[], nn.Module], size: tuple[int, int]) -> Tensor | None:
    """What the network gives for one image; None if it cannot be run."""
    import torch

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.inference_mode():
        warnings.simplefilter("ignore")
        module = make().double().eval()
        _fill(module)
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        try:
            output = module(image)
        except (RuntimeError, AssertionError, ValueError, TypeError):
            return None
    return output if isinstance(output, torch.Tensor) else None


def _fill(module: nn.Module) -> None:
    """Weights by their names' order that let every part of the network show in the output."""
    import torch

    generator = torch.Generator().manual_seed(0)
    state = module.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if tensor.ndim > 1 and name.endswith("weight"):
            tensor.copy_(noise * (2 / max(1, tensor[0].numel())) ** 0.5)
        elif name.endswith(("running_var", "weight")):
            tensor.copy_(1 + 0.2 * noise.clamp(-2, 2))
        else:
            tensor.copy_(0.2 * noise)


def _close(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None or left.shape != right.shape:
        return False
    spread = float((left - left.mean()).abs().max())
    return spread > 0 and float((left - right).abs().max()) <= _CLOSE * spread


def twin_groups(records: Sequence[Record]) -> list[list[Record]]:
    """Networks whose floating-point tensors agree, heads aside and positions by their width only."""
    groups: dict[frozenset[tuple[object, ...]], list[Record]] = {}
    for record in records:
        body = frozenset((s.name, s.pattern) for s in record.slots if s.role != HEAD and not s.integer)
        groups.setdefault(body, []).append(record)
    return list(groups.values())
