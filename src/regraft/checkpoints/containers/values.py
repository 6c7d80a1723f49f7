"""What stands in a file before it is tensors: names of classes, objects that are not made, tensors not yet read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from torch import Tensor


class NeedsTrust(CheckpointError):
    """A file that asks for classes which are not admitted; only `trust` can read it."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names, `module.name`; it is never looked up."""

    full: str


@dataclass(eq=False)
class Record:
    """An object that a pickle describes and that is not made: its class is only a name here.

    Attributes:
        kind: full name of its class.
        state: what the pickle would have set on it, most often attribute -> value.
    """

    kind: str
    state: object = None
    items: list[object] = field(default_factory=list)


@dataclass(eq=False)
class Array:
    """A numpy array of a pickle, filled once its bytes have been seen."""

    value: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """Numbers of one or several tensors, somewhere in a file.

    Attributes:
        dtype: of its elements.
        start, size: the part of the stored elements that is meant, both in elements.
        read: reads the bytes; called only for tensors that are wanted.
    """

    dtype: torch.dtype
    start: int
    size: int
    read: Callable[[], torch.UntypedStorage]


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A tensor of a file, not read yet.

    Attributes:
        storage: its numbers; None for what is no dense tensor.
        offset, stride: in elements, as torch has them.
        kind: "dense", or what else it is ("sparse", "quantized", "meta"), which `tensor` refuses.
    """

    storage: Stored | None
    dtype: torch.dtype | None = None
    offset: int = 0
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    kind: str = "dense"

    @property
    def is_floating_point(self) -> bool:
        """True for what is no dense tensor, too: it counts as a weight, and is then refused by its name."""
        return self.dtype is None or self.dtype.is_floating_point


@dataclass(frozen=True)
class Content:
    """What a container held.

    Attributes:
        container: its format, for people.
        value: dicts, lists, plain values, and tensors (`torch.Tensor`, `LazyTensor`, `Array`) in any nesting.
        metadata: text pairs of a safetensors header.
        hints: names of architectures or classes that the container itself tells.
        modules: names of all modules, where the container tells.
    """

    container: str
    value: object
    metadata: dict[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def tensor(leaf: LazyTensor | Array | Tensor) -> Tensor:
    """Read one tensor, detached.

    Raises:
        ValueError: it is not a dense one, or does not lie within its numbers.
    """
    import torch

    if isinstance(leaf, torch.Tensor):
        return _dense(leaf)
    if isinstance(leaf, Array):
        if leaf.value is None:
            raise ValueError("a numpy array without its numbers")
        return torch.from_numpy(leaf.value)
    if leaf.storage is None or leaf.dtype is None:
        raise ValueError(f"a {leaf.kind} tensor, expected a dense one")
    _check_geometry(leaf, leaf.storage)
    start = leaf.storage.start * leaf.storage.dtype.itemsize // leaf.dtype.itemsize
    empty = torch.empty(0, dtype=leaf.dtype)
    with torch.no_grad():
        return empty.set_(leaf.storage.read(), start + leaf.offset, leaf.shape, leaf.stride)


def _dense(value: Tensor) -> Tensor:
    import torch

    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        raise ValueError(f"a {value.layout} tensor of {value.dtype} on {value.device}, expected a dense one")
    return value.detach()


def _check_geometry(leaf: LazyTensor, storage: Stored) -> None:
    """Torch would make a storage larger where a tensor reaches beyond it; here that is an error."""
    if leaf.dtype is None or len(leaf.shape) != len(leaf.stride) or len(leaf.shape) > 64:  # noqa: PLR2004 (torch's limit)
        raise ValueError(f"a tensor with sizes {leaf.shape} and strides {leaf.stride}")
    if min((*leaf.shape, *leaf.stride, leaf.offset)) < 0:
        raise ValueError(f"a tensor with negative sizes: {leaf.shape}, {leaf.stride}, {leaf.offset}")
    if 0 in leaf.shape:
        return
    last = leaf.offset + sum((size - 1) * step for size, step in zip(leaf.shape, leaf.stride, strict=True))
    if (last + 1) * leaf.dtype.itemsize > storage.size * storage.dtype.itemsize:
        raise ValueError(f"a tensor of shape {leaf.shape} that reaches to element {last} of {storage.size} stored ones")
