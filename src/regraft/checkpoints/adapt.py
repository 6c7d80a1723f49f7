"""Tensors that do not fit as they are, and the changes on which the field agrees.

first convolution    another number of input channels: summed to one, or repeated in turn and scaled so that
an image with equal channels gives the same output (as timm does for 1 and 3 channels)
position embedding   another input size: bicubic, antialiased, by timm
relative positions   another window: bicubic, by timm
written otherwise    dimensions of size 1, or a linear layer that is a convolution in the other zoo: only
where a known translation between zoos says that the two are the same layer
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from regraft.checkpoints.match_report import product

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.checkpoints.checkpoint import Shape

_POSITIONS = ("pos_embed", "pos_embedding", "position_embedding", "position_embeddings", "absolute_pos_embed")
_RELATIVE = "relative_position_bias_table"
_PREFIX_TOKENS = range(9)  # class, distillation and register tokens stand before the grid's


def adaptation(name: str, found: Shape, expected: Shape, *, stem: bool, translated: bool) -> str:
    """What would be done to fit a tensor into its place, in words; empty if it does not fit.

    Args:
        name: the tensor's name in the network.
        found: its shape in the file.
        expected: its shape in the network.
        stem: whether it is the weight of the network's first convolution.
        translated: whether a known translation says that this is the tensor's place.
    """
    if stem and _same_but_channels(found, expected):
        what = "summed" if expected[1] == 1 else "repeated and scaled"
        return f"{found[1]} input channels {what} to {expected[1]}"
    if _is_position(name) and (grids := _grids(found, expected)):
        old, new, _ = grids
        return f"positions interpolated from {old[0]}x{old[1]} to {new[0]}x{new[1]}"
    if name.endswith(_RELATIVE) and (windows := _windows(found, expected)):
        return f"relative positions interpolated from window {windows[0]} to {windows[1]}"
    if translated and product(found) == product(expected):
        return f"shape {found} written as {expected}"
    return ""


def adapt(tensor: Tensor, name: str, expected: Shape, *, stem: bool) -> Tensor:
    """Do what `adaptation` said."""
    found = tuple(tensor.shape)
    if stem and _same_but_channels(found, expected):
        return _channels(tensor, expected[1])
    if _is_position(name) and (grids := _grids(found, expected)):
        return _positions(tensor, *grids)
    if name.endswith(_RELATIVE) and (windows := _windows(found, expected)):
        from timm import layers

        resample: Any = layers
        window = windows[1]
        resized: Tensor = resample.resize_rel_pos_bias_table(tensor.float(), (window, window), expected)
        return resized
    return tensor.reshape(expected)


def _same_but_channels(found: Shape, expected: Shape) -> bool:
    return len(found) == len(expected) >= 3 and found[0] == expected[0] and found[2:] == expected[2:]  # noqa: PLR2004


def _channels(weight: Tensor, channels: int) -> Tensor:
    """(O, C, kh, kw) -> (O, channels, kh, kw)."""
    before = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    index = [n % before for n in range(channels)]
    return weight[:, index] * (before / channels)


def _is_position(name: str) -> bool:
    return name.rpartition(".")[2] in _POSITIONS or name.rpartition(".")[0].rpartition(".")[2] in _POSITIONS


Grid = tuple[int, int]


def _grids(found: Shape, expected: Shape) -> tuple[Grid, Grid, int] | None:
    """Grids (height, width) of both position embeddings and the number of tokens before them; None if unlike.

    (1, L, D) with a square grid, or (1, H, W, D).
    """
    if len(found) != len(expected) or found[:1] != (1,) or expected[:1] != (1,) or found[-1] != expected[-1]:
        return None
    if len(found) == 4:  # noqa: PLR2004
        return (found[1], found[2]), (expected[1], expected[2]), 0
    if len(found) != 3:  # noqa: PLR2004
        return None
    for extra in _PREFIX_TOKENS:
        old, new = _root(found[1] - extra), _root(expected[1] - extra)
        if old and new:
            return (old, old), (new, new), extra
    return None


def _root(number: int) -> int:
    """The square root of a square number, else 0."""
    root = math.isqrt(max(number, 0))
    return root if root * root == number else 0


def _positions(tensor: Tensor, old: Grid, new: Grid, extra: int) -> Tensor:
    from timm import layers

    resample: Any = layers
    if tensor.ndim == 4:  # noqa: PLR2004
        grid: Tensor = resample.resample_abs_pos_embed_nhwc(tensor.float(), list(new))
        return grid
    row: Tensor = resample.resample_abs_pos_embed(tensor.float(), list(new), list(old), num_prefix_tokens=extra)
    return row


def _windows(found: Shape, expected: Shape) -> tuple[int, int] | None:
    """Sides of the square windows of two tables ((2w-1)^2, heads); None if they are none."""
    if len(found) != 2 or len(expected) != 2 or found[1] != expected[1]:  # noqa: PLR2004
        return None
    old, new = _root(found[0]), _root(expected[0])
    return ((old + 1) // 2, (new + 1) // 2) if old % 2 and new % 2 else None
