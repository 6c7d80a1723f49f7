"""The parts of a network in forward order, seen by running one image through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.backbones.backbone import Stage

if TYPE_CHECKING:
    from torch import Tensor, nn

_CONTAINERS = {"blocks", "features", "layers", "stages", "encoder", "trunk_output"}
_MAIN_SHARE = 0.8
_DEPTH = 2


def stages(module: nn.Module, size: tuple[int, int]) -> tuple[tuple[Stage, ...], tuple[int, ...]]:
    """Run one black image of `size` (height, width) through the network and note what each part gives.

    The parts are the children of the network; a child that is a mere container of blocks is opened (and a
    container in it once more). Works on a module of any device, `meta` included, where nothing is computed.

    Returns:
        The parts in forward order, and the shape of the network's own output, both without the batch axis.
        A part with parameters that is never called as a module (its parameters are used directly) stands
        where it is defined, with an empty shape; parts without parameters that are not called are left out.
    """
    import torch

    parts = dict(_parts(module, ""))
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            seen.setdefault(name, _shape(output))

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            output = module(torch.zeros((1, 3, *size), device=device))
    finally:
        for handle in hooks:
            handle.remove()
    found = tuple(
        Stage(name, type(parts[name]).__name__, seen.get(name, ()), _count(parts[name]))
        for name in _order(list(parts), list(seen))
        if name in seen or _count(parts[name])
    )
    return found, _shape(output)


def _parts(module: nn.Module, prefix: str, depth: int = 0) -> list[tuple[str, nn.Module]]:
    total = _count(module)
    parts: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if depth < _DEPTH and _is_container(name, child, total):
            parts += _parts(child, f"{full}.", depth + 1)
        else:
            parts.append((full, child))
    return parts


def _is_container(name: str, child: nn.Module, total: int) -> bool:
    """By name, or because nearly all of the network is in it; a single layer is none."""
    from torch import nn

    grandchildren = len(list(child.children()))
    main = _count(child) >= _MAIN_SHARE * total > 0 and isinstance(child, (nn.Sequential, nn.ModuleList))
    return grandchildren > 0 and (name in _CONTAINERS or isinstance(child, nn.ModuleList) or main)


def _order(defined: list[str], called: list[str]) -> list[str]:
    """The called ones in the order of their calls; each other one after its neighbour in the definition."""
    order = list(called)
    for index, name in enumerate(defined):
        if name not in called:
            before = next((order.index(d) + 1 for d in reversed(defined[:index]) if d in order), 0)
            order.insert(before, name)
    return order


def _shape(output: object) -> tuple[int, ...]:
    """Of the first tensor in whatever a module returns, without the batch axis; empty if there is none."""
    import torch

    if isinstance(output, torch.Tensor):
        tensor: Tensor = output
        return tuple(tensor.shape[1:])
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((shape for item in items if (shape := _shape(item))), ())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
