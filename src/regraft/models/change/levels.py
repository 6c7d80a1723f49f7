"""Which maps a backbone gives: the last part at each stride, seen from the shapes on its card."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.backbones.backbone import BackboneCard, Stage

Layout = Literal["first", "last", "tokens"]
_LARGEST_STRIDE = 32
_MOST_PREFIX_TOKENS = 9  # class, distillation and register tokens
_UNEVEN = 0.3  # log2: how far from a power of two a stride may be where layers do not pad
_MAP_AXES, _TOKEN_AXES = 3, 2


@dataclass(frozen=True, slots=True)
class Level:
    """One map of a pyramid.

    Attributes:
        stride: pixels of the image to one of the map.
        name: the part of the network that gives it.
        channels: C of the map.
        layout: how the part gives it: channels "first" (N, C, h, w), channels "last" (N, h, w, C), or "tokens"
            (N, L, C), which may have others before those of the grid.
    """

    stride: int
    name: str
    channels: int
    layout: Layout


def levels_of(parts: Sequence[Stage], size: tuple[int, int]) -> tuple[Level, ...]:
    """The last map at each stride from 2 to 32, finest first.

    A widening 1x1 convolution at the network's end (EfficientNet's 320 -> 1280 channels) belongs to its classifier and
    is left out, as timm does.

    Args:
        parts: as `BackboneCard.stages`.
        size: height and width of the image that their shapes are of.
    """
    found: dict[int, list[tuple[Stage, Level]]] = {}
    for part in parts:
        level = _level(part, size)
        if level is not None and 1 < level.stride <= _LARGEST_STRIDE:
            found.setdefault(level.stride, []).append((part, level))
    return tuple(_without_projection(found[stride]) for stride in sorted(found))


def available_strides(card: BackboneCard) -> dict[int, tuple[str, int]]:
    """Stride -> name of the part that gives the map and its channels, finest first; without torch's network."""
    return {level.stride: (level.name, level.channels) for level in levels_of(card.stages, card.preprocessing.size)}


def _level(part: Stage, size: tuple[int, int]) -> Level | None:
    """What a part gives, if that is a map of the image."""
    shape = part.shape
    if part.kind.startswith("Adaptive"):  # a fixed grid whatever the image's size
        return None
    if len(shape) == _MAP_AXES:
        for even in (True, False):  # an exact stride first: channels may come near one by chance
            if stride := _stride((shape[1], shape[2]), size, even=even):
                return Level(stride, part.name, shape[0], "first")
            if stride := _stride((shape[0], shape[1]), size, even=even):
                return Level(stride, part.name, shape[2], "last")
    if len(shape) == _TOKEN_AXES:
        for stride in range(2, _LARGEST_STRIDE + 1):
            others = shape[0] - (size[0] // stride) * (size[1] // stride)
            if size[0] % stride == size[1] % stride == 0 and 0 <= others <= _MOST_PREFIX_TOKENS:
                return Level(stride, part.name, shape[1], "tokens")
    return None


def _stride(grid: tuple[int, int], size: tuple[int, int], *, even: bool) -> int:
    """Pixels of the image to one of a grid: exactly, or the nearest power of two; 0 if it is none."""
    ratios = [side / cells for side, cells in zip(size, grid, strict=True)]
    if even:
        return int(ratios[0]) if ratios[0] == ratios[1] and ratios[0].is_integer() else 0
    power = round(math.log2(ratios[0]))
    near = all(abs(math.log2(ratio) - power) <= _UNEVEN for ratio in ratios)
    return int(2**power) if near and power > 0 else 0


def _without_projection(same: list[tuple[Stage, Level]]) -> Level:
    """The last of the parts of one stride that is not a widening 1x1 convolution or what follows one."""
    end = len(same) - 1
    while end > 0 and same[end][0].parameters <= 4 * same[end][1].channels:  # a norm, an activation
        end -= 1
    before, last = same[max(end - 1, 0)][1].channels, same[end][1].channels
    surplus = same[end][0].parameters - before * last
    if end > 0 and last > before and surplus in {times * last for times in range(4)}:  # no bias, one, or a norm
        return same[end - 1][1]
    return same[-1][1]
