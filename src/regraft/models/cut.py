"""Run a frozen beginning of a network once, and train what follows on its stored output.

The network's own code keeps the order of its parts, so it is left to run: while a cut is bypassed, the last frozen
stage returns the stored activations and the stages before it return zeros that nobody looks at, one number in memory
whatever their shape. Where somebody does look at them (a connection around the cut), `why_not_cut` finds out.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regraft.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_STAND_IN = "_regraft_stand_in"


def activations(module: nn.Module, name: str, images: Tensor) -> Tensor:
    """What a stage gives for some images, in eval mode and without gradients; what comes after it does not run.

    Args:
        module: the network; left in the mode it had.
        name: of the submodule.
        images: (B, 3, H, W) as the network takes them.

    Returns:
        (B, ...): the output of the stage's first call.

    Raises:
        BackboneError: the stage is not called, or gives something else than one tensor.
        AttributeError: no such submodule.
    """

    def stop(_part: nn.Module, _inputs: object, output: object) -> None:
        raise _Reached(output)

    handle = module.get_submodule(name).register_forward_hook(stop)
    output: object = None
    try:
        with torch.no_grad(), _eval_mode(module):
            module(images)
    except _Reached as reached:
        output = reached.output
    finally:
        handle.remove()
    if not isinstance(output, Tensor):
        raise BackboneError(f"the stage {name} gives no tensor that could be stored: cut the network elsewhere.")
    return output


class _Reached(Exception):
    """The stage was reached; carries what it gave."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output


@dataclass
class _Given:
    """What the stand-ins of one network share while it runs."""

    activations: Tensor | None = None


@dataclass(frozen=True)
class _StandIn:
    given: _Given
    shape: tuple[int, ...] | None  # None: returns the activations


@contextlib.contextmanager
def bypassed(
    module: nn.Module,
    frozen: Sequence[str],
    cut: str,
    shapes: Mapping[str, tuple[int, ...]],
    size: tuple[int, int] = (224, 224),
) -> Iterator[None]:
    """While active, `module` takes activations (B, ...) at the cut instead of images, and runs what comes after.

    Parts are changed by attributes of the instances, gone afterwards; a deep copy made meanwhile works by itself.

    Args:
        module: the network.
        frozen: names of the stages up to and with the cut, in forward order.
        cut: the last of them.
        shapes: output of each stage for one image, as `Stage.shape`; stages that are never called may be absent
            or have an empty shape.
        size: height and width of the images that the activations are of; some networks check it.
    """
    given = _Given()
    parts = [(module.get_submodule(name), None if name == cut else shapes.get(name, ())) for name in frozen]
    with contextlib.ExitStack() as stack:
        for part, shape in parts:
            if shape != ():
                stack.enter_context(_patched(part, _stand_in, _StandIn(given, shape)))
        stack.enter_context(_patched(module, _after_the_cut, (given, size, module.forward)))
        yield


def _stand_in(part: nn.Module, *_inputs: object, **_options: object) -> Tensor:
    """The `forward` of a frozen stage."""
    own: _StandIn = part.__dict__[_STAND_IN]
    activations = own.given.activations
    if activations is None:
        raise RuntimeError("a bypassed part was called outside of its network")
    return activations if own.shape is None else _zeros(activations, own.shape)


def _after_the_cut(module: nn.Module, activations: Tensor) -> Any:
    """The `forward` of the network: its own, with the stand-ins told of the activations."""
    given, size, forward = module.__dict__[_STAND_IN]
    given.activations = activations
    try:
        return forward(_zeros(activations, (3, *size)))
    finally:
        given.activations = None


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """As many as `like` has images, of one number in memory."""
    return like.new_zeros(()).expand(len(like), *shape)


@contextlib.contextmanager
def _patched(part: nn.Module, forward: Any, own: object) -> Iterator[None]:
    """Another `forward`, bound so that a deep copy's is bound to the copy, and what it needs to know."""
    before = part.__dict__.get("forward")
    part.__dict__.update({"forward": MethodType(forward, part), _STAND_IN: own})
    try:
        yield
    finally:
        del part.__dict__["forward"], part.__dict__[_STAND_IN]
        if before is not None:
            part.__dict__["forward"] = before


def why_not_cut(
    module: nn.Module, frozen: Sequence[str], cut: str, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]
) -> str | None:
    """Find out whether training after the cut is the same as training with everything before it.

    Two random images are run through the network, in eval mode, with and without the bypass: features must be equal to
    the last bit, and gradients must reach the same parameters.

    Args:
        module: the network, with what is frozen already frozen.
        frozen: as `bypassed`.
        cut: as `bypassed`.
        shapes: as `bypassed`.
        size: height and width of the images.

    Returns:
        None where the cut can be used, else why not, as part of a sentence.
    """
    parameter = next(module.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, 3, *size), generator=generator).to(parameter)
    with _eval_mode(module), torch.enable_grad():
        try:
            stored = activations(module, cut, images)
            expected = module(images)
            with bypassed(module, frozen, cut, shapes, size):
                found = module(stored)
        except Exception as error:  # noqa: BLE001 (any network's code, on input it was not made for)
            return f"it does not run from {cut} alone ({(str(error).splitlines() or [type(error).__name__])[0][:150]})"
        if not torch.equal(found, expected):
            return f"something before {cut} is used again after it"
        lost = _reached(module, expected) - _reached(module, found)
    return f"gradients would not reach {min(lost)}" if lost else None


def _reached(module: nn.Module, features: Tensor) -> set[str]:
    """Names of the parameters that a change of these features asks to change."""
    learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not learning or not features.requires_grad:
        return set()
    gradients = torch.autograd.grad(features.square().sum(), list(learning.values()), allow_unused=True)
    found: list[Tensor | None] = list(gradients)  # None where the features do not depend on the parameter
    return {name for name, gradient in zip(learning, found, strict=True) if gradient is not None}


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, each part in its own mode after."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
