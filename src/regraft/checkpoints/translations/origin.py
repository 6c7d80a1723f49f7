"""Where the tensors of a network come from, when a file names them in another way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from regraft.checkpoints.checkpoint import Shape


@dataclass(frozen=True)
class Origin:
    """What one tensor of a network is made of.

    Attributes:
        names: names in the file, in the order in which `make` takes their tensors.
        how: for people, what is done beside copying; empty if nothing is.
        make: the tensors, in one list -> the tensor. None: the single one as it is, up to its shape (sides of
            length one, and a linear layer for a convolution over the same numbers).
        shape: of what `make` gives, where that is not the shape of the single tensor it is made of.
        eps: of a BatchNorm's variance, the eps that the writer's BatchNorm added to it; else None.
    """

    names: tuple[str, ...]
    how: str = ""
    make: Callable[[list[Tensor]], Tensor] | None = None
    shape: Shape | None = None
    eps: float | None = None


@dataclass(frozen=True)
class Translation:
    """From one naming of a family of networks to another.

    Attributes:
        name: for people: "torchvision EfficientNet -> timm".
        source: the naming in the file: "torchvision", "timm", "lukemelas", "official", "Hugging Face".
        target: the naming in the network.
        apply: (name -> shape in the file, name -> shape in the network) -> name in the network -> its origin.
            What it does not know is left out, so that a match reports it; empty if one of the two is plainly of
            another family or naming. Shapes are not compared, so that a match can report where they differ.
    """

    name: str
    source: str
    target: str
    apply: Callable[[Mapping[str, Shape], Mapping[str, Shape]], dict[str, Origin]]


def with_eps(origin: Origin, eps: float, here: str = "here") -> Origin:
    """The variance for a BatchNorm whose eps is another than the writer's, so that it gives the same numbers.

    A BatchNorm divides by sqrt(variance + eps): what is taken from one is added to the other. The result can be
    below zero by less than eps, which the network never sees. True in evaluation; in training mode a BatchNorm
    takes its variance from the batch, and then the two eps differ as before.

    Args:
        origin: of a `running_var`; what was done to it for another eps is done anew.
        eps: the network's own.
        here: what to call the network in `how`.
    """
    if origin.eps is None or origin.eps == eps:
        return replace(origin, how="", make=None)
    moved = origin.eps - eps
    how = f"variance {'+' if moved > 0 else '-'} {abs(moved):g} (eps {origin.eps:g} in the file, {eps:g} {here})"
    return replace(origin, how=how, make=lambda tensors: _wide(tensors[0]) + moved)


def _wide(tensor: Tensor) -> Tensor:
    """At least single precision: the difference of two eps is below half precision's resolution."""
    import torch

    return tensor if tensor.dtype == torch.float64 else tensor.float()
