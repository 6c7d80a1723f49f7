"""What a network calls in which order, on shapes alone: nothing is computed, and no memory is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.errors import OptionError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module that has no modules in it.

    Attributes:
        name: of the module, as `get_submodule` takes it.
        taken: shape of its first input, with the batch axis; empty if that is no tensor.
        given: shape of its output; empty if that is no tensor.
    """

    name: str
    taken: tuple[int, ...]
    given: tuple[int, ...]


def leaf_calls(module: nn.Module, size: tuple[int, int]) -> list[Call]:
    """Send one image of `size` (height, width) through the network on torch's `meta` device, and note the calls.

    The network itself is not changed.

    Raises:
        OptionError: it does not take images of this size, or cannot be run on shapes alone.
    """
    import torch

    calls: list[Call] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            calls.append(Call(name, _shape(inputs[0] if inputs else None), _shape(output)))

        return hook

    leaves = [(name, part) for name, part in module.named_modules() if not next(part.children(), None)]
    hooks = [part.register_forward_hook(note(name)) for name, part in leaves]
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    try:
        with torch.inference_mode():
            torch.func.functional_call(module, shapes, (torch.zeros((1, 3, *size), device="meta"),))
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise OptionError(
            f"{type(module).__name__} cannot be looked at with images of {size} pixels: {reason}"
        ) from error
    finally:
        for handle in hooks:
            handle.remove()
    return calls


def _shape(value: object) -> tuple[int, ...]:
    import torch

    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
