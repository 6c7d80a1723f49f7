"""Checks on tensors that every loader lets pass: names, sizes far above what is stored, numbers that are none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from regraft.checkpoints.shown import shown
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_LONGEST_NAME = 1_000
_SMALL = 64_000_000
_INFLATION = 8  # tied weights count twice
_CHUNK = 1 << 22


def check_names(path: Path, names: list[str]) -> None:
    """Names are printed and become keys everywhere: they must be short and printable.

    Raises:
        CheckpointError: one is not.
    """
    for name in names:
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise CheckpointError(
                f"{path} has a tensor named {name[:80]!a} ({len(name)} characters). Expected printable names of at"
                f" most {_LONGEST_NAME}: the file is broken or hostile."
            )


def check_sizes(path: Path, state_dict: dict[str, Tensor]) -> None:
    """A tensor can claim any size with strides of 0; it fills the memory when it is copied.

    Raises:
        CheckpointError: a large tensor is larger than its stored numbers, or all together are far larger.
    """
    storages: dict[int, int] = {}
    total = 0
    for name, tensor in state_dict.items():
        size = tensor.numel() * tensor.element_size()
        stored = tensor.untyped_storage().nbytes()
        storages[tensor.untyped_storage().data_ptr()] = stored
        total += size
        if size > stored and size > _SMALL:
            raise CheckpointError(
                f"{path}: {shown(name)} claims {size} bytes (shape {_short(tensor)}) with {stored} stored. Such a"
                " tensor fills the memory when it is used; it is not read. Save the tensor in full, or leave it out."
            )
    if total > _SMALL + _INFLATION * sum(storages.values()):
        raise CheckpointError(
            f"{path}: its {len(state_dict)} tensors claim {total} bytes with {sum(storages.values())} stored. They"
            " would fill the memory when used; they are not read. Save the tensors in full."
        )


def _short(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape)[:80]


def non_finite(state_dict: dict[str, Tensor]) -> list[str]:
    """Names of tensors that hold NaN or infinity."""
    return [name for name, tensor in state_dict.items() if not _finite(tensor)]


def _finite(tensor: Tensor) -> bool:
    """In pieces, without a second copy of the weights: a sum is finite only if every term is."""
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return True
    if tensor.element_size() == 1:  # 8-bit floats have no arithmetic of their own
        tensor = tensor.to(torch.float32)
    flat = tensor.reshape(-1) if tensor.is_contiguous() else _compact(tensor)
    for piece in torch.split(flat, _CHUNK):
        total = piece.sum().item()
        whole = math.isfinite(abs(total))
        # The sum of large finite numbers can overflow, that of half precision soon does.
        if not whole and not bool(torch.isfinite(piece).all()):
            return False
    return True


def _compact(tensor: Tensor) -> Tensor:
    """The numbers of a view, each once where it repeats them (strides of 0)."""
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor.reshape(-1)
