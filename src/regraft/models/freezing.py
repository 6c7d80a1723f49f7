"""Parts that do not learn: no gradient, no dropout, no new statistics, whatever `train()` is called later.

`module.train()` alone would put a frozen BatchNorm back to updating its running statistics. So each held module gets
a `train` of its own, an instance attribute bound to it: a deep copy has its own too, and state dicts do not change.
"""

from __future__ import annotations

import difflib
import math
from types import MethodType
from typing import TYPE_CHECKING, TypeVar

from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from regraft.backbones.backbone import Stage

_HELD, _OFF = "_regraft_held", "_regraft_off"
_FROZEN, _STATISTICS = "frozen", "statistics"
_LAST_SHARE = 0.25
_CLOSE = 3

_Module = TypeVar("_Module", bound="nn.Module")


def freeze(module: nn.Module, names: Iterable[str]) -> None:
    """Let parts of a network learn no more: gradients off, eval mode now and after `module.train()`.

    Parameters that a module above a part uses directly (position embeddings, class tokens) belong to no part; they
    act at the beginning of a network and are frozen with any part below that module.

    Args:
        module: changed in place.
        names: of submodules, as `get_submodule` takes them; "" is everything.

    Raises:
        AttributeError: no such submodule.
    """
    wanted = list(names)
    for name in wanted:
        for part in module.get_submodule(name).modules():
            _switch_off(part)
            _hold(part, _FROZEN)
    for above in _above(module, wanted):
        _switch_off(above)


def thaw(module: nn.Module, names: Iterable[str]) -> None:
    """Undo `freeze` for parts of a network; the next `module.train()` puts them in training mode.

    What `freeze` did not switch off stays as it is, and statistics held by `freeze_statistics` stay held. Parameters
    used directly above the parts learn again once nothing below them is frozen.

    Raises:
        AttributeError: no such submodule.
    """
    wanted = list(names)
    for name in wanted:
        for part in module.get_submodule(name).modules():
            _switch_on(part)
            _release(part, _FROZEN)
    for above in _above(module, wanted):
        if not any(_FROZEN in _reasons(part) for part in above.modules()):
            _switch_on(above)


def freeze_statistics(module: nn.Module, besides: Iterable[str] = ()) -> None:
    """Keep the running statistics of all normalisations, now and after `module.train()`; their scales still learn.

    Args:
        module: changed in place.
        besides: submodules whose normalisations keep learning statistics, such as convolutions added with none.
    """
    spared = {id(part) for name in besides for part in module.get_submodule(name).modules()}
    for part in module.modules():
        if id(part) not in spared and _has_statistics(part):
            _hold(part, _STATISTICS)


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Name to tensor of all parameters and buffers that training must leave as they are, bit for bit."""
    found: dict[str, Tensor] = {
        name: parameter for name, parameter in module.named_parameters() if not parameter.requires_grad
    }
    for path, part in module.named_modules():
        if _reasons(part):
            prefix = f"{path}." if path else ""
            found |= {f"{prefix}{name}": buffer for name, buffer in part.named_buffers(recurse=False)}
    return found


def _has_statistics(part: nn.Module) -> bool:
    """BatchNorm of any dimension and its relatives in timm, by what they keep."""
    return any(name.startswith("running_") for name, _ in part.named_buffers(recurse=False))


def _above(module: nn.Module, names: Iterable[str]) -> Iterator[nn.Module]:
    """The modules that hold the named ones, each once; not the named ones themselves."""
    pieces = [name.split(".") for name in names if name]
    for path in {".".join(piece[:end]) for piece in pieces for end in range(len(piece))}:
        yield module.get_submodule(path)


def _switch_off(part: nn.Module) -> None:
    """Switch off the module's own parameters, and remember which ones learnt before."""
    own = {name: parameter for name, parameter in part.named_parameters(recurse=False) if parameter.requires_grad}
    if own:
        part.__dict__[_OFF] = (*part.__dict__.get(_OFF, ()), *own)
    for parameter in own.values():
        parameter.requires_grad_(False)


def _switch_on(part: nn.Module) -> None:
    for name in part.__dict__.pop(_OFF, ()):
        part.get_parameter(name).requires_grad_(True)


