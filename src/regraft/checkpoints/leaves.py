"""What counts as a tensor inside a file's content."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from regraft.checkpoints.containers.values import Array, LazyTensor

if TYPE_CHECKING:
    from torch import Tensor


def is_leaf(value: object) -> TypeGuard[LazyTensor | Array | Tensor]:
    """A tensor, read or not, or a numpy array of numbers."""
    import torch

    if isinstance(value, Array):
        return value.value is not None and value.value.dtype.kind in "biufc"
    return isinstance(value, LazyTensor | torch.Tensor)


def is_floating(leaf: LazyTensor | Array | Tensor) -> bool:
    """Whether it may hold weights."""
    if isinstance(leaf, Array):
        return leaf.value is not None and leaf.value.dtype.kind in "fc"
    floating = leaf.is_floating_point
    return floating if isinstance(floating, bool) else floating()


def shape(leaf: LazyTensor | Array | Tensor) -> tuple[int, ...]:
    """Its shape; () for what is no dense tensor."""
    if isinstance(leaf, Array):
        return () if leaf.value is None else tuple(leaf.value.shape)
    return tuple(leaf.shape)