def _reasons(part: nn.Module) -> frozenset[str]:
    reasons: frozenset[str] = part.__dict__.get(_HELD, frozenset())
    return reasons


def _hold(part: nn.Module, reason: str) -> None:
    part.__dict__[_HELD] = _reasons(part) | {reason}
    part.__dict__["train"] = MethodType(_train, part)
    part.training = False


def _release(part: nn.Module, reason: str) -> None:
    left = _reasons(part) - {reason}
    if left:
        part.__dict__[_HELD] = left
    elif _HELD in part.__dict__:
        del part.__dict__[_HELD], part.__dict__["train"]


def _train(part: _Module, mode: bool = True) -> _Module:
    """The `train` of a held module: itself stays in eval mode, parts in it that are not held follow `mode`."""
    part.training = False
    for child in part.children():
        child.train(mode)
    return part


def freezable(stages: Sequence[Stage], unfreeze_from: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the stages before the first one that is called `unfreeze_from` or lies in it.

    Args:
        stages: of a `BackboneCard`, in forward order.
        unfreeze_from: a stage's name ("blocks.5", "layer4") or what some begin with ("blocks").

    Returns:
        The names of the stages to freeze, and of those that learn.

    Raises:
        OptionError: no stage is called so.
    """
    names = [stage.name for stage in stages]
    start = next((i for i, name in enumerate(names) if f"{name}.".startswith(f"{unfreeze_from}.")), None)
    if start is None:
        close = difflib.get_close_matches(unfreeze_from, names, n=_CLOSE)
        listed = [*close, *(name for name in names if name not in close)]
        raise OptionError(f"there is no stage {unfreeze_from!r} to unfreeze from; there are {', '.join(listed)}.")
    return tuple(names[:start]), tuple(names[start:])


def last_stage(stages: Sequence[Stage]) -> str:
    """The stage from which the smallest end of the network with a quarter of all parameters begins.

    A last block is often followed by a small convolution or norm of its own; training only that would be too little.
    Nor is it enough to train what comes after the pooling (MobileNetV3's last layer), which is only a larger head.
    """
    total = sum(stage.parameters for stage in stages)
    tail, before_pooling = 0, False
    for stage in reversed(stages):
        tail += stage.parameters
        before_pooling |= stage.parameters > 0 and math.prod(stage.shape[1:]) > 1
        if before_pooling and tail >= _LAST_SHARE * total:
            return stage.name
    return stages[0].name


def thaw_order(stages: Sequence[Stage], groups: int = 4) -> tuple[str, ...]:
    """From where to unfreeze, phase after phase, for gradual unfreezing.

    Args:
        stages: in forward order.
        groups: number of phases; fewer if there are fewer parts.

    Returns:
        Names of stages, from the last part of the network to its first stage, which is everything. Between them lie
        about equally many parts.
    """
    parts = _parts(stages)
    count = max(1, min(groups, len(parts)))
    starts = [round(len(parts) * (count - phase) / count) for phase in range(1, count + 1)]
    return (*(parts[start][0] for start in starts[:-1]), stages[0].name)


def depth_of(parameter: str, stages: Sequence[Stage]) -> int:
    """How many parts lie between a parameter and the end of the network, for learning rates that fall with depth.

    A part is a stage with parameters; normalisations and stages without any count with the part before. Parameters
    that belong to no stage (position embeddings, class tokens) count with the first part.

    Args:
        parameter: its name inside the backbone.
        stages: in forward order.

    Returns:
        0 for the last part, number of parts - 1 for the first.
    """
    parts = _parts(stages)
    for depth, names in enumerate(reversed(parts)):
        if any(parameter.startswith(f"{name}.") for name in names):
            return depth
    return max(0, len(parts) - 1)


def _parts(stages: Sequence[Stage]) -> list[list[str]]:
    """Names of the stages that have parameters, each with the norms and the stages without any that follow it.

    The latter matter where something was put into one later, such as convolutions into the pooling.
    """
    parts: list[list[str]] = []
    for stage in stages:
        if parts and (not stage.parameters or _is_norm(stage)):
            parts[-1].append(stage.name)
        elif stage.parameters:
            parts.append([stage.name])
    return parts


def _is_norm(stage: Stage) -> bool:
    kind = stage.kind.lower()
    return "norm" in kind and "conv" not in kind
